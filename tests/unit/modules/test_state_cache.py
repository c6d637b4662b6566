"""States of a fixed size: rows follow their hypotheses, sentences their own."""

from __future__ import annotations

import pytest
import torch

from seqkit.modules.state_cache import StateCache


def test_rows_are_reordered_and_sentences_selected() -> None:
    cache = StateCache(6, 10, beam=2)
    cache.states["h"] = torch.arange(6).unsqueeze(1)
    cache.constants["w"] = torch.ones(3)
    cache.advance(6, 4)
    cache.reorder(torch.tensor([1, 1, 2, 3, 5, 4]))
    assert cache.states["h"].flatten().tolist() == [1, 1, 2, 3, 5, 4]
    cache.select_sentences(torch.tensor([2, 0]))
    assert cache.states["h"].flatten().tolist() == [5, 4, 1, 1]
    assert (cache.rows, cache.length) == (4, 4)
    assert cache.constants["w"].shape == (3,)


def test_what_belongs_to_the_source_is_selected_by_sentence_and_not_reordered() -> None:
    cache = StateCache(4, 10)
    cache.set_source(2, {"keys": torch.tensor([10, 20])})
    cache.states["h"] = torch.arange(4)
    cache.reorder(torch.tensor([1, 0, 3, 2]))
    assert cache.source["keys"].tolist() == [10, 20]
    cache.select_sentences(torch.tensor([1]))
    assert cache.source["keys"].tolist() == [20]
    assert cache.states["h"].tolist() == [3, 2]


def test_a_cache_that_is_full_or_of_other_rows_says_so() -> None:
    cache = StateCache(2, 3)
    cache.advance(2, 3)
    with pytest.raises(ValueError, match="2 rows of 1 new tokens do not fit a cache of 2 rows, 3 of at most 3"):
        cache.advance(2, 1)
    with pytest.raises(ValueError, match="3 rows of 1 new tokens"):
        StateCache(2, 3).advance(3, 1)
    with pytest.raises(ValueError, match="rows=5 cannot be shared out to sentences of beam=2"):
        StateCache(5, 3, beam=2)
