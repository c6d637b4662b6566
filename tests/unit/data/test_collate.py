import pytest
import torch

from seqkit.data.collate import collate_tokens

PAD, EOS = 1, 2
ROWS = [torch.tensor([5, 6, EOS]), torch.tensor([7, EOS])]


def collate(rows=ROWS, **settings):
    return collate_tokens(rows, PAD, **settings).tolist()


def test_pads_right():
    assert collate() == [[5, 6, 2], [7, 2, 1]]


def test_pads_left():
    assert collate(left_pad=True) == [[5, 6, 2], [1, 7, 2]]


def test_moves_eos_to_the_beginning():
    assert collate(eos_idx=EOS, move_eos_to_beginning=True) == [[2, 5, 6], [2, 7, 1]]
    assert collate(eos_idx=9, move_eos_to_beginning=True, left_pad=True) == [[9, 5, 6], [1, 9, 7]]


def test_without_eos_moves_each_rows_last_token():
    rows = [torch.tensor([5, 6, 8]), torch.tensor([7, 9])]
    assert collate(rows, move_eos_to_beginning=True) == [[8, 5, 6], [9, 7, 1]]


def test_least_length():
    assert collate(pad_to_length=4) == [[5, 6, 2, 1], [7, 2, 1, 1]]
    assert collate(pad_to_length=2) == [[5, 6, 2], [7, 2, 1]]


@pytest.mark.parametrize(("multiple", "width"), [(1, 3), (2, 4), (3, 3), (8, 8)])
def test_multiples(multiple, width):
    assert {len(row) for row in collate(pad_to_multiple=multiple)} == {width}


def test_least_number_of_rows():
    assert collate(pad_to_bsz=3) == [[5, 6, 2], [7, 2, 1], [1, 1, 1]]
    assert len(collate(pad_to_bsz=1)) == 2


def test_empty_rows():
    rows = [torch.tensor([5, EOS]), torch.tensor([], dtype=torch.int64)]
    assert collate(rows) == [[5, 2], [1, 1]]
    assert collate(rows, eos_idx=EOS, move_eos_to_beginning=True) == [[2, 5], [1, 1]]


def test_keeps_the_type():
    rows = [row.to(torch.int32) for row in ROWS]
    assert collate_tokens(rows, PAD).dtype == torch.int32
    assert collate_tokens([torch.ones(2), torch.ones(1)], 0).tolist() == [[1.0, 1.0], [1.0, 0.0]]
