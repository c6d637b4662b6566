"""A cache that hides earlier documents and forgets what lies before its window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.modules.packed_cache import PackedCache


def seen(mask: Tensor) -> list[list[int]]:
    """Which stored positions each row's newest token sees."""
    return [row.gt(-1).nonzero().flatten().tolist() for row in mask[:, 0, -1]]


def test_the_past_is_hidden_where_a_document_begins() -> None:
    cache = PackedCache(1, 2, 10, device="cpu")
    none = torch.zeros(2, 1, dtype=torch.bool)
    begin_first = torch.tensor([[True], [False]])
    cache.advance(none, torch.float, begins=none)
    cache.advance(none, torch.float, begins=none)
    mask, positions = cache.advance(none, torch.float, begins=begin_first)
    assert seen(mask) == [[2], [0, 1, 2]]
    assert positions.tolist() == [[1], [3]]
    mask, positions = cache.advance(none, torch.float, begins=none)
    assert seen(mask) == [[2, 3], [0, 1, 2, 3]]
    assert positions.tolist() == [[2], [4]]


def test_many_tokens_at_once_are_as_one_by_one() -> None:
    begins = torch.tensor([[False, True, False, False, True, False], [True, False, False, False, False, False]])
    padding = torch.tensor([[False] * 6, [True, True, False, False, False, False]])
    begins &= ~padding
    one, many = (PackedCache(1, 2, 12, device="cpu", window=4) for _ in range(2))
    for cache in (one, many):
        cache.advance(torch.zeros(2, 2, dtype=torch.bool), torch.float, begins=torch.zeros(2, 2, dtype=torch.bool))
    masks, positions = many.advance(padding, torch.float, begins=begins)
    for place in range(6):
        now = slice(place, place + 1)
        mask, position = one.advance(padding[:, now], torch.float, begins=begins[:, now])
        for row in (0, 1):
            if not padding[row, place]:
                length = mask.size(-1)
                torch.testing.assert_close(mask[row, 0, 0], masks[row, 0, place, :length])
                assert position[row, 0] == positions[row, place]
    # and the same is seen afterwards
    none = torch.zeros(2, 1, dtype=torch.bool)
    after, positions_after = one.advance(none, torch.float, begins=none)
    expected, expected_positions = many.advance(none, torch.float, begins=none)
    assert after.eq(0).sum() == expected.eq(0).sum()
    torch.testing.assert_close(positions_after, expected_positions)


def test_what_is_before_the_window_is_forgotten_and_positions_count_on() -> None:
    window, beam = 3, 2
    cache = PackedCache(1, 2, 100, beam=beam, device="cpu", window=window)
    none = torch.zeros(2, 1, dtype=torch.bool)
    for step in range(40):
        start = cache.stored
        mask, positions = cache.advance(none, torch.float)
        start = cache.stored - 1
        keys = torch.full((2, 1, beam, 1, 1, 1), float(step))
        found, _ = cache.self_attention[0].append(keys, beam, start, cache.max_length)
        assert positions.tolist() == [[step + 1]] * 2
        assert cache.length == step + 1
        assert cache.stored <= 2 * window + 1
        visible = found[0, 0, :, 0][mask[0, 0, 0].eq(0)]
        assert visible.tolist() == [float(place) for place in range(max(0, step - 2), step + 1)]
        cache.reorder(torch.tensor([0, 1]))
    buffer = cache.self_attention[0].buffer
    assert buffer is not None
    assert buffer.size(3) <= 32 * beam, "the buffer does not grow with the text"


def test_rows_keep_their_counts_when_they_move() -> None:
    cache = PackedCache(1, 2, 100, device="cpu", window=1)
    padding = torch.tensor([[True], [False]])
    for _ in range(10):
        cache.advance(padding, torch.float)
    cache.reorder(torch.tensor([1, 1, 0]))
    _, positions = cache.advance(torch.zeros(3, 1, dtype=torch.bool), torch.float)
    assert positions.tolist() == [[11], [11], [1]]
    cache.select_sentences(torch.tensor([2, 0]))
    _, positions = cache.advance(torch.zeros(2, 1, dtype=torch.bool), torch.float)
    assert positions.tolist() == [[2], [12]]


def test_a_full_cache_says_so_even_where_it_has_forgotten() -> None:
    cache = PackedCache(1, 1, 5, device="cpu", window=1)
    for _ in range(5):
        cache.advance(torch.zeros(1, 1, dtype=torch.bool), torch.float)
    with pytest.raises(ValueError, match="at most 5 positions, 5 of them filled"):
        cache.advance(torch.zeros(1, 1, dtype=torch.bool), torch.float)
