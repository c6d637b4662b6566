"""Lexically constrained search: outputs hold what they must."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from seqkit.models.transformer import TransformerModel
from tests.unit.generation.tiny import log_probs_of, random_sources, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary(12)
SOURCES = random_sources(8, DICTIONARY)
CONSTRAINTS = [[[7]], [], [[8, 9], [5]], [[10], [11], [12]], [[6, 6]], [[5], [5, 7]], [], [[9], [4]]]


@pytest.fixture(scope="module")
def model() -> TransformerModel:
    return tiny_model(DICTIONARY)


def contains(words: list[int], phrase: list[int]) -> bool:
    return any(words[start : start + len(phrase)] == phrase for start in range(len(words)))


@pytest.mark.parametrize("order", ["ordered", "unordered"])
def test_outputs_contain_their_constraints_and_scores_stay_the_models(model: TransformerModel, order: str) -> None:
    settings: dict[str, Any] = {"beam": 6, "max_len_b": 12, "constraints": order}
    found = search(model, SOURCES, DICTIONARY, constrained=CONSTRAINTS, **settings)
    for source, phrases, hypotheses in zip(SOURCES, CONSTRAINTS, found, strict=True):
        assert hypotheses
        for hypothesis in hypotheses:
            words = hypothesis.tokens.tolist()
            assert all(contains(words, phrase) for phrase in phrases), f"{phrases} in {words}"
            expected = log_probs_of(model, source, words, DICTIONARY)
            torch.testing.assert_close(hypothesis.positional_scores, expected, atol=1e-5, rtol=0)


def test_the_order_is_kept(model: TransformerModel) -> None:
    constrained = [[[7], [9], [5]]] * len(SOURCES)
    found = search(model, SOURCES, DICTIONARY, constrained=constrained, beam=6, max_len_b=14, constraints="ordered")
    for hypotheses in found:
        for hypothesis in hypotheses:
            words = iter(hypothesis.tokens.tolist())
            assert all(word in words for word in (7, 9, 5))


def test_without_constraints_it_is_beam_search(model: TransformerModel) -> None:
    plain = search(model, SOURCES, DICTIONARY, beam=4, max_len_b=8)
    none: list[list[list[int]]] = [[] for _ in SOURCES]
    for given in (none, None):
        found = search(model, SOURCES, DICTIONARY, constrained=given, beam=4, max_len_b=8, constraints="ordered")
        for ours, theirs in zip(found, plain, strict=True):
            assert [h.tokens.tolist() for h in ours] == [h.tokens.tolist() for h in theirs]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_batch_changes_nothing(model: TransformerModel, batch_size: int) -> None:
    settings: dict[str, Any] = {"beam": 5, "max_len_b": 12, "constraints": "unordered"}
    together = search(model, SOURCES, DICTIONARY, constrained=CONSTRAINTS, **settings)
    for start in range(0, len(SOURCES), batch_size):
        part = slice(start, start + batch_size)
        apart = search(model, SOURCES[part], DICTIONARY, constrained=CONSTRAINTS[part], **settings)
        for ours, theirs in zip(apart, together[part], strict=True):
            assert [h.tokens.tolist() for h in ours] == [h.tokens.tolist() for h in theirs]


def test_what_does_not_fit_gives_nothing_and_stops_no_other(model: TransformerModel) -> None:
    constrained = [[[5, 6, 7, 8]], [[5]]]
    found = search(model, SOURCES[:2], DICTIONARY, constrained=constrained, beam=4, max_len_b=3, constraints="ordered")
    assert found[0] == []
    assert all(contains(hypothesis.tokens.tolist(), [5]) for hypothesis in found[1])
    assert found[1]
