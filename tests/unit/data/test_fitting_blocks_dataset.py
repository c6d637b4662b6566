"""Blocks that are too long are cut into pieces, or left out, and no token is lost or doubled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.data.fitting_blocks_dataset import FittingBlocksDataset
from seqkit.data.monolingual_dataset import MonolingualDataset, TextItem
from seqkit.data.token_block_dataset import TokenBlockDataset

ROWS = [[4, 5, 2], [6, 7, 8, 9, 4, 5, 6, 2], [7, 2], [8, 9, 4, 5, 2]]


def sentences(*, add_bos_token: bool = False) -> MonolingualDataset:
    """Each of `ROWS` is a block."""
    dictionary = Dictionary()
    for word in "abcdef":
        dictionary.add_symbol(word)
    rows = [torch.tensor(row) for row in ROWS]
    sizes = np.array([len(row) for row in ROWS])
    blocks = TokenBlockDataset(rows, sizes, None, pad=1, eos=2, break_mode="eos")
    return MonolingualDataset(blocks, dictionary, shuffle=True, add_bos_token=add_bos_token)


def target_of(item: TextItem) -> list[int]:
    target = item["target"]
    assert isinstance(target, torch.Tensor)
    return target.tolist()


def test_long_blocks_are_cut() -> None:
    dataset = FittingBlocksDataset(sentences(), 3)
    items = [dataset[index] for index in range(len(dataset))]
    assert dataset.sizes.tolist() == [len(item["source"]) for item in items] == [3, 3, 3, 2, 2, 3, 2]
    assert [item["id"] for item in items] == [0, 1, 1, 1, 2, 3, 3]
    assert [target_of(item) for item in items] == [
        *([4, 5, 2], [6, 7, 8], [9, 4, 5], [6, 2], [7, 2], [8, 9, 4], [5, 2])
    ]
    assert items[2]["source"].tolist() == [8, 9, 4]
    assert (dataset.too_long, dataset.tokens_too_long) == (2, 13)
    batch = dataset.collater(items[2:4])
    assert batch["target"].tolist() == [[9, 4, 5], [6, 2, 1]]


def test_long_blocks_are_left_out() -> None:
    dataset = FittingBlocksDataset(sentences(), 3, leave_out=True)
    assert [dataset[index]["id"] for index in range(len(dataset))] == [0, 2]
    assert (dataset.too_long, dataset.tokens_too_long) == (2, 13)


def test_pieces_have_their_own_bos() -> None:
    dataset = FittingBlocksDataset(sentences(add_bos_token=True), 5)
    assert dataset[1]["source"].tolist() == [0, 2, 6, 7, 8, 9]
    assert dataset[2]["source"].tolist() == [0, 4, 5, 6]
    assert target_of(dataset[2]) == [0, 5, 6, 2]


@pytest.mark.parametrize("leave_out", [False, True])
def test_the_order_is_that_of_the_blocks_by_length(leave_out: bool) -> None:
    blocks = sentences()
    dataset = FittingBlocksDataset(blocks, 5, leave_out=leave_out)
    order = dataset.ordered_indices(np.random.RandomState(3))
    assert sorted(order.tolist()) == list(range(len(dataset)))
    assert (np.diff(dataset.sizes[order]) >= 0).all()
    if leave_out:
        kept = [index for index in blocks.ordered_indices(np.random.RandomState(3)).tolist() if index != 1]
        assert [dataset[index]["id"] for index in order.tolist()] == kept
