from __future__ import annotations

from typing import Any

import pytest

from seqkit.config.sections import GenerationConfig
from seqkit.errors import ConfigError
from seqkit.generation.build import build_generator
from seqkit.generation.sequence_scorer import SequenceScorer
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
        ({"score_reference": True, "sampling": True}, "sampling has no meaning with generation.score_reference"),
        ({"beam": 5, "diverse_beam_groups": 2}, "cannot be shared out to generation.diverse_beam_groups=2 groups"),
        (
            {"sampling": True, "diversity_rate": 0.5},
            "generation.sampling, generation.diversity_rate exclude each other",
        ),
        ({"constraints": "ordered", "sampling": True}, "sampling, generation.constraints exclude each other"),
        ({"sampling_topk": 5}, "sampling_topk=5 needs generation.sampling=true"),
        ({"sampling_topp": 0.5}, r"sampling_topp=0\.5 needs generation.sampling=true"),
        ({"sampling": True, "sampling_topk": 5, "sampling_topp": 0.5}, "two ways to choose what is drawn from"),
        ({"constraints": "ordered", "match_source_len": True}, "leaves no room for generation.constraints"),
        ({"lm_weight": 0.3}, r"lm_weight=0\.3 needs a language model"),
        ({"lm_path": "lm.pt"}, "lm_path=lm.pt: no language model is fused here"),
        ({"retain_dropout_modules": ["X"]}, "retain_dropout_modules needs generation.retain_dropout=true"),
        ({"retain_dropout": True, "retain_dropout_modules": ["X"]}, "no module of class X has dropout; there are: .+"),
        ({"print_step": True}, "print_step=true is for models that refine whole outputs"),
        ({"retain_iter_history": True}, "retain_iter_history=true is for models that refine whole outputs"),
    ],
)
def test_what_cannot_go_together_is_refused_with_the_reason(options: dict[str, Any], reason: str) -> None:
    assert refusal(**options).problems != []
    with pytest.raises(ConfigError, match=reason):
        build_generator([tiny_model(DICTIONARY)], DICTIONARY, GenerationConfig(**options))


def test_all_problems_are_told_at_once() -> None:
    problems = refusal(nbest=9, temperature=-1.0, decoding_format="vote").problems
    assert len(problems) == 3
    assert problems[-1].startswith("generation.decoding_format=vote is for models that refine whole outputs")


def test_a_fixed_bound_on_length_is_no_problem_where_sentences_have_their_own() -> None:
    config = GenerationConfig(min_len=30, max_len_a=2.0, max_len_b=20)
    build_generator([tiny_model(DICTIONARY)], DICTIONARY, config)


def test_a_bound_on_length_is_no_problem_where_outputs_are_given() -> None:
    config = GenerationConfig(min_len=30, max_len_b=20, score_reference=True)
    build_generator([tiny_model(DICTIONARY)], DICTIONARY, config)


def test_given_targets_are_scored_by_the_probabilities_as_they_are() -> None:
    scorer = build_generator(
        [tiny_model(DICTIONARY)], DICTIONARY, GenerationConfig(score_reference=True, temperature=2.0)
    )
    assert isinstance(scorer, SequenceScorer)
    assert scorer.ensemble.temperature == 1.0
