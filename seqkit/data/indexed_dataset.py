"""Rows of integers on disk: fairseq's `.bin`/`.idx` pairs (memory-mapped and legacy) and plain text.

Four implementations: `mmap` (the default), `cached` and `lazy` (the legacy format, read in bulk or row by row) and
`raw` (a text file, encoded when it is opened). Knows nothing of what a row means, or of batches.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from seqkit.data.line_encoder import LineEncoder
from seqkit.data.text_file import text_blocks, unreadable
from seqkit.errors import DataError, UserError, did_you_mean
from seqkit.files import sync_folder

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from seqkit.data.dictionary import Dictionary

IMPLEMENTATIONS = ("mmap", "cached", "lazy", "raw")

_MMAP_MAGIC = b"MMIDIDX\x00\x00"
_LEGACY_MAGIC = b"TNTIDX\x00\x00"
_MMAP_HEADER = struct.Struct("<9sQBQ")  # magic, version, type code, rows
_LEGACY_HEADER = struct.Struct("<8sQQQQQ")  # magic, version, type code, bytes of a value, rows, dimensions in all
_TYPES: dict[int, type[np.number[Any]]] = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    6: np.float64,
    7: np.float64,
    8: np.uint16,
    9: np.uint32,
    10: np.uint64,
}
_ROWS_AT_ONCE = 1 << 16


def best_dtype(vocab_size: int | None) -> type[np.integer[Any]]:
    """The type fairseq stores ids below `vocab_size` in: uint16 below 65500, else uint32; uint32 for None."""
    if vocab_size is None:
        return np.uint32
    if vocab_size < 65500:
        return np.uint16
    return np.uint32 if vocab_size < 2**32 - 1 else np.int64


def data_path(prefix: str | Path) -> str:
    """Path of the file of values."""
    return f"{prefix}.bin"


def index_path(prefix: str | Path) -> str:
    """Path of the file of sizes and places."""
    return f"{prefix}.idx"


def raw_path(prefix: str | Path) -> str | None:
    """Path of a raw text split: the prefix itself, or what `fairseq-preprocess --only-source` names it."""
    return next((path for path in (str(prefix), f"{prefix}.None-None") if os.path.isfile(path)), None)


# reading


class IndexedDataset(ABC):
    """Rows of integers by number. `sizes` (n,) int32 are their lengths; `[i]` is row i as an int64 tensor."""

    sizes: NDArray[np.int32]
    supports_prefetch = False

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Tensor:
        return self.get(index)

    def get(self, index: int, offset: int = 0, length: int | None = None) -> Tensor:
        """`length` values (all that remain for None) of a row from `offset` on: (length,) int64."""
        import torch

        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of a dataset of {len(self)} rows")
        size = int(self.sizes[index])
        stop = size if length is None else min(offset + length, size)
        return torch.from_numpy(self._values(int(index) % len(self), offset, stop))

    def get_across(self, first: int, last: int, offset: int, length: int) -> Tensor:
        """`length` values of the rows `first` to `last` laid end to end, from `offset` in the first on: int64."""
        import torch

        return torch.from_numpy(self._values_across(first, last, offset, offset + length))

    @abstractmethod
    def _values(self, index: int, start: int, stop: int) -> NDArray[np.int64]:
        """A fresh int64 array of the values `start` to `stop` of a row."""

    def _values_across(self, first: int, last: int, start: int, stop: int) -> NDArray[np.int64]:
        if first == last:
            return self._values(first, start, stop)
        return np.concatenate([self._values(row, 0, int(self.sizes[row])) for row in range(first, last + 1)])[
            start:stop
        ]

    def num_tokens(self, index: int) -> int:
        """Length of a row."""
        return int(self.sizes[index])

    def size(self, index: int) -> int:
        """Length of a row."""
        return int(self.sizes[index])

    def prefetch(self, indices: Iterable[int]) -> None:
        """Read rows into memory ahead of time (where `supports_prefetch`)."""


class MMapIndexedDataset(IndexedDataset):
    """A memory-mapped `.bin`/`.idx` pair (magic `MMIDIDX`), byte-identical to fairseq's. Cheap to pickle for workers.

    Args:
        prefix: path of the pair without its endings.

    Raises:
        DataError: a file is missing, truncated, damaged, or of another format.
    """

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = str(prefix)
        path = index_path(prefix)
        index = _map_file(path)
        _check_magic(index, path, _MMAP_MAGIC)
        if len(index) < _MMAP_HEADER.size:
            raise _damaged(path, f"its header needs {_MMAP_HEADER.size} bytes, it has {len(index)}")
        _, version, code, rows = _MMAP_HEADER.unpack_from(index)
        self.dtype = _type_of(code, version, path)
        wanted = _MMAP_HEADER.size + 12 * rows
        if len(index) != wanted:
            raise _damaged(path, f"{rows} rows need {wanted} bytes, it has {len(index)}")
        self.sizes = np.frombuffer(index, np.int32, rows, _MMAP_HEADER.size)
        self._pointers = np.frombuffer(index, np.int64, rows, _MMAP_HEADER.size + 4 * rows)
        data = _map_file(data_path(prefix))
        item = np.dtype(self.dtype).itemsize
        _check_length(self.prefix, int(self.sizes.sum(dtype=np.int64)) * item, len(data))
        if rows and (int(self.sizes.min()) < 0 or int(self._pointers[-1]) + int(self.sizes[-1]) * item != len(data)):
            raise _damaged(path, "its sizes and places contradict each other")
        self._data = np.frombuffer(data, self.dtype)
        self._item = item

    def _values(self, index: int, start: int, stop: int) -> NDArray[np.int64]:
        first = int(self._pointers[index]) // self._item
        return self._data[first + start : first + stop].astype(np.int64)

    def _values_across(self, first: int, last: int, start: int, stop: int) -> NDArray[np.int64]:
        if first < last:
            between = int(self.sizes[first:last].sum(dtype=np.int64)) * self._item
            if int(self._pointers[last]) - int(self._pointers[first]) != between:
                return super()._values_across(first, last, start, stop)
        return self._values(first, start, stop)  # the rows lie one behind the other

    def __getstate__(self) -> str:
        return self.prefix

    def __setstate__(self, prefix: str) -> None:
        self.__init__(prefix)  # type: ignore[misc]


class LegacyIndexedDataset(IndexedDataset):
    """A legacy `.bin`/`.idx` pair (magic `TNTIDX`), whose rows are read when they are asked for (impl `lazy`).

    Args:
        prefix: path of the pair without its endings.
        one_based: stored values are one higher than the ids, as fairseq (after Lua) writes them.

    Raises:
        DataError: a file is missing, truncated, damaged, or of another format.
    """

    def __init__(self, prefix: str | Path, one_based: bool = True) -> None:
        self.prefix = str(prefix)
        self.one_based = one_based
        path = index_path(prefix)
        index = _map_file(path)
        _check_magic(index, path, _LEGACY_MAGIC)
        if len(index) < _LEGACY_HEADER.size:
            raise _damaged(path, f"its header needs {_LEGACY_HEADER.size} bytes, it has {len(index)}")
        _, version, code, item, rows, dimensions = _LEGACY_HEADER.unpack_from(index)
        self.dtype = _type_of(code, version, path)
        if np.dtype(self.dtype).itemsize != item:
            raise _damaged(path, f"its values of type {np.dtype(self.dtype)} cannot have {item} bytes")
        wanted = _LEGACY_HEADER.size + 8 * (2 * (rows + 1) + dimensions)
        if len(index) != wanted:
            raise _damaged(path, f"{rows} rows need {wanted} bytes, it has {len(index)}")
        if dimensions != rows:
            raise DataError(f"{path!r} holds rows of more than one dimension, which are not text")
        self._offsets = np.frombuffer(index, np.int64, rows + 1, _LEGACY_HEADER.size + 8 * (rows + 1))
        self.sizes = np.diff(self._offsets).astype(np.int32)
        data = _map_file(data_path(prefix))
        _check_length(self.prefix, int(self._offsets[-1]) * item, len(data))
        if rows and int(self.sizes.min()) < 0:
            raise _damaged(path, "its places do not increase")
        self._data = np.frombuffer(data, self.dtype)

    def _values(self, index: int, start: int, stop: int) -> NDArray[np.int64]:
        first = int(self._offsets[index])
        values = self._data[first + start : first + stop].astype(np.int64)
        return values - 1 if self.one_based else values

    def __getstate__(self) -> tuple[str, bool]:
        return self.prefix, self.one_based

    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.__init__(*state)  # type: ignore[misc]


class CachedIndexedDataset(LegacyIndexedDataset):
    """A legacy `.bin`/`.idx` pair of which `prefetch` reads the wanted rows into memory (impl `cached`).

    Rows that were not prefetched are read from the file.
    """

    supports_prefetch = True

    def __init__(self, prefix: str | Path, one_based: bool = True) -> None:
        super().__init__(prefix, one_based)
        self._cache: dict[int, NDArray[np.int64]] = {}

    def prefetch(self, indices: Iterable[int]) -> None:
        """Read rows into memory, and forget those read before that are not among them."""
        wanted = sorted({int(index) for index in indices})
        known = self._cache
        self._cache = {
            index: known[index] if index in known else super(CachedIndexedDataset, self)._values(index, 0, size)
            for index, size in zip(wanted, self.sizes[wanted].tolist(), strict=True)
        }

    def _values(self, index: int, start: int, stop: int) -> NDArray[np.int64]:
        row = self._cache.get(index)
        return super()._values(index, start, stop) if row is None else row[start:stop].copy()


class RawTextDataset(IndexedDataset):
    """A text file whose lines are encoded with a dictionary when it is opened (impl `raw`).

    Args:
        path: the text file.
        dictionary: unknown words become its unknown id.
        append_eos: end each line with the end-of-sentence id.
        reverse_order: last word first.

    Raises:
        DataError: the file is missing or not UTF-8 (the message names the line).
    """

    def __init__(
        self, path: str | Path, dictionary: Dictionary, *, append_eos: bool = True, reverse_order: bool = False
    ) -> None:
        encoder = LineEncoder(dictionary, append_eos=append_eos, reverse_order=reverse_order)
        self.lines: list[str] = []
        ids = [np.empty(0, np.int32)]
        sizes = [np.empty(0, np.int32)]
        for block in text_blocks(path):
            encoded = encoder.encode(block)
            self.lines.extend(block.split("\n")[:-1])
            ids.append(encoded.ids.astype(np.int32))
            sizes.append(encoded.sizes.astype(np.int32))
        self._ids = np.concatenate(ids)
        self.sizes = np.concatenate(sizes)
        self._ends = np.cumsum(self.sizes, dtype=np.int64)

    def get_original_text(self, index: int) -> str:
        """The line as it stands in the file, without its end."""
        return self.lines[index]

    def _values(self, index: int, start: int, stop: int) -> NDArray[np.int64]:
        first = int(self._ends[index]) - int(self.sizes[index])
        return self._ids[first + start : first + stop].astype(np.int64)


def infer_implementation(prefix: str | Path) -> str | None:
    """`"mmap"`, `"cached"` (any legacy pair) or `"raw"`, as the files at `prefix` are; None where there are none."""
    if os.path.isfile(index_path(prefix)) and os.path.isfile(data_path(prefix)):
        try:
            with open(index_path(prefix), "rb") as file:
                magic = file.read(len(_MMAP_MAGIC))
        except OSError as error:
            raise unreadable(index_path(prefix), error) from error
        if magic == _MMAP_MAGIC:
            return "mmap"
        if magic[: len(_LEGACY_MAGIC)] == _LEGACY_MAGIC:
            return "cached"
        raise _damaged(index_path(prefix), "it begins like none of the known formats")
    return "raw" if raw_path(prefix) is not None else None


def dataset_exists(prefix: str | Path, impl: str | None = None) -> bool:
    """Whether there is a dataset at `prefix`, of implementation `impl` (any for None)."""
    pair = os.path.isfile(index_path(prefix)) and os.path.isfile(data_path(prefix))
    if impl is None:
        return pair or raw_path(prefix) is not None
    return raw_path(prefix) is not None if check_implementation(impl) == "raw" else pair


def open_dataset(
    prefix: str | Path, impl: str | None = None, dictionary: Dictionary | None = None
) -> MMapIndexedDataset | LegacyIndexedDataset | RawTextDataset:
    """Open the dataset at `prefix`.

    Args:
        prefix: path without `.bin`/`.idx`; of the text file itself for `raw`.
        impl: one of `IMPLEMENTATIONS`; None recognises the format.
        dictionary: needed by `raw` only.

    Raises:
        DataError: missing, damaged, or of another format than `impl` says.
        UserError: an unknown `impl`.
    """
    if impl is not None:
        check_implementation(impl)
    found = infer_implementation(prefix) if impl != "raw" else None
    impl = impl or found
    if impl == "raw":
        path = raw_path(prefix)
        if path is None:
            raise DataError(f"there is no text file {str(prefix)!r}")
        if dictionary is None:
            raise UserError(f"{str(prefix)!r} is raw text; reading it needs a dictionary")
        return RawTextDataset(path, dictionary)
    if found is None:
        raise DataError(f"there is no dataset {str(prefix)!r}: {index_path(prefix)!r} and its .bin do not both exist")
    if impl == "mmap":
        return MMapIndexedDataset(prefix)
    return LegacyIndexedDataset(prefix) if impl == "lazy" else CachedIndexedDataset(prefix)


def check_implementation(impl: str) -> str:
    """Return `impl` if it is one of `IMPLEMENTATIONS`.

    Raises:
        UserError: it is not.
    """
    if impl not in IMPLEMENTATIONS:
        hint = did_you_mean(impl, IMPLEMENTATIONS) or f"; there are: {', '.join(IMPLEMENTATIONS)}"
        raise UserError(f"unknown dataset implementation {impl!r}{hint}")
    return impl


def _map_file(path: str) -> mmap.mmap | bytes:
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise unreadable(path, error) from error


def _check_magic(index: mmap.mmap | bytes, path: str, magic: bytes) -> None:
    if index[: len(magic)] == magic:
        return
    for other, impl in ((_MMAP_MAGIC, "mmap"), (_LEGACY_MAGIC, "cached")):
        if index[: len(other)] == other:
            raise DataError(f"{path!r} is of the {impl!r} format; leave dataset_impl out or set it to {impl!r}")
    raise _damaged(path, "it begins like none of the known formats")


def _check_length(prefix: str, wanted: int, length: int) -> None:
    if wanted != length:
        raise _damaged(data_path(prefix), f"its index asks for {wanted} bytes, it has {length}")


def _type_of(code: int, version: int, path: str) -> type[np.number[Any]]:
    if version != 1:
        raise DataError(f"{path!r} has format version {version}; only version 1 is known")
    if code not in _TYPES:
        raise _damaged(path, f"its value type has the unknown code {code}")
    return _TYPES[code]


def _damaged(path: str, what: str) -> DataError:
    return DataError(f"{path!r} is truncated or damaged: {what}; make it again with seqkit-preprocess")


# writing


class IndexedDatasetBuilder(ABC):
    """Writes a `.bin`/`.idx` pair row by row or in bulk, in memory that does not grow with the number of rows.

    The files appear under their names only when `finalize` succeeds. As a context manager it finalizes at the end
    of the block, and removes what it wrote if the block raises.

    Args:
        prefix: path of the pair without its endings.
        dtype: type of the stored values.

    Raises:
        OSError: as the operating system says (disk full, no permission).
    """

    stored_offset: ClassVar[int] = 0

    def __init__(self, prefix: str | Path, dtype: DTypeLike) -> None:
        self.prefix = str(prefix)
        self.dtype = np.dtype(dtype)
        self.code = next((code for code, known in _TYPES.items() if self.dtype == known), 0)
        if not self.code:
            raise UserError(f"values of type {self.dtype} cannot be stored in an indexed dataset")
        folder, name = os.path.split(self.prefix)
        self._temporary = {end: os.path.join(folder, f".{name}.{os.getpid()}{end}.tmp") for end in (".bin", ".idx")}
        self._files = contextlib.ExitStack()
        self._data = self._files.enter_context(open(self._temporary[".bin"], "wb"))  # noqa: SIM115
        try:
            self._sizes = self._files.enter_context(tempfile.TemporaryFile(dir=folder or "."))  # noqa: SIM115
        except BaseException:
            self.abort()
            raise
        self.rows = 0

    def add_item(self, row: ArrayLike | Tensor) -> None:
        """Add one row of integers (a tensor, an array or a list)."""
        values = np.asarray(row)
        self.add_rows(values, np.array([values.size]))

    def add_rows(self, values: NDArray[Any], sizes: NDArray[Any]) -> None:
        """Add many rows.

        Args:
            values: (sum of sizes,) integers, row after row.
            sizes: (rows,) lengths.

        Raises:
            ValueError: a value does not fit the type of the file, or the sizes do not add up.
        """
        if values.size != sizes.sum():
            raise ValueError(f"{values.size} values for rows of {sizes.sum()} in all")
        if values.size:
            if self.dtype.kind in "iu":
                limits = np.iinfo(self.dtype)
                low, high = int(values.min()) + self.stored_offset, int(values.max()) + self.stored_offset
                if low < limits.min or high > limits.max:
                    raise ValueError(f"values from {low} to {high} do not fit into {self.dtype}")
            stored = values + self.stored_offset if self.stored_offset else values
            self._data.write(stored.astype(self.dtype).tobytes())
        self._add_sizes(sizes)

    def _add_sizes(self, sizes: NDArray[Any]) -> None:
        self._sizes.write(sizes.astype(np.int64).tobytes())
        self.rows += len(sizes)

    def merge(self, prefix: str | Path) -> None:
        """Append the rows of another pair of the same format and type.

        Raises:
            DataError: it is missing, damaged, or of another type.
        """
        other = self._open(prefix)
        if np.dtype(other.dtype) != self.dtype:
            raise DataError(f"{str(prefix)!r} holds {np.dtype(other.dtype)}, which cannot be added to {self.dtype}")
        with open(data_path(prefix), "rb") as source:
            shutil.copyfileobj(source, self._data, 1 << 20)
        for start in range(0, len(other), _ROWS_AT_ONCE):
            self._add_sizes(other.sizes[start : start + _ROWS_AT_ONCE])

    def finalize(self) -> None:
        """Write the index, make both files durable, and give them their names."""
        try:
            with open(self._temporary[".idx"], "wb") as index:
                self._write_index(index)
                _flush(index)
            _flush(self._data)
            self._files.close()
            os.replace(self._temporary[".bin"], data_path(self.prefix))
            os.replace(self._temporary[".idx"], index_path(self.prefix))
        except BaseException:
            self.abort()
            raise
        sync_folder(os.path.dirname(self.prefix) or ".")

    def abort(self) -> None:
        """Remove everything written so far."""
        with contextlib.suppress(OSError):  # closing flushes, which fails again on a full disk
            self._files.close()
        for path in self._temporary.values():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.finalize()
        else:
            self.abort()

    def _size_blocks(self) -> Iterator[NDArray[np.int64]]:
        self._sizes.seek(0)
        while data := self._sizes.read(8 * _ROWS_AT_ONCE):
            yield np.frombuffer(data, np.int64)

    def _size_and_end_blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each row its size, and how many values there are up to its end."""
        before = 0
        for sizes in self._size_blocks():
            ends = np.cumsum(sizes) + before
            yield sizes, ends
            before = int(ends[-1])

    @abstractmethod
    def _open(self, prefix: str | Path) -> MMapIndexedDataset | LegacyIndexedDataset: ...

    @abstractmethod
    def _write_index(self, file: IO[bytes]) -> None: ...


class MMapIndexedDatasetBuilder(IndexedDatasetBuilder):
    """Writes the memory-mapped format. See `IndexedDatasetBuilder`."""

    def _open(self, prefix: str | Path) -> MMapIndexedDataset:
        return MMapIndexedDataset(prefix)

    def _write_index(self, file: IO[bytes]) -> None:
        file.write(_MMAP_HEADER.pack(_MMAP_MAGIC, 1, self.code, self.rows))
        for sizes in self._size_blocks():
            file.write(sizes.astype(np.int32).tobytes())
        for sizes, ends in self._size_and_end_blocks():
            file.write(((ends - sizes) * self.dtype.itemsize).tobytes())


class LegacyIndexedDatasetBuilder(IndexedDatasetBuilder):
    """Writes the legacy format (int32, each value one higher). See `IndexedDatasetBuilder`."""

    stored_offset = 1

    def __init__(self, prefix: str | Path, dtype: DTypeLike = np.int32) -> None:
        super().__init__(prefix, dtype)

    def _open(self, prefix: str | Path) -> LegacyIndexedDataset:
        return LegacyIndexedDataset(prefix)

    def _write_index(self, file: IO[bytes]) -> None:
        header = (_LEGACY_MAGIC, 1, self.code, self.dtype.itemsize, self.rows, self.rows)
        file.write(_LEGACY_HEADER.pack(*header))
        for start in range(0, self.rows + 1, _ROWS_AT_ONCE):
            file.write(np.arange(start, min(start + _ROWS_AT_ONCE, self.rows + 1), dtype=np.int64).tobytes())
        file.write(bytes(8))
        for _, ends in self._size_and_end_blocks():
            file.write(ends.tobytes())
        for sizes in self._size_blocks():
            file.write(sizes.tobytes())


def make_builder(prefix: str | Path, impl: str = "mmap", vocab_size: int | None = None) -> IndexedDatasetBuilder:
    """The builder of an implementation (`mmap`, or `cached`/`lazy` for the legacy format).

    Args:
        vocab_size: ids are below it; decides the type of `mmap` values, see `best_dtype`.
    """
    if check_implementation(impl) == "raw":
        raise UserError("raw datasets are plain text files; there is nothing to build")
    if impl == "mmap":
        return MMapIndexedDatasetBuilder(prefix, best_dtype(vocab_size))
    return LegacyIndexedDatasetBuilder(prefix)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
