"""Reading UTF-8 text in blocks of whole lines, with errors that name the file and the line.

A line ends at `\\n`, `\\r\\n` or `\\r`, as in Python's text mode. Knows nothing of tokens or dictionaries.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from seqkit.errors import DataError

BLOCK_BYTES = 1 << 20


def read_text(path: str | Path) -> str:
    """The whole text of a small UTF-8 file, line ends normalised to `\\n`.

    Raises:
        DataError: the file is missing or unreadable, or not UTF-8 (the message names the line).
    """
    return "".join(text_blocks(path))


def text_blocks(
    path: str | Path, start: int = 0, end: int | None = None, block_bytes: int = BLOCK_BYTES
) -> Iterator[str]:
    """The text of a file, or of a byte range of it, in blocks that each end where a line ends.

    Memory is bounded by `block_bytes` and the longest line. Line ends come out as `\\n`; a last line without one
    gets it, so that every block is a sequence of lines that each end in `\\n`.

    Args:
        path: a UTF-8 file.
        start: first byte; must be the beginning of a line.
        end: byte after the last one; must be the beginning of a line, or None for the end of the file.
        block_bytes: about how much to read at once.

    Raises:
        DataError: the file is missing or unreadable, or not UTF-8 (the message names the line).
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            position = start
            pieces: list[bytes] = []
            while True:
                wanted = block_bytes if end is None else min(block_bytes, end - position - sum(map(len, pieces)))
                data = file.read(wanted) if wanted > 0 else b""
                if not data:
                    break
                cut = _last_line_end(data)
                if cut == 0:
                    pieces.append(data)
                    continue
                block = b"".join([*pieces, data[:cut]])
                pieces = [data[cut:]] if cut < len(data) else []
                yield _decode(block, path, position)
                position += len(block)
            rest = b"".join(pieces)
            if rest:
                text = _decode(rest, path, position)
                yield text if text.endswith("\n") else text + "\n"
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str | Path, error: OSError) -> DataError:
    """The `DataError` for a file that could not be opened or read."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"the file {str(path)!r} does not exist")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{str(path)!r} is a folder where a file is needed")
    return DataError(f"cannot read {str(path)!r}: {error.strerror or error}")


def count_lines(path: str | Path) -> int:
    """How many lines a file has, without decoding it.

    Raises:
        DataError: the file is missing or unreadable.
    """
    try:
        with open(path, "rb") as file:
            lines, last = _count_line_ends(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise unreadable(path, error) from error
    return lines + (last not in (b"", b"\n", b"\r"))


def line_ranges(path: str | Path, parts: int) -> list[tuple[int, int]]:
    """Cut a file into at most `parts` byte ranges of about equal size that begin and end where a line does.

    Raises:
        DataError: the file is missing or unreadable.
    """
    try:
        size = os.path.getsize(path)
        bounds = [0]
        with open(path, "rb") as file:
            for part in range(1, parts):
                file.seek(max(size * part // parts, bounds[-1]))
                while data := file.read(BLOCK_BYTES):
                    found = data.find(b"\n")
                    if found >= 0:
                        bounds.append(file.tell() - len(data) + found + 1)
                        break
        bounds.append(size)
    except OSError as error:
        raise unreadable(path, error) from error
    return [(low, high) for low, high in itertools.pairwise(bounds) if high > low]


def _last_line_end(data: bytes) -> int:
    """Where the last line that surely ends within `data` ends; 0 where none does.

    A carriage return in the last place may be half of `\\r\\n`, so it does not count.
    """
    newline = data.rfind(b"\n") + 1
    if newline:
        return newline
    return data.rfind(b"\r", 0, len(data) - 1) + 1


def _decode(block: bytes, path: str | Path, offset: int) -> str:
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = line_number(path, offset + error.start)
        bad = block[error.start : error.end].hex(" ")
        raise DataError(
            f"{str(path)!r} is not valid UTF-8: line {line} (byte {offset + error.start} of the file) has {bad!r}; "
            "convert the file to UTF-8 or take the line out"
        ) from error
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def line_number(path: str | Path, offset: int) -> int:
    """The number, from 1, of the line that holds byte `offset`."""
    with open(path, "rb") as file:
        return _count_line_ends(file, offset)[0] + 1


def _count_line_ends(file: IO[bytes], size: int) -> tuple[int, bytes]:
    """How many lines end within the first `size` bytes, and the last of those bytes."""
    ends, last = 0, b""
    while size > 0 and (data := file.read(min(BLOCK_BYTES, size))):
        size -= len(data)
        ends += data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
        if last == b"\r" and data.startswith(b"\n"):
            ends -= 1
        last = data[-1:]
    return ends, last
