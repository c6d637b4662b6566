from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.data.binarizer import (
    BinarizeSummary,
    WorkerPool,
    add_counts,
    binarize_alignments,
    binarize_file,
    count_file,
    parse_alignment,
)
from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.bpe.characters import CharactersConfig
from seqkit.data.indexed_dataset import make_builder, open_dataset
from seqkit.data.segmentation import Segmentation
from seqkit.errors import DataError


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    lines = [f"word{number % 7} common\u00a0thing" if number % 5 else "" for number in range(200)]
    path.write_text("\n".join([*lines, "last " * 3000]), encoding="utf-8")
    return path


def dictionary_of(path: Path) -> Dictionary:
    dictionary = Dictionary()
    add_counts(dictionary, count_file(path))
    dictionary.finalize(threshold=25)
    return dictionary


def test_count_file(text: Path) -> None:
    counter = count_file(text)
    assert counter["common"] == counter["thing"] == 160
    assert counter["last"] == 3000
    assert sum(counter.values()) == 3480


def test_binarize_file_equals_line_by_line(text: Path, tmp_path: Path) -> None:
    dictionary = dictionary_of(text)
    summary = binarize_file(text, tmp_path / "fast", dictionary)
    rows = [dictionary.encode_line(line, add_if_not_exist=False) for line in text.read_text().split("\n")]
    with make_builder(tmp_path / "slow", "mmap", len(dictionary)) as builder:
        for row in rows:
            builder.add_item(row)
    for end in (".bin", ".idx"):
        assert (tmp_path / f"fast{end}").read_bytes() == (tmp_path / f"slow{end}").read_bytes()
    unknown = sum(int((row == dictionary.unk()).sum()) for row in rows)
    assert summary == BinarizeSummary(lines=201, tokens=sum(map(len, rows)), replaced=unknown)
    assert summary.replaced_percent == pytest.approx(100 * unknown / summary.tokens)
    assert unknown > 0


@pytest.mark.parametrize("impl", ["mmap", "cached"])
def test_workers_do_not_change_the_result(text: Path, tmp_path: Path, impl: str) -> None:
    dictionary = dictionary_of(text)
    one = binarize_file(text, tmp_path / "one", dictionary, impl=impl)
    with WorkerPool(3) as pool:
        assert count_file(text, pool=pool) == count_file(text)
        assert binarize_file(text, tmp_path / "three", dictionary, impl=impl, pool=pool) == one
    for end in (".bin", ".idx"):
        assert (tmp_path / f"one{end}").read_bytes() == (tmp_path / f"three{end}").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"text", "one.bin", "one.idx", "three.bin", "three.idx"}


def test_error_in_a_worker_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a b\n" * 50 + b"\xff\n" + b"c\n" * 5)
    with WorkerPool(2) as pool:
        with pytest.raises(DataError, match="not valid UTF-8: line 51"):
            count_file(path, pool=pool)
        with pytest.raises(DataError, match="not valid UTF-8: line 51"):
            binarize_file(path, tmp_path / "x", Dictionary(), pool=pool)
    assert [entry.name for entry in tmp_path.iterdir()] == ["text"]


def test_segmentation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("ab a\n\nb\n")
    segmentation = Segmentation(bpe=CharactersConfig(_name="characters"))
    assert count_file(path, segmentation=segmentation) == {"a": 2, "b": 2, "\u2581": 1}
    dictionary = Dictionary()
    for symbol in ("a", "b", "\u2581"):
        dictionary.add_symbol(symbol)
    binarize_file(path, tmp_path / "x", dictionary, segmentation=segmentation)
    dataset = open_dataset(tmp_path / "x")
    assert [dataset[index].tolist() for index in range(3)] == [[4, 5, 6, 4, 2], [2], [5, 2]]


def test_append_eos_and_reverse_order(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a b\n\n")
    dictionary = Dictionary()
    dictionary.add_symbol("a")
    dictionary.add_symbol("b")
    binarize_file(path, tmp_path / "x", dictionary, append_eos=False, reverse_order=True)
    dataset = open_dataset(tmp_path / "x")
    assert [dataset[0].tolist(), dataset[1].tolist()] == [[5, 4], []]


def test_alignments(tmp_path: Path) -> None:
    path = tmp_path / "text.align"
    path.write_text("0-0 1-2\n\n 10-3\t0-0\n")
    summary = binarize_alignments(path, tmp_path / "x")
    dataset = open_dataset(tmp_path / "x")
    assert [dataset[index].tolist() for index in range(3)] == [[0, 0, 1, 2], [], [10, 3, 0, 0]]
    assert (summary.lines, summary.tokens) == (3, 8)
    assert parse_alignment("0-0 1-2") == [(0, 0), (1, 2)]


@pytest.mark.parametrize("word", ["1", "1-", "-1", "a-b", "1-2-3", "1_2", "99999999999-0"])
def test_bad_alignment_names_file_line_and_word(tmp_path: Path, word: str) -> None:
    path = tmp_path / "text.align"
    path.write_text(f"0-0\n\n0-0 {word} 1-1\n0-0\n")
    with pytest.raises(DataError, match=rf"text\.align', line 3: '{word}' is not an alignment"):
        binarize_alignments(path, tmp_path / "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["text.align"]
