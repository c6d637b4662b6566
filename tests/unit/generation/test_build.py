from __future__ import annotations

from typing import Any

import pytest

from seqkit.config.sections import GenerationConfig
from seqkit.errors import ConfigError
from seqkit.generation.build import build_generator
from tests.unit.generation.tiny import tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()


def refusal(**options: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build_generator([tiny_model(DICTIONARY)], DICTIONARY, GenerationConfig(**options))
    return caught.value


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"nbest": 6}, r"generation\.nbest=6 is more than generation\.beam=5"),
        ({"temperature": 0.0}, r"generation\.temperature=0\.0 must be above 0"),
        ({"min_len": 30, "max_len_b": 20}, r"min_len=30 is above the maximum length generation\.max_len_b=20"),
        ({"eos_token": "</nowhere>"}, "is not a symbol of the target dictionary"),
        ({"score_reference": True, "prefix_size": 1}, "prefix_size has no meaning with generation.score_reference"),
    ],
)
def test_what_cannot_go_together_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    assert refusal(**options).problems != []
    with pytest.raises(ConfigError, match=reason):
        build_generator([tiny_model(DICTIONARY)], DICTIONARY, GenerationConfig(**options))


def test_all_problems_are_told_at_once() -> None:
    problems = refusal(nbest=9, temperature=-1.0, decoding_format="vote").problems
    assert len(problems) == 3
    assert problems[-1] == "generation.decoding_format=vote is not there yet in this version of seqkit"


def test_a_fixed_bound_on_length_is_no_problem_where_sentences_have_their_own() -> None:
    config = GenerationConfig(min_len=30, max_len_a=2.0, max_len_b=20)
    build_generator([tiny_model(DICTIONARY)], DICTIONARY, config)
