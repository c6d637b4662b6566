from __future__ import annotations

import pytest
import torch

from seqkit.modules.cache import MASKED, SelfAttentionCache, TransformerCache


def cache(rows: int, max_length: int = 8, beam: int = 1) -> TransformerCache:
    return TransformerCache(1, rows, max_length, beam=beam, device="cpu")


def no_padding(rows: int, new: int = 1) -> torch.Tensor:
    return torch.zeros(rows, new, dtype=torch.bool)


def test_length_counts_positions() -> None:
    subject = cache(2)
    assert subject.length == 0
    subject.advance(no_padding(2, 3), torch.float)
    subject.advance(no_padding(2), torch.float)
    assert subject.length == 4


def test_mask_of_a_chunk_hides_the_future() -> None:
    mask, _ = cache(1).advance(no_padding(1, 3), torch.float)
    expected = torch.tensor([[0.0, MASKED, MASKED], [0.0, 0.0, MASKED], [0.0, 0.0, 0.0]])
    assert torch.equal(mask[0, 0], expected)


def test_without_padding_positions_are_simply_counted() -> None:
    subject = cache(2)
    assert subject.advance(no_padding(2, 3), torch.float)[1] is None
    _, positions = subject.advance(torch.tensor([[False], [True]]), torch.float)
    assert positions is not None
    assert positions.tolist() == [[4], [0]]


def test_mask_hides_padding_and_positions_skip_it() -> None:
    subject = cache(2)
    subject.advance(torch.tensor([[True], [False]]), torch.float)
    mask, positions = subject.advance(no_padding(2), torch.float)
    assert mask[:, 0, 0].tolist() == [[MASKED, 0.0], [0.0, 0.0]]
    assert positions.tolist() == [[1], [2]]
    _, positions = subject.advance(torch.tensor([[False], [True]]), torch.float)
    assert positions.tolist() == [[2], [0]]


def test_with_a_beam_the_mask_follows_each_rows_ancestors() -> None:
    subject = cache(2, beam=2)
    subject.advance(no_padding(2), torch.float)
    subject.reorder(torch.tensor([1, 1]))
    mask, _ = subject.advance(no_padding(2), torch.float)
    # columns: position 0 of rows 0 and 1, position 1 of rows 0 and 1
    assert mask[0, 0].tolist() == [[MASKED, 0.0, 0.0, MASKED], [MASKED, 0.0, MASKED, 0.0]]


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_must_be_those_it_was_made_for(rows: int) -> None:
    with pytest.raises(ValueError, match=f"{rows} rows of 1 new tokens do not fit a cache of 2 rows"):
        cache(2).advance(no_padding(rows), torch.float)


def test_a_full_cache_refuses_more() -> None:
    subject = cache(1, max_length=2)
    subject.advance(no_padding(1, 2), torch.float)
    with pytest.raises(ValueError, match="2 of at most 2 positions filled"):
        subject.advance(no_padding(1), torch.float)


def test_rows_must_be_a_multiple_of_the_beam() -> None:
    with pytest.raises(ValueError, match="rows=5 cannot be shared out to sentences of beam=2"):
        cache(5, beam=2)


def test_a_beam_stays_in_its_sentence() -> None:
    subject = cache(4, beam=2)
    subject.advance(no_padding(4), torch.float)
    with pytest.raises(ValueError, match="between sentences; use select_sentences"):
        subject.reorder(torch.tensor([0, 2, 2, 3]))
    with pytest.raises(ValueError, match="given 2 rows, the cache has 4"):
        subject.reorder(torch.tensor([0, 1]))


def test_a_buffer_grows_and_keeps_what_it_holds() -> None:
    subject = SelfAttentionCache()
    written = torch.randn(2, 1, 2, 100, 3, 4)
    for place in range(100):
        keys, values = subject.append(written[:, :, :, place : place + 1], 2, place, 100)
    assert subject.buffer is not None
    assert subject.buffer.size(3) == 200
    expected = written.permute(0, 1, 4, 3, 2, 5).reshape(2, 1, 3, 200, 4)
    assert torch.equal(keys, expected[0])
    assert torch.equal(values, expected[1])


def test_a_prefix_stays_in_front() -> None:
    subject = SelfAttentionCache()
    front = torch.randn(2, 1, 3, 5, 4)
    subject.put_prefix(front[0], front[1])
    new = torch.randn(2, 1, 1, 2, 3, 4)
    keys, _ = subject.append(new, 1, 0, 10)
    assert torch.equal(keys[:, :, :5], front[0])
    assert torch.equal(keys[0, :, 5:].transpose(0, 1), new[0, 0, 0])
