from __future__ import annotations

import pytest
import torch

from seqkit.generation.search import _top_candidates
from seqkit.generation.search._top_candidates import top_candidates


@pytest.fixture
def _always_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_top_candidates, "_SORTED_AT_ONCE", 0)


@pytest.mark.parametrize("at_once", [0, 1 << 30])
@pytest.mark.parametrize("vocabulary", [1024, 1030, 2047, 5000])
@pytest.mark.parametrize("hypotheses", [1, 5])
def test_every_way_gives_the_same_as_sorting_everything(
    vocabulary: int, hypotheses: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_top_candidates, "_SORTED_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(vocabulary)
    log_probs = torch.randn(3, hypotheses, vocabulary, generator=generator)
    log_probs[:, :, 7] = float("-inf")
    scores = torch.randn(3, hypotheses, generator=generator)
    scores[1, 0] = float("-inf") if hypotheses > 1 else 0.0
    found = top_candidates(log_probs, scores, 10)
    totals = (log_probs + scores[..., None]).view(3, -1)
    expected, flat = totals.sort(dim=1, descending=True)
    assert torch.equal(found.scores, expected[:, :10])
    assert torch.equal(found.beams * vocabulary + found.tokens, flat[:, :10])


@pytest.mark.usefixtures("_always_by_groups")
def test_the_quick_way_finds_the_words_behind_the_last_whole_group() -> None:
    log_probs = torch.full((1, 1, 1030), -5.0)
    log_probs[0, 0, 1024:1030] = torch.arange(6.0)
    assert top_candidates(log_probs, torch.zeros(1, 1), 6).tokens.tolist() == [[1029, 1028, 1027, 1026, 1025, 1024]]


@pytest.mark.usefixtures("_always_by_groups")
def test_only_one_continuation_is_possible() -> None:
    log_probs = torch.full((2, 3, 2048), float("-inf"))
    log_probs[:, 1, 2047] = -1.0
    found = top_candidates(log_probs, torch.zeros(2, 3), 6)
    assert found.tokens[:, 0].tolist() == [2047, 2047]
    assert found.beams[:, 0].tolist() == [1, 1]
    assert found.scores[:, 0].tolist() == [-1.0, -1.0]
    assert found.scores[:, 1:].isinf().all()


def test_fewer_continuations_than_asked_for_are_filled_up() -> None:
    found = top_candidates(torch.tensor([[[-1.0, -2.0, -0.5]]]), torch.zeros(1, 1), 5)
    assert found.tokens[0, :3].tolist() == [2, 0, 1]
    assert found.scores[0].tolist() == [-0.5, -1.0, -2.0, float("-inf"), float("-inf")]


@pytest.mark.usefixtures("_always_by_groups")
@pytest.mark.parametrize("count", [1, 2])
def test_the_best_of_one_hypothesis(count: int) -> None:
    log_probs = torch.randn(3, 1, 1030)
    scores = torch.tensor([[0.5], [-1.0], [0.0]])
    found = top_candidates(log_probs, scores, count)
    expected = (log_probs[:, 0] + scores).sort(dim=1, descending=True)
    assert torch.equal(found.scores, expected.values[:, :count])
    assert torch.equal(found.tokens, expected.indices[:, :count])
    assert not found.beams.any()
