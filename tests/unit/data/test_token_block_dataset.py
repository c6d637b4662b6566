"""Blocks against a plain loop over sentences, and what an item of one holds."""

import numpy as np
import pytest
import torch

from seqkit.data.indexed_dataset import make_builder, open_dataset
from seqkit.data.token_block_dataset import TokenBlockDataset
from tests.unit.data.rows import Rows

PAD, EOS = 1, 2


def blocks_of(*rows, size=4, mode="none", **settings):
    data = Rows(*rows)
    return TokenBlockDataset(data, data.sizes, size, pad=PAD, eos=EOS, break_mode=mode, **settings)


def by_hand(sizes, size, mode, separator):
    """The rule, sentence by sentence."""
    slices, start, current = [], 0, 0
    least = 2 if mode == "complete_doc" else 1
    for length in sizes:
        parts = mode == "complete_doc" and length == separator
        if parts or (current and current + length > size):
            if current >= least:
                slices.append((start, start + current))
            start, current = start + current, 0
        if parts:
            start += length
        else:
            current += length
    if current >= least:
        slices.append((start, start + current))
    return slices


def test_none_cuts_anywhere():
    blocks = blocks_of([5, 6, EOS], [7, 8, 9, EOS], size=4)
    assert [block.target.tolist() for block in blocks] == [[5, 6, EOS, 7], [8, 9, EOS]]
    assert blocks.sizes.tolist() == [4, 3]


def test_the_neighbours_of_a_block_are_those_in_its_sentence():
    first, second = blocks_of([5, 6, EOS], [7, 8, 9, EOS], size=4)
    assert first.source.tolist() == [EOS, 5, 6, EOS]
    assert first.past.tolist() == [PAD, EOS, 5, 6]
    assert second.source.tolist() == [7, 8, 9]
    assert second.past.tolist() == [EOS, 7, 8]
    third = blocks_of([5, 6, 7, 8, 9, EOS], size=2)[2]
    assert (third.past.tolist(), third.source.tolist(), third.target.tolist()) == ([7, 8], [8, 9], [9, EOS])


def test_eos_takes_each_sentence():
    blocks = blocks_of([5, EOS], [6, 7, 8, 9, EOS], size=None, mode="eos")
    assert [block.target.tolist() for block in blocks] == [[5, EOS], [6, 7, 8, 9, EOS]]
    assert blocks[1].source.tolist() == [EOS, 6, 7, 8, 9]


def test_complete_takes_whole_sentences_and_a_long_one_alone():
    blocks = blocks_of([5, EOS], [6, EOS], [7, 8, 9, 10, EOS], [11, EOS], size=4, mode="complete")
    assert [block.target.tolist() for block in blocks] == [[5, EOS, 6, EOS], [7, 8, 9, 10, EOS], [11, EOS]]


def test_complete_doc_ends_blocks_with_documents_and_drops_lone_tokens():
    rows = ([5, EOS], [EOS], [6, EOS], [7, EOS], [EOS], [EOS], [8, 9, EOS])
    blocks = blocks_of(*rows, size=10, mode="complete_doc")
    assert [block.target.tolist() for block in blocks] == [[5, EOS], [6, EOS, 7, EOS], [8, 9, EOS]]
    kept = blocks_of([5], [6, 7], size=1, mode="complete_doc", document_sep_len=0)
    assert [block.target.tolist() for block in kept] == [[6, 7]]


@pytest.mark.parametrize("mode", ["complete", "complete_doc"])
@pytest.mark.parametrize("separator", [0, 1, 3])
def test_any_lengths_are_cut_as_the_rule_says(mode, separator):
    rng = np.random.RandomState(4)
    for size in (1, 2, 5, 9):
        for _ in range(40):
            sizes = rng.randint(0, 6, rng.randint(0, 30))
            blocks = TokenBlockDataset([], sizes, size, pad=PAD, eos=EOS, break_mode=mode, document_sep_len=separator)
            expected = by_hand(sizes.tolist(), size, mode, separator)
            assert [tuple(part) for part in blocks.slice_indices.tolist()] == expected, (sizes, size)


def test_where_blocks_lie_is_told_in_rows():
    blocks = blocks_of([5, 6, EOS], [7, EOS], [8, 9, 10, EOS], size=4)
    assert blocks.block_to_dataset_index.tolist() == [[0, 0, 1], [1, 1, 2], [2, 3, 2]]


@pytest.mark.parametrize("impl", ["mmap", "cached", "lazy"])
@pytest.mark.parametrize("mode", ["none", "complete", "eos"])
def test_rows_on_disk_give_the_blocks_that_rows_in_memory_give(tmp_path, impl, mode):
    rng = np.random.RandomState(1)
    rows = [[*rng.randint(4, 90, rng.randint(0, 7)).tolist(), EOS] for _ in range(30)]
    with make_builder(tmp_path / "text", "mmap" if impl == "mmap" else "cached", 100) as builder:
        for row in rows:
            builder.add_item(row)
    on_disk = open_dataset(tmp_path / "text", impl)
    ours = TokenBlockDataset(on_disk, on_disk.sizes, 8, pad=PAD, eos=EOS, break_mode=mode)
    expected = blocks_of(*rows, size=8, mode=mode)
    assert len(ours) == len(expected) > 5
    for one, other in zip(ours, expected, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def test_an_empty_corpus_has_no_blocks():
    for mode in ("none", "complete", "complete_doc", "eos"):
        assert len(TokenBlockDataset([], np.zeros(0, np.int32), 4, pad=PAD, eos=EOS, break_mode=mode)) == 0


def test_a_wrong_mode_or_size_is_told():
    with pytest.raises(ValueError, match="break_mode='lines' is not one of none, complete, complete_doc, eos"):
        blocks_of([5], mode="lines")
    with pytest.raises(ValueError, match="block_size=0 must be at least 1"):
        blocks_of([5], size=0)
