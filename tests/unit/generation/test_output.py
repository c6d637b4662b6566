from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from seqkit.config.sections import CommonEvalConfig, GenerationConfig
from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.base import TextEncoder
from seqkit.generation.hypothesis import Hypothesis
from seqkit.generation.output import HypothesisFormatter, SentenceResult, json_line, text_lines

SOURCE_WORDS = ("ein", "klei@@", "ner", "hund")
TARGET_WORDS = ("a", "lit@@", "tle", "dog")


def dictionary(words: tuple[str, ...]) -> Dictionary:
    made = Dictionary()
    for word in words:
        made.add_symbol(word)
    return made


SOURCE, TARGET = dictionary(SOURCE_WORDS), dictionary(TARGET_WORDS)


def ids(text: str, of: Dictionary) -> torch.Tensor:
    return of.encode_line(text, add_if_not_exist=False).long()


def hypothesis(text: str, **more: Any) -> Hypothesis:
    tokens = ids(text, TARGET)
    positional = -torch.arange(1, tokens.numel() + 1).float() * math.log(2)
    return Hypothesis(tokens, -1.5 * math.log(2), positional, **more)


def formatter(
    post_process: str | None = None, bpe: TextEncoder | None = None, **generation: Any
) -> HypothesisFormatter:
    return HypothesisFormatter(
        SOURCE, TARGET, GenerationConfig(**generation), CommonEvalConfig(post_process=post_process), bpe=bpe
    )


def test_lines_are_those_of_fairseq() -> None:
    source = torch.cat([torch.tensor([SOURCE.pad()]), ids("ein klei@@ ner hund", SOURCE)])
    target = torch.cat([ids("a lit@@ tle cat", TARGET), torch.tensor([TARGET.pad()])])
    result = formatter().sentence(7, source, target, [hypothesis("a dog"), hypothesis("dog")])
    assert text_lines(result) == [
        "S-7\tein klei@@ ner hund",
        "T-7\ta lit@@ tle <<unk>>",
        "H-7\t-1.5\ta dog",
        "D-7\t-1.5\ta dog",
        "P-7\t-1.0000 -2.0000 -3.0000",
    ]
    assert text_lines(result, with_time=True)[1] == "W-7\t0.000\tseconds"


def test_subwords_are_undone_everywhere_and_nbest_hypotheses_shown() -> None:
    result = formatter("subword_nmt", nbest=2).sentence(
        0,
        ids("ein klei@@ ner hund", SOURCE),
        ids("a lit@@ tle dog", TARGET),
        [hypothesis("a lit@@ tle dog"), hypothesis("dog"), hypothesis("a")],
    )
    assert [line.split("\t")[-1] for line in text_lines(result) if line[0] in "STHD"] == [
        "ein kleiner hund",
        "a little dog",
        "a little dog",
        "a little dog",
        "dog",
        "dog",
    ]


class Shouting(TextEncoder):
    def encode(self, text: str) -> str:
        return text.lower()

    def decode(self, tokens: str) -> str:
        return tokens.upper()


def test_encoders_decode_source_target_and_the_d_line() -> None:
    result = formatter(bpe=Shouting(None)).sentence(0, ids("ein", SOURCE), ids("a cat", TARGET), [hypothesis("a dog")])
    assert [line for line in text_lines(result) if line[0] in "STHD"] == [
        "S-0\tEIN",
        "T-0\tA <<UNK>>",
        "H-0\t-1.5\ta dog",
        "D-0\t-1.5\tA DOG",
    ]
    assert result.target_pieces == "a <<unk>>"


def test_alignments() -> None:
    attention = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5]])
    source, found = ids("ein hund", SOURCE), [hypothesis("a dog", attention=attention)]
    assert text_lines(formatter(print_alignment="hard").sentence(0, source, None, found))[-1] == "A-0\t0-0 1-1"
    soft = text_lines(formatter(print_alignment="soft").sentence(0, source, None, found))[-1]
    assert soft == ("A-0\t0.700000,0.200000,0.100000 0.100000,0.600000,0.300000 0.200000,0.300000,0.500000")


def test_unknown_words_are_replaced_from_the_original_text_before_subwords_are_undone() -> None:
    attention = torch.tensor([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]])
    found = [hypothesis("lit@@ tle cat", attention=attention)]
    result = formatter("subword_nmt", replace_unk="").sentence(
        0, ids("ein kater hund", SOURCE), None, found, source_text="ein kater hund"
    )
    assert result.source == "ein kater hund"
    assert result.hypotheses[0].text == "little kater"


def test_json_says_the_same() -> None:
    result = formatter().sentence(3, ids("ein hund", SOURCE), ids("a dog", TARGET), [hypothesis("a dog")])
    content = json.loads(json_line(result))
    assert content == {
        "id": 3,
        "source": "ein hund",
        "target": "a dog",
        "hypotheses": [
            {
                "text": "a dog",
                "tokens": ["a", "dog", "</s>"],
                "score": -1.5,
                "token_scores": [-1.0, -2.0, -3.0],
                "alignment": None,
            }
        ],
    }


def test_a_text_of_several_lines_is_one_line() -> None:
    shown = formatter().sentence(3, None, None, [hypothesis("a dog")]).hypotheses
    shown[0].text = "a\ndog\n"
    result = SentenceResult(3, "ein\nhund", "a\ncat", shown)
    assert text_lines(result)[:4] == ["S-3\tein\\nhund", "T-3\ta\\ncat", "H-3\t-1.5\ta dog", "D-3\t-1.5\ta\\ndog\\n"]
    content = json.loads(json_line(result))
    assert (content["source"], content["hypotheses"][0]["text"]) == ("ein\nhund", "a\ndog\n")


def test_a_text_is_shown_up_to_a_stop_string() -> None:
    words = hypothesis("dog a lit@@ tle dog a", given=2)
    (shown,) = formatter("subword_nmt", stop_strings=["le d", "dog a"]).sentence(3, None, None, [words]).hypotheses
    assert (shown.text, shown.pieces) == ("dog a litt", "dog a little dog a")
    assert shown.tokens[-2:] == ["a", "</s>"]
    assert len(shown.token_scores) == 7


def test_json_has_no_infinities_and_tells_errors() -> None:
    worthless = Hypothesis(ids("a", TARGET), -math.inf, torch.tensor([-1.0, -math.inf]))
    content = json.loads(json_line(formatter().sentence(0, ids("ein", SOURCE), None, [worthless])))
    assert content["hypotheses"][0]["score"] is None
    assert content["hypotheses"][0]["token_scores"][1] is None
    failed = SentenceResult(4, "ein", None, [], error="too long")
    assert json.loads(json_line(failed))["error"] == "too long"
    assert text_lines(failed) == ["S-4\tein"]


@pytest.mark.parametrize("score", [-0.8820388317108154, -1.0])
def test_scores_are_shown_as_fairseq_shows_single_precision_numbers(score: float) -> None:
    single = float(torch.tensor(score * math.log(2), dtype=torch.float32))
    shown = formatter().sentence(0, None, None, [Hypothesis(ids("a", TARGET), single, torch.tensor([score]))])
    assert text_lines(shown)[0].split("\t")[1] == str(float(torch.tensor(single) / math.log(2)))


def test_constraints_refinements_and_stages_have_lines_of_their_own() -> None:
    shown = formatter(print_step=True, retain_iter_history=True)
    stages = [ids("a dog", TARGET), ids("dog", TARGET)]
    result = shown.sentence(3, ids("ein hund", SOURCE), None, [hypothesis("dog", steps=1, history=stages)])
    result.constraints = ["dog", "lit@@ tle"]
    assert text_lines(result, with_time=True) == [
        "S-3\tein hund",
        "W-3\t0.000\tseconds",
        "C-3\tdog",
        "C-3\tlit@@ tle",
        "H-3\t-1.5\tdog",
        "D-3\t-1.5\tdog",
        "P-3\t-1.0000 -2.0000",
        "I-3\t1",
        "E-3_0\ta dog",
        "E-3_1\tdog",
    ]
    content = json.loads(json_line(result))
    assert content["constraints"] == ["dog", "lit@@ tle"]
    assert content["hypotheses"][0]["steps"] == 1
    assert content["hypotheses"][0]["history"] == ["a dog", "dog"]


def test_refinements_are_shown_only_when_asked_for() -> None:
    result = formatter().sentence(3, ids("ein hund", SOURCE), None, [hypothesis("dog", steps=1)])
    assert not [line for line in text_lines(result) if line.startswith("I-")]
    content = json.loads(json_line(result))
    assert list(content) == ["id", "source", "target", "hypotheses"]
    assert list(content["hypotheses"][0]) == ["text", "tokens", "score", "token_scores", "alignment"]
