"""Greedy search against beam search with one hypothesis."""

from __future__ import annotations

import torch

from seqkit.generation.ensemble import Ensemble
from seqkit.generation.search.base import SearchStrategy
from seqkit.generation.search.beam import BeamSearch
from seqkit.generation.search.greedy import GreedySearch
from seqkit.generation.sequence_generator import LengthRule, SequenceGenerator
from seqkit.generation.step_processors import BannedSymbols, LengthBounds
from tests.unit.generation.tiny import batch_of, random_sources, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary(30)


def test_greedy_search_is_beam_search_with_one_hypothesis() -> None:
    model = tiny_model(DICTIONARY)
    batch = batch_of(random_sources(12, DICTIONARY), DICTIONARY)

    def generator(search: SearchStrategy) -> SequenceGenerator:
        return SequenceGenerator(
            Ensemble([model]),
            DICTIONARY,
            search=search,
            processors=[BannedSymbols([DICTIONARY.pad()]), LengthBounds(2)],
            lengths=LengthRule(max_len_b=9),
        )

    for (one,), (other,) in zip(
        generator(GreedySearch()).generate(batch), generator(BeamSearch(1)).generate(batch), strict=True
    ):
        assert one.tokens.tolist() == other.tokens.tolist()
        torch.testing.assert_close(one.positional_scores, other.positional_scores)
