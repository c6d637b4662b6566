from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.data.indexed_dataset import (
    CachedIndexedDataset,
    LegacyIndexedDataset,
    MMapIndexedDataset,
    RawTextDataset,
    best_dtype,
    dataset_exists,
    infer_implementation,
    make_builder,
    open_dataset,
)
from seqkit.errors import DataError, UserError

ROWS = [[4, 5, 2], [2], [], [6, 6, 6, 6, 2], [65000, 2]]


def write(prefix: Path, impl: str = "mmap", vocab_size: int | None = 65100) -> Path:
    with make_builder(prefix, impl, vocab_size) as builder:
        for row in ROWS:
            builder.add_item(torch.tensor(row, dtype=torch.int32))
    return prefix


@pytest.mark.parametrize(
    ("vocab_size", "dtype"),
    [(None, np.uint32), (100, np.uint16), (65499, np.uint16), (65500, np.uint32), (2**32, np.int64)],
)
def test_best_dtype(vocab_size: int | None, dtype: type) -> None:
    assert best_dtype(vocab_size) is dtype


def test_mmap_bytes(tmp_path: Path) -> None:
    with make_builder(tmp_path / "x", "mmap", 10) as builder:
        builder.add_rows(np.array([4, 5, 2, 2]), np.array([3, 1]))
    assert (tmp_path / "x.bin").read_bytes() == struct.pack("<4H", 4, 5, 2, 2)
    assert (tmp_path / "x.idx").read_bytes() == struct.pack("<9sQBQ2i2q", b"MMIDIDX\0\0", 1, 8, 2, 3, 1, 0, 6)


def test_legacy_bytes(tmp_path: Path) -> None:
    with make_builder(tmp_path / "x", "cached") as builder:
        builder.add_rows(np.array([4, 5, 2, 2]), np.array([3, 1]))
    assert (tmp_path / "x.bin").read_bytes() == struct.pack("<4i", 5, 6, 3, 3)
    expected = struct.pack("<8s5Q3q3q2q", b"TNTIDX\0\0", 1, 4, 4, 2, 2, 0, 1, 2, 0, 3, 4, 3, 1)
    assert (tmp_path / "x.idx").read_bytes() == expected


@pytest.mark.parametrize(
    ("impl", "cls"),
    [("mmap", MMapIndexedDataset), ("lazy", LegacyIndexedDataset), ("cached", CachedIndexedDataset)],
)
def test_round_trip(tmp_path: Path, impl: str, cls: type) -> None:
    prefix = write(tmp_path / "x", impl)
    dataset = open_dataset(prefix, impl)
    assert type(dataset) is cls
    assert len(dataset) == len(ROWS)
    assert dataset.sizes.dtype == np.int32
    assert dataset.sizes.tolist() == [len(row) for row in ROWS]
    for copy in (dataset, pickle.loads(pickle.dumps(dataset))):
        for index, row in enumerate(ROWS):
            assert copy[index].dtype == torch.int64
            assert copy[index].tolist() == row
        assert copy[np.int64(0)].tolist() == ROWS[0]
        assert copy[-2].tolist() == ROWS[-2]
        assert copy.get(3, offset=1).tolist() == [6, 6, 6, 2]
        assert copy.get(3, offset=1, length=2).tolist() == [6, 6]
        with pytest.raises(IndexError, match="row 5 of a dataset of 5 rows"):
            copy[5]
    dataset[0].add_(1)  # a copy: the file stays as it is
    assert dataset[0].tolist() == ROWS[0]
    assert (dataset.num_tokens(3), dataset.size(1)) == (5, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.bin", "x.idx"]


def test_cached_prefetch(tmp_path: Path) -> None:
    dataset = CachedIndexedDataset(write(tmp_path / "x", "cached"))
    assert dataset.supports_prefetch
    dataset.prefetch([3, 0, 3])
    dataset.prefetch(np.array([0, 4]))
    dataset[0].add_(1)
    assert [dataset[index].tolist() for index in range(5)] == ROWS


def test_format_is_recognised(tmp_path: Path) -> None:
    write(tmp_path / "new")
    write(tmp_path / "old", "lazy")
    (tmp_path / "text").write_text("a\n")
    assert [infer_implementation(tmp_path / name) for name in ("new", "old", "text", "none")] == [
        "mmap",
        "cached",
        "raw",
        None,
    ]
    assert isinstance(open_dataset(tmp_path / "new"), MMapIndexedDataset)
    assert isinstance(open_dataset(tmp_path / "old"), CachedIndexedDataset)
    assert dataset_exists(tmp_path / "new")
    assert dataset_exists(tmp_path / "new", "mmap")
    assert not dataset_exists(tmp_path / "new", "raw")
    assert dataset_exists(tmp_path / "text", "raw")
    assert not dataset_exists(tmp_path / "text", "mmap")
    assert not dataset_exists(tmp_path / "none")


def test_wrong_choice_of_format(tmp_path: Path) -> None:
    write(tmp_path / "new")
    with pytest.raises(DataError, match=r"new\.idx' is of the 'mmap' format; leave dataset_impl out"):
        open_dataset(tmp_path / "new", "cached")
    with pytest.raises(DataError, match="there is no dataset"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="there is no text file"):
        open_dataset(tmp_path / "none", "raw")
    with pytest.raises(UserError, match="unknown dataset implementation 'nmap'; did you mean 'mmap'"):
        open_dataset(tmp_path / "new", "nmap")
    with pytest.raises(UserError, match="nothing to build"):
        make_builder(tmp_path / "x", "raw")


@pytest.mark.parametrize("impl", ["mmap", "cached"])
@pytest.mark.parametrize(
    ("end", "keep", "message"),
    [
        (".bin", -2, r"x\.bin' is truncated or damaged: its index asks for"),
        (".bin", 0, r"x\.bin' is truncated or damaged: its index asks for"),
        (".idx", -8, r"x\.idx' is truncated or damaged: 5 rows need"),
        (".idx", 20, r"x\.idx' is truncated or damaged: its header needs"),
        (".idx", 0, r"x\.idx' is truncated or damaged: it begins like none"),
    ],
)
def test_truncated_files_say_so(tmp_path: Path, impl: str, end: str, keep: int, message: str) -> None:
    path = write(tmp_path / "x", impl).with_suffix(end)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "x")


def test_damaged_index(tmp_path: Path) -> None:
    path = write(tmp_path / "x").with_suffix(".idx")
    good = bytearray(path.read_bytes())
    for at, value, message in (
        (9, 2, "format version 2"),
        (17, 99, "unknown code 99"),
        (26, 4, "its index asks for"),
        (len(good) - 8, 1, "contradict each other"),
    ):
        path.write_bytes(good[:at] + bytes([value]) + good[at + 1 :])
        with pytest.raises(DataError, match=message):
            MMapIndexedDataset(tmp_path / "x")
    path.unlink()
    with pytest.raises(DataError, match=r"x\.idx' does not exist"):
        MMapIndexedDataset(tmp_path / "x")


@pytest.mark.parametrize("impl", ["mmap", "cached"])
def test_empty_dataset(tmp_path: Path, impl: str) -> None:
    with make_builder(tmp_path / "x", impl):
        pass
    assert len(open_dataset(tmp_path / "x")) == 0


@pytest.mark.parametrize("impl", ["mmap", "cached"])
def test_merge(tmp_path: Path, impl: str) -> None:
    whole = write(tmp_path / "whole", impl)
    for name, rows in (("first", ROWS[:2]), ("second", ROWS[2:])):
        with make_builder(tmp_path / name, impl, 65100) as builder:
            for row in rows:
                builder.add_item(row)
    with make_builder(tmp_path / "merged", impl, 65100) as builder:
        builder.merge(tmp_path / "first")
        builder.merge(tmp_path / "second")
    for end in (".bin", ".idx"):
        assert (tmp_path / f"merged{end}").read_bytes() == whole.with_suffix(end).read_bytes()


def test_merge_refuses_another_type(tmp_path: Path) -> None:
    write(tmp_path / "narrow")
    message = "holds uint16, which cannot be added to uint32"
    with pytest.raises(DataError, match=message), make_builder(tmp_path / "wide", "mmap", 70000) as builder:
        builder.merge(tmp_path / "narrow")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["narrow.bin", "narrow.idx"]


def test_nothing_is_left_after_a_failure(tmp_path: Path) -> None:
    message = "values from 4 to 70000 do not fit into uint16"
    with pytest.raises(ValueError, match=message), make_builder(tmp_path / "x", "mmap", 10) as builder:
        builder.add_item([4, 70000])
    message = "2 values for rows of 3 in all"
    with pytest.raises(ValueError, match=message), make_builder(tmp_path / "x", "mmap", 10) as builder:
        builder.add_rows(np.array([4, 5]), np.array([3]))
    assert list(tmp_path.iterdir()) == []


def test_raw_text(tmp_path: Path) -> None:
    path = tmp_path / "train.de-en.de"
    path.write_text("a b c\r\n\nb zz\n", newline="")
    dictionary = Dictionary()
    for word in "abc":
        dictionary.add_symbol(word)
    dataset = open_dataset(path, "raw", dictionary)
    assert isinstance(dataset, RawTextDataset)
    assert [dataset[index].tolist() for index in range(3)] == [[4, 5, 6, 2], [2], [5, 3, 2]]
    assert dataset.sizes.tolist() == [4, 1, 3]
    assert dataset.get(0, 1, 2).tolist() == [5, 6]
    assert dataset.get_original_text(2) == "b zz"
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[0].tolist() == [4, 5, 6, 2]
    turned = RawTextDataset(path, dictionary, append_eos=False, reverse_order=True)
    assert [turned[index].tolist() for index in range(3)] == [[6, 5, 4], [], [3, 5]]
    with pytest.raises(UserError, match="needs a dictionary"):
        open_dataset(path)


def test_raw_text_under_the_name_fairseq_gives_it(tmp_path: Path) -> None:
    (tmp_path / "train.None-None").write_text("a\n")
    assert dataset_exists(tmp_path / "train", "raw")
    assert open_dataset(tmp_path / "train", "raw", Dictionary())[0].tolist() == [3, 2]
