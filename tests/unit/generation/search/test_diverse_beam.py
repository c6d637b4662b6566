"""Diverse beam search against a search by hand."""

from __future__ import annotations

import torch

from seqkit.generation.search.base import Candidates
from seqkit.generation.search.diverse_beam import DiverseBeamSearch
from tests.unit.generation.tiny import random_sources, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary(12)
END = 2


def started(beam: int, groups: int, strength: float, sentences: int = 1) -> DiverseBeamSearch:
    strategy = DiverseBeamSearch(beam, groups, strength)
    strategy.start({"net_input": {"src_lengths": torch.ones(sentences)}})
    return strategy


def test_a_word_costs_more_for_groups_that_come_later() -> None:
    strategy = started(3, 3, 0.5)
    log_probs = torch.tensor([[[-9.0, -9.0, -9.0, -1.0, -1.4, -1.6]]])
    first = strategy.step(0, log_probs, torch.zeros(1, 1), END)
    # word 3 costs 0.5 from the second group on, word 4 in the third
    assert first.tokens.tolist() == [[3, 4, 3]]
    torch.testing.assert_close(first.scores, torch.tensor([[-1.0, -1.4, -1.5]]))


def test_groups_that_chose_the_same_words_are_driven_apart_the_harder() -> None:
    strategy = started(2, 2, 0.5)
    same = torch.tensor([[[-9.0, -9.0, -9.0, -1.0, -2.2]]])
    first = strategy.step(0, same, torch.zeros(1, 1), END)
    assert first.tokens.tolist() == [[3, 3]]
    torch.testing.assert_close(first.scores, torch.tensor([[-1.0, -1.5]]))
    second = strategy.step(1, same.expand(1, 2, -1).clone(), first.scores, END)
    # they have one word in common, so word 3 costs 0.5 * (1 + 1): -1 - 1 is still above -2.2
    assert second.tokens.tolist() == [[3, 3]]
    torch.testing.assert_close(second.scores, torch.tensor([[-2.0, -3.5]]))
    third = strategy.step(2, same.expand(1, 2, -1).clone(), second.scores, END)
    assert third.tokens.tolist() == [[3, 4]]


def test_empty_places_cost_others_nothing() -> None:
    strategy = started(2, 2, 5.0)
    scores = torch.tensor([[-torch.inf, -1.0]])
    found = strategy.step(1, torch.tensor([[[-1.0, -2.0, -9.0], [-1.0, -2.0, -9.0]]]), scores, END)
    assert found.tokens[0, 1] == 0


def test_no_strength_makes_groups_equal_and_strength_makes_them_differ() -> None:
    model = tiny_model(DICTIONARY)
    sources = random_sources(6, DICTIONARY)

    def texts(strength: float, **options: int) -> list[set[tuple[int, ...]]]:
        found = search(
            model,
            sources,
            DICTIONARY,
            beam=4,
            max_len_b=8,
            diverse_beam_groups=4,
            diverse_beam_strength=strength,
            **options,
        )
        assert all(len(hypotheses) == 4 for hypotheses in found)
        return [{tuple(hypothesis.tokens.tolist()) for hypothesis in hypotheses} for hypotheses in found]

    assert all(len(own) == 1 for own in texts(0.0))
    assert sum(len(own) for own in texts(2.0)) > sum(len(own) for own in texts(0.2)) > len(sources)


def test_every_hypothesis_ends_once() -> None:
    model = tiny_model(DICTIONARY)
    for hypotheses in search(
        model, random_sources(9, DICTIONARY), DICTIONARY, beam=6, max_len_b=9, diverse_beam_groups=2
    ):
        for hypothesis in hypotheses:
            assert hypothesis.tokens.tolist().index(DICTIONARY.eos()) == hypothesis.tokens.numel() - 1


def test_what_has_ended_is_not_replaced_and_all_others_stay_in_their_groups() -> None:
    strategy = started(4, 2, 0.0)
    scores = torch.tensor([[-1.0, -2.0, -3.0, -4.0]])
    beams = torch.tensor([[0, 1, 2, 3]])
    parted = strategy.part(Candidates(scores, torch.tensor([[END, 5, 6, 7]]), beams), END)
    assert parted.ended.tolist() == [[True, False, False, False]]
    assert parted.chosen.tolist() == [[0, 1, 2, 3]]
    log_probs = torch.tensor([-9.0, -9.0, -9.0, -1.0, -1.5]).repeat(1, 4, 1)
    found = strategy.step(2, log_probs, parted.going_on.scores, END)
    # the first group has one hypothesis left, the one in place 2; the second has two
    assert found.beams[0, 0] == 2
    assert found.scores.tolist() == [[-4.0, -3.0, -torch.inf, -3.5]]
    assert strategy._overlap_BGG[0, 1, 0] == 1


def test_a_batch_changes_nothing() -> None:
    model = tiny_model(DICTIONARY)
    sources = random_sources(9, DICTIONARY)
    settings = {"beam": 4, "max_len_b": 9, "diverse_beam_groups": 2}
    together = search(model, sources, DICTIONARY, **settings)
    for source, expected in zip(sources, together, strict=True):
        (alone,) = search(model, [source], DICTIONARY, **settings)
        assert [h.tokens.tolist() for h in alone] == [h.tokens.tolist() for h in expected]


def test_fairseqs_bookkeeping_counts_places_not_hypotheses() -> None:
    strategy = DiverseBeamSearch(2, 1, 0.0, reopen_ended=True)
    strategy.start({"net_input": {"src_lengths": torch.ones(1)}})
    scores = torch.tensor([[-1.0, -2.0]])
    beams = torch.tensor([[0, 1]])
    parted = strategy.part(Candidates(scores, torch.tensor([[END, 5]]), beams), END)
    assert parted.ended.tolist() == [[True, False]]
    assert parted.chosen.tolist() == [[1, 0]]
    assert parted.going_on.scores.tolist() == [[-2.0, -1.0]]
    # the first place now holds what ended; a second end there counts as one of the other hypothesis
    again = strategy.part(Candidates(scores, torch.tensor([[END, END]]), beams), END)
    assert again.ended.tolist() == [[True, False]]
