"""Files of text to dictionaries' counts and to indexed datasets, by one process or several.

Results do not depend on the number of processes; memory does not grow with the size of a file. Knows nothing of
languages, splits or folders.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from seqkit.data.dictionary import Dictionary
from seqkit.data.indexed_dataset import IndexedDatasetBuilder, data_path, index_path, make_builder
from seqkit.data.line_encoder import LINE_END, LineEncoder
from seqkit.data.segmentation import Segmentation
from seqkit.data.text_file import line_ranges, text_blocks
from seqkit.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Self

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class BinarizeSummary:
    """What was binarized.

    Attributes:
        lines: sentences.
        tokens: ids written, end-of-sentence included.
        replaced: words that became unknown.
    """

    lines: int = 0
    tokens: int = 0
    replaced: int = 0

    def __add__(self, other: BinarizeSummary) -> BinarizeSummary:
        return BinarizeSummary(self.lines + other.lines, self.tokens + other.tokens, self.replaced + other.replaced)

    @property
    def replaced_percent(self) -> float:
        """Unknown words per hundred tokens."""
        return 100 * self.replaced / self.tokens if self.tokens else 0.0


class WorkerPool:
    """Processes that share out the byte ranges of files; with one worker, this process does the work itself.

    Use it as a context manager. The processes are fresh interpreters rather than forks (a fork of a process with
    threads may hang), so a script that asks for several must be guarded by `if __name__ == "__main__":`.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.workers > 1:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_die_on_interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def run(self, function: Callable[..., ResultT], tasks: Sequence[tuple[Any, ...]]) -> Iterator[ResultT]:
        """`function` of each task, in order."""
        if self._executor is None:
            return itertools.starmap(function, tasks)
        return self._executor.map(function, *zip(*tasks, strict=True))


# counting


def count_file(
    path: str | Path, *, segmentation: Segmentation | None = None, pool: WorkerPool | None = None
) -> Counter[str]:
    """Count the words of a file.

    Args:
        path: UTF-8 text.
        segmentation: applied to each line first.
        pool: processes to use.

    Raises:
        DataError: the file is missing or not UTF-8 (the message names the line).
    """
    segmentation = segmentation or Segmentation()
    pool = pool or WorkerPool()
    counter: Counter[str] = Counter()
    tasks = [(path, start, end, segmentation) for start, end in line_ranges(path, pool.workers)]
    for part in pool.run(_count_range, tasks):
        counter.update(part)
    return counter


def _count_range(path: str | Path, start: int, end: int, segmentation: Segmentation) -> Counter[str]:
    counter: Counter[str] = Counter()
    for block in text_blocks(path, start, end):
        counter.update(segmentation.apply(block).split())
    return counter


def add_counts(dictionary: Dictionary, counter: Counter[str]) -> None:
    """Add counted words to a dictionary."""
    for word in sorted(counter):
        dictionary.add_symbol(word, counter[word])


# binarizing


def binarize_file(
    path: str | Path,
    prefix: str | Path,
    dictionary: Dictionary,
    *,
    impl: str = "mmap",
    append_eos: bool = True,
    reverse_order: bool = False,
    segmentation: Segmentation | None = None,
    pool: WorkerPool | None = None,
) -> BinarizeSummary:
    """Write a file of text as an indexed dataset, one row per line.

    Args:
        path: UTF-8 text.
        prefix: path of the `.bin`/`.idx` pair without endings.
        dictionary: words that it does not hold become unknown.
        impl: `mmap`, or `cached`/`lazy` for fairseq's old format.
        append_eos: end each row with the end-of-sentence id.
        reverse_order: last word first.
        segmentation: applied to each line first.
        pool: processes to use.

    Raises:
        DataError: the file is missing or not UTF-8 (the message names the line).
        OSError: the dataset cannot be written.
    """
    part = _Part(path, dictionary, impl, append_eos, reverse_order, segmentation or Segmentation())
    pool = pool or WorkerPool()
    ranges = line_ranges(path, pool.workers)
    if len(ranges) == 1:
        return part.write(str(prefix), *ranges[0])
    prefixes = [f"{prefix}.part{number}" for number in range(len(ranges))]
    tasks = [(part, name, start, end) for name, (start, end) in zip(prefixes, ranges, strict=True)]
    summary = BinarizeSummary()
    try:
        with make_builder(prefix, impl, len(dictionary)) as builder:
            for name, result in zip(prefixes, pool.run(_Part.write, tasks), strict=True):
                summary += result
                builder.merge(name)
                _remove_pair(name)
    finally:
        for name in prefixes:
            _remove_pair(name)
    return summary


@dataclass(frozen=True)
class _Part:
    """All that a process needs to binarize a byte range of a file."""

    path: str | Path
    dictionary: Dictionary
    impl: str
    append_eos: bool
    reverse_order: bool
    segmentation: Segmentation

    def write(self, prefix: str, start: int, end: int) -> BinarizeSummary:
        encoder = LineEncoder(self.dictionary, append_eos=self.append_eos, reverse_order=self.reverse_order)
        lines = tokens = replaced = 0
        with make_builder(prefix, self.impl, len(self.dictionary)) as builder:
            for block in text_blocks(self.path, start, end):
                encoded = encoder.encode(self.segmentation.apply(block))
                builder.add_rows(encoded.ids, encoded.sizes)
                lines += len(encoded.sizes)
                tokens += len(encoded.ids)
                replaced += encoded.replaced
        return BinarizeSummary(lines, tokens, replaced)


# alignments


def binarize_alignments(path: str | Path, prefix: str | Path, *, impl: str = "mmap") -> BinarizeSummary:
    """Write a file of word alignments (`0-0 1-2`, one line per sentence) as rows `0 0 1 2`.

    Raises:
        DataError: the file is missing, or a line is not of that form (the message names it).
    """
    pairs = _AlignmentPairs()
    lines = tokens = 0
    with alignment_builder(prefix, impl) as builder:
        for block in text_blocks(path):
            words = block.replace("\n", f" {LINE_END} ").split()
            try:
                codes = np.fromiter(map(pairs.__getitem__, words), dtype=np.int64, count=len(words))
            except _BadPair as error:
                line = lines + 1 + words[: words.index(str(error))].count(LINE_END)
                raise bad_alignment(path, line, str(error)) from None
            values, sizes = _split_pairs(codes)
            builder.add_rows(values, sizes)
            lines += len(sizes)
            tokens += len(values)
    return BinarizeSummary(lines, tokens)


def alignment_builder(prefix: str | Path, impl: str) -> IndexedDatasetBuilder:
    """The builder of alignments beside a dataset of implementation `impl` (raw text has them in the old format)."""
    return make_builder(prefix, "cached" if impl == "raw" else impl)


def parse_alignment(line: str) -> list[tuple[int, int]]:
    """The (source, target) positions of a line of alignments.

    Raises:
        ValueError: a word is not of the form `0-0`; the text is that word.
    """
    return [_parse_pair(word) for word in line.split()]


def bad_alignment(path: str | Path, line: int, word: str) -> DataError:
    """The `DataError` for a word that is not a pair of positions."""
    return DataError(f"{str(path)!r}, line {line}: {word!r} is not an alignment; each is '<source>-<target>', from 0")


class _BadPair(ValueError):
    pass


class _AlignmentPairs(dict[str, int]):
    """Source position * 2**32 + target position of each pair met so far; -1 for a line end."""

    def __init__(self) -> None:
        super().__init__({LINE_END: -1})

    def __missing__(self, word: str) -> int:
        source, target = _parse_pair(word)
        self[word] = code = source << 32 | target
        return code


def _parse_pair(word: str) -> tuple[int, int]:
    source, _, target = word.partition("-")
    if not (source.isdecimal() and target.isdecimal()) or max(int(source), int(target)) >= 1 << 31:
        raise _BadPair(word)
    return int(source), int(target)


def _split_pairs(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ends = np.flatnonzero(codes < 0)
    sizes = 2 * (np.diff(ends, prepend=-1) - 1)
    codes = np.delete(codes, ends)
    return np.stack([codes >> 32, codes & 0xFFFFFFFF], axis=1).reshape(-1), sizes


def _die_on_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _remove_pair(prefix: str) -> None:
    for path in (data_path(prefix), index_path(prefix)):
        if os.path.exists(path):
            os.unlink(path)
