"""sacrebleu, chrf, ter and wer, and the two that need an extra."""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Sequence
from typing import Any

import pytest

from seqkit.errors import DataError, MissingExtraError
from seqkit.registry import registry
from seqkit.scoring._edit_distance import edit_distance
from seqkit.scoring._tokenize import SentenceTokenizer
from seqkit.scoring.base import Scorer

PAIRS = [
    ("The cat sat on the mat.", "The cat sat on a mat."),
    ("Well, it rains!", "well it rains"),
    ("one two three four five", "one two three four five"),
]


def scorer(name: str, pairs: Sequence[tuple[str, str]] = PAIRS, **settings: Any) -> Scorer:
    component = registry("scoring").get(name)
    made: Scorer = component.cls(component.config(_name=name, **settings))
    for reference, hypothesis in pairs:
        made.add(reference, hypothesis)
    return made


def test_sacrebleu_equals_the_library() -> None:
    from sacrebleu.metrics.bleu import BLEU

    references, hypotheses = ([pair[side] for pair in PAIRS] for side in (0, 1))
    expected = BLEU(tokenize="13a", lowercase=True).corpus_score(hypotheses, [references])
    made = scorer("sacrebleu", sacrebleu_lowercase=True)
    assert made.score() == pytest.approx(expected.score)
    assert made.result_string() == expected.format()
    made.reset()
    with pytest.raises(DataError, match="scoring=sacrebleu: there are no sentences to score"):
        made.score()


def test_sacrebleu_of_characters() -> None:
    assert scorer("sacrebleu", [("abcd ef", "abcd ef")], sacrebleu_char_level=True).score() == pytest.approx(100)
    one_wrong = [("abcdefgh", "abcdefgx")]
    assert scorer("sacrebleu", one_wrong, sacrebleu_char_level=True).score() > scorer("sacrebleu", one_wrong).score()


def test_single_sentences_leave_the_corpus_alone() -> None:
    made = scorer("sacrebleu")
    before = made.result_string()
    assert made.score_sentence("a b", "a b")[0] == pytest.approx(100)
    assert made.result_string() == before
    score, text = scorer("chrf").score_sentence("a cat", "a cat")
    assert score == pytest.approx(100)
    assert text == "chrF2 = 100.00"
    assert scorer("wer").score_sentence("a b c d", "a x c") == (50.0, "WER: 50.00")


def test_chrf_and_chrf_plus_plus() -> None:
    assert scorer("chrf").result_string().startswith("chrF2 = ")
    assert scorer("chrf", chrf_word_order=2).result_string().startswith("chrF2++ = ")
    assert scorer("chrf", [("ABC", "abc")], chrf_lowercase=True).score() == pytest.approx(100)


def test_ter() -> None:
    shifted = [("a b c d", "c d a b")]
    assert scorer("ter", shifted).score() == pytest.approx(25)  # one shift for four words
    assert scorer("ter", [("A b", "a b")]).score() == 0
    assert scorer("ter", [("A b", "a b")], ter_case_sensitive=True).result_string() == "TER = 50.00"


def test_wer() -> None:
    made = scorer("wer", [("a b c d", "a x c"), ("one two", "one two")])
    assert made.score() == pytest.approx(100 * 2 / 6)
    assert made.result_string() == "WER: 33.33"
    made.reset()
    assert made.score() == 0.0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 100 * 2 / 3),
        ({"wer_lowercase": True}, 100 / 3),
        ({"wer_lowercase": True, "wer_tokenizer": "13a", "wer_remove_punct": True}, 0.0),
        ({"wer_char_level": True, "wer_lowercase": True}, 100 / 15),
    ],
)
def test_wer_options(settings: dict[str, Any], expected: float) -> None:
    pairs = [("Well, it Rains!", "well it rains!")]
    assert scorer("wer", pairs, **settings).score() == pytest.approx(expected)


def test_edit_distance_equals_the_table() -> None:
    def by_table(first: str, second: str) -> int:
        row = list(range(len(second) + 1))
        for number, left in enumerate(first, start=1):
            new = [number]
            for place, right in enumerate(second, start=1):
                new.append(min(new[-1] + 1, row[place] + 1, row[place - 1] + (left != right)))
            row = new
        return row[-1]

    generator = random.Random(1)
    for _ in range(500):
        first, second = ("".join(generator.choices("abcd", k=generator.randint(0, 90))) for _ in range(2))
        assert edit_distance(first, second) == by_table(first, second)


def test_a_tokenizer_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "MeCab", None)
    with pytest.raises(DataError, match="sacrebleu's tokenizer 'ja-mecab' cannot be used here"):
        SentenceTokenizer("ja-mecab")


@pytest.mark.parametrize(("name", "package"), [("meteor", "nltk"), ("bert_score", "bert_score")])
def test_a_missing_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"scoring={name} needs the package '{package}'"):
        scorer(name)


def test_meteor_is_the_mean_of_its_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_sentence(reference: list[str], hypothesis: list[str]) -> float:
        return float(reference == hypothesis)

    module = types.ModuleType("nltk.translate.meteor_score")
    monkeypatch.setattr(module, "single_meteor_score", of_sentence, raising=False)
    for name in ("nltk", "nltk.translate"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "nltk.translate.meteor_score", module)
    assert scorer("meteor").result_string() == "METEOR: 0.3333"


def test_bert_score_is_told_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    def score(hypotheses: list[str], references: list[str], lang: str) -> tuple[None, None, Any]:
        assert lang == "de"
        return None, None, np.array([float(a == b) for a, b in zip(hypotheses, references, strict=True)])

    package = types.ModuleType("bert_score")
    monkeypatch.setattr(package, "score", score, raising=False)
    monkeypatch.setitem(sys.modules, "bert_score", package)
    assert scorer("bert_score", bert_score_lang="de").result_string() == "BERTScore: 0.3333"
