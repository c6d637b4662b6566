from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.data.text_file import count_lines, line_number, line_ranges, read_text, text_blocks
from seqkit.errors import DataError

MIXED = "one two\r\nthree\rfour\n\r\n\u2028five\x0bsix\n\nlast".encode()
LINES = ["one two", "three", "four", "", "\u2028five\x0bsix", "", "last"]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed"
    path.write_bytes(MIXED)
    return path


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 8, 13, 1000])
def test_blocks_hold_whole_lines_whatever_their_size(mixed: Path, block_bytes: int) -> None:
    blocks = list(text_blocks(mixed, block_bytes=block_bytes))
    assert "".join(blocks).split("\n") == [*LINES, ""]
    assert all(block.endswith("\n") for block in blocks)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 9, 100])
def test_ranges_cut_between_lines(mixed: Path, parts: int) -> None:
    ranges = line_ranges(mixed, parts)
    assert len(ranges) <= parts
    assert ranges[0][0] == 0
    assert ranges[-1][1] == len(MIXED)
    texts = ["".join(text_blocks(mixed, start, end)) for start, end in ranges]
    assert "".join(texts).split("\n") == [*LINES, ""]


def test_blocks_are_small_for_large_files(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_text("word " * 9 + "\n" * 1 + "x\n" * 5000)
    assert max(map(len, text_blocks(path, block_bytes=256))) <= 512


@pytest.mark.parametrize(
    ("content", "lines"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\r", 1), (b"a\r\nb", 2), (b"\n\n", 2), (b"\r\n\r", 2)]
)
def test_count_lines(tmp_path: Path, content: bytes, lines: int) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    assert count_lines(path) == lines
    assert read_text(path).count("\n") == lines


def test_invalid_utf8_names_file_line_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text.de"
    path.write_bytes(b"fine\r\nalso\rfine\n" + b"caf\xe9 au lait\n" + b"end\n")
    with pytest.raises(DataError, match=r"text\.de' is not valid UTF-8: line 4 \(byte 19 of the file\) has 'e9'"):
        read_text(path)
    with pytest.raises(DataError, match="line 4"):
        list(text_blocks(path, block_bytes=4))
    with pytest.raises(DataError, match="line 4"):
        list(text_blocks(path, start=16))


def test_line_number_is_right_across_blocks(mixed: Path) -> None:
    assert [line_number(mixed, MIXED.index(word)) for word in (b"one", b"three", b"four", b"five", b"last")] == [
        1,
        2,
        3,
        5,
        7,
    ]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for read in (read_text, count_lines, lambda path: line_ranges(path, 2)):
        with pytest.raises(DataError, match=r"gone' does not exist"):
            read(tmp_path / "gone")
    with pytest.raises(DataError, match="is a folder where a file is needed"):
        read_text(tmp_path)
