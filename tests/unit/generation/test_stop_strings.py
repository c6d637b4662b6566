"""Outputs end at a string, wherever tokens part it; what they had to begin with does not count."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqkit.checkpoint.io import write_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.sections import GenerationConfig
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.generation.build import build_generator
from seqkit.generation.stop_strings import cut_at_stop, stop_strings_of
from seqkit.hub import Hub, from_pretrained
from tests.unit.generation.tiny import tiny_dictionary, tiny_model
from tests.unit.models.language_models import language_model

OPTIONS = {"decoder_embed_dim": 8, "decoder_layers": 1, "decoder_attention_heads": 2, "init_std": 1.0}


class Letters:
    def __init__(self) -> None:
        self.source_dictionary = self.target_dictionary = Dictionary()
        for letter in "abcdefg":
            self.target_dictionary.add_symbol(letter)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    """A language model of letters, each of which is a token."""
    folder = tmp_path_factory.mktemp("letters")
    model = language_model("decoder_lm", Letters(), **OPTIONS)
    config = {"task": {"_name": "language_modeling", "data": str(folder)}, "model": {"_name": "decoder_lm", **OPTIONS}}
    write_checkpoint(folder / "checkpoint_best.pt", CheckpointState(config=config, model=model.state_dict()))
    Letters().target_dictionary.save(folder / "dict.txt")
    return from_pretrained(folder, cpu=True, bpe="characters", max_len_b=40, min_len=40)


def test_a_text_is_cut_at_the_first_string() -> None:
    assert cut_at_stop("abcab", ["ca", "b"]) == "a"
    assert cut_at_stop("abcab", ["ca", "b"], 2) == "ab"
    assert cut_at_stop("abcab", ["x"]) == "abcab"


def test_line_ends_can_be_written_out() -> None:
    assert stop_strings_of(GenerationConfig(stop_strings=["\\n\\n", "a\\tb", "\n"])) == ["\n\n", "a\tb", "\n"]
    assert stop_strings_of(GenerationConfig()) == []


@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 3, "nbest": 3}, {"sampling": True, "beam": 2, "nbest": 2}])
def test_outputs_end_where_the_string_is(hub: Hub, options: dict[str, Any]) -> None:
    prompts = ["ab", "c", "gfe"]
    whole = hub.answer(prompts, **options)
    # two letters that the first output has behind its prompt
    stop = whole[0].hypotheses[0].text[7:9]
    for prompt, result in zip(prompts, hub.answer(prompts, stop_strings=[stop], **options), strict=True):
        assert result.hypotheses
        for hypothesis in result.hypotheses:
            written = "".join(hypothesis.tokens[:-1]).replace("<s>", "")
            if written.find(stop, len(prompt)) >= 0:
                assert written.find(stop, len(prompt)) == len(written) - len(stop), "it ends there"
                assert hypothesis.text == written[: -len(stop)]
                assert hypothesis.token_scores[-1] == 0
            else:
                assert hypothesis.text == written
    assert hub.sample(prompts[0], stop_strings=[stop], beam=1) == hub.sample(prompts[0], beam=1).split(stop)[0]


def test_the_prompt_does_not_count(hub: Hub) -> None:
    whole = hub.sample("abcd")
    assert hub.sample("abcd", stop_strings=["bc"]) == whole[: whole.find("bc", 4) if "bc" in whole[4:] else None]
    assert hub.sample(["abcd", "ab"], stop_strings=["bc"])[0].startswith("abcd")
    tokens = hub.encode("abcd")
    assert hub.generate(tokens, stop_strings=["zz"], beam=1)[0].given == 4


def test_no_other_sentence_is_changed(hub: Hub) -> None:
    together = hub.sample(["ab", "ba", "gg"], stop_strings=["a"])
    assert together == [hub.sample(text, stop_strings=["a"]) for text in ("ab", "ba", "gg")]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"stop_strings": ["a", ""]}, "every text has the empty string"),
        ({"stop_strings": ["a"], "constraints": "ordered"}, "stop_strings cannot be used with generation.constraints"),
        ({"stop_strings": ["a"], "match_source_len": True}, "cannot be used with generation.match_source_len"),
        ({"stop_strings": ["a"], "score_reference": True}, "cannot be used with generation.score_reference"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], problem: str) -> None:
    dictionary = tiny_dictionary()
    with pytest.raises(ConfigError, match=problem):
        build_generator([tiny_model(dictionary)], dictionary, GenerationConfig(**options), text_of=dictionary.string)


def test_text_is_needed() -> None:
    dictionary = tiny_dictionary()
    with pytest.raises(ConfigError, match="is for seqkit-generate, seqkit-interactive and the hub"):
        build_generator([tiny_model(dictionary)], dictionary, GenerationConfig(stop_strings=["a"]))


def test_an_encoder_decoder_model_stops_too() -> None:
    dictionary = tiny_dictionary()
    model = tiny_model(dictionary)
    config = GenerationConfig(beam=2, max_len_b=9, min_len=9)
    source = {"src_tokens": torch.tensor([[4, 5, 2]]), "src_lengths": torch.tensor([3])}
    free = build_generator([model], dictionary, config).generate({"net_input": source})[0][0]
    word = dictionary[int(free.tokens[3])]
    config.stop_strings = [word]
    (stopped, *_) = build_generator([model], dictionary, config, text_of=dictionary.string).generate(
        {"net_input": source}
    )[0]
    words = dictionary.string(stopped.tokens).split()
    assert words.index(word) == len(words) - 1
