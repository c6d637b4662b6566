"""Windows: every token is predicted once, behind the text that precedes it, in whatever order they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.data.lm_context_window_dataset import LMContextWindowDataset
from seqkit.data.monolingual_dataset import MonolingualDataset, TextItem
from seqkit.data.token_block_dataset import TokenBlockDataset

TEXT = [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
PAD = 1


def windows(context: int, block: int = 3, *, add_bos_token: bool = False) -> LMContextWindowDataset:
    dictionary = Dictionary()
    for word in "abcdefghijk":
        dictionary.add_symbol(word)
    blocks = TokenBlockDataset([torch.tensor(TEXT)], np.array([len(TEXT)]), block, pad=PAD, eos=2)
    dataset = MonolingualDataset(blocks, dictionary, shuffle=True, add_bos_token=add_bos_token)
    return LMContextWindowDataset(dataset, block, context, PAD)


def target_of(item: TextItem) -> list[int]:
    target = item["target"]
    assert isinstance(target, torch.Tensor)
    return target.tolist()


@pytest.mark.parametrize("context", [1, 2, 5, 30])
@pytest.mark.parametrize("block", [1, 3, 20])
def test_each_token_is_predicted_once_behind_its_context(context: int, block: int) -> None:
    dataset = windows(context, block)
    read = [2, *TEXT[:-1]]
    predicted: list[int] = []
    for index in range(len(dataset)):
        item = dataset[index]
        source, target = item["source"].tolist(), target_of(item)
        start = index * block
        assert source == read[max(start - context, 0) : start + block]
        before = min(start, context)
        assert target[:before] == [PAD] * before
        predicted += target[before:]
        assert len(source) == len(target) == dataset.sizes[index]
    assert predicted == TEXT


def test_the_order_of_reading_makes_no_difference() -> None:
    dataset = windows(4)
    expected = [dataset[index]["source"].tolist() for index in range(len(dataset))]
    for order in ([3, 1, 2, 0, 3], [2, 2, 3, 0, 1]):
        other = windows(4)
        assert [other[index]["source"].tolist() for index in order] == [expected[index] for index in order]
    assert dataset.ordered_indices(np.random.RandomState(1)).tolist() == [0, 1, 2, 3]


def test_a_longer_block_has_less_context() -> None:
    dataset = windows(4)
    dataset.tokens_per_sample = 1  # windows of five tokens, and blocks of three
    assert dataset[2]["source"].tolist() == [7, 8, 9, 10, 11][-5:]
    assert target_of(dataset[2]) == [PAD, PAD, 10, 11, 12]


def test_the_bos_of_a_block_counts_in_its_window() -> None:
    dataset = windows(4, add_bos_token=True)
    assert dataset[1]["source"].tolist() == [2, 4, 5, 0, 6, 7, 8]
    assert target_of(dataset[1]) == [PAD, PAD, PAD, 0, 7, 8, 9]


def test_batches_are_padded_on_the_right() -> None:
    dataset = windows(2)
    batch = dataset.collater([dataset[0], dataset[1]])
    assert batch["net_input"]["src_tokens"].tolist() == [[2, 4, 5, PAD, PAD], [4, 5, 6, 7, 8]]
    assert batch["target"].tolist() == [[4, 5, 6, PAD, PAD], [PAD, PAD, 7, 8, 9]]


def test_no_context_is_no_window() -> None:
    with pytest.raises(ValueError, match="context_window=0 must be at least 1"):
        windows(0)
