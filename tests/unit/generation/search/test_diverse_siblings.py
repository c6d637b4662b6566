"""Diverse siblings: continuations of one hypothesis lose by their rank."""

from __future__ import annotations

import torch

from seqkit.generation.search.diverse_siblings import DiverseSiblingsSearch
from tests.unit.generation.tiny import random_sources, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary(12)


def test_the_loss_grows_with_the_rank_among_siblings() -> None:
    strategy = DiverseSiblingsSearch(2, rate=1.0)
    log_probs = torch.tensor([[[-1.0, -1.1, -1.2, -9.0, -9.0], [-9.0, -9.0, -9.0, -2.0, -2.1]]])
    found = strategy.step(1, log_probs, torch.zeros(1, 2), end=4)
    torch.testing.assert_close(found.scores, torch.tensor([[-2.0, -3.0, -3.1, -4.1]]))
    assert found.tokens.tolist() == [[0, 3, 1, 4]]
    assert found.beams.tolist() == [[0, 1, 0, 1]]


def test_the_first_step_is_that_of_beam_search() -> None:
    strategy = DiverseSiblingsSearch(1, rate=5.0)
    found = strategy.step(0, torch.tensor([[[-3.0, -1.0, -2.0]]]), torch.zeros(1, 1), end=2)
    assert found.scores.tolist() == [[-1.0, -2.0]]


def test_without_a_rate_it_is_beam_search_and_with_one_hypotheses_differ_more() -> None:
    model = tiny_model(DICTIONARY)
    sources = random_sources(8, DICTIONARY)
    plain = search(model, sources, DICTIONARY, beam=4, max_len_b=8)
    zero = search(model, sources, DICTIONARY, beam=4, max_len_b=8, diversity_rate=0.0)
    for ours, theirs in zip(zero, plain, strict=True):
        assert [h.tokens.tolist() for h in ours] == [h.tokens.tolist() for h in theirs]
    diverse = search(model, sources, DICTIONARY, beam=4, max_len_b=8, diversity_rate=3.0)
    first_words = [sum(len({int(h.tokens[0]) for h in own}) for own in found) for found in (plain, diverse)]
    assert first_words[1] > first_words[0]


def test_a_vocabulary_smaller_than_twice_the_beam_is_enough() -> None:
    strategy = DiverseSiblingsSearch(4, rate=0.5)
    found = strategy.step(1, torch.zeros(2, 1, 3), torch.zeros(2, 1), end=2)
    assert found.scores.shape == (2, 8)
    assert found.scores.isfinite().sum(dim=1).tolist() == [3, 3]
