"""Checkpoint files: written whole or not at all, read without running anything that is in them.

A file is a zip archive as `torch.save` makes it, so `torch.load(path, weights_only=True)` opens it too. The archive's
comment, its very last bytes, is the SHA-256 of all bytes before it, so that a single changed bit anywhere is noticed on
reading. Files without that seal (older ones, and those of other programs) are checked by the CRC-32 that archives keep
of each record, which torch itself does not look at. Knows nothing of training, nor of which files are kept.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from seqkit.checkpoint.state import FORMAT, SHARDS, CheckpointState
from seqkit.errors import CheckpointError, DamagedCheckpointError
from seqkit.files import atomic_write, sync_folder

_FIELDS = tuple(field.name for field in fields(CheckpointState))
_CHUNK = 1 << 24
_SEAL = b"seqkit-sha256:"
_SEAL_SIZE = len(_SEAL) + 64
_END_OF_ARCHIVE = b"PK\x05\x06"
_END_SIZE = 22
"""The record that ends a zip archive: its last two bytes are the length of the comment that follows."""


class WritingAbandonedError(Exception):
    """The one who asked for a checkpoint wants it no more."""


def write_checkpoint(path: str | Path, state: CheckpointState, *, abandoned: Callable[[], bool] | None = None) -> None:
    """Write `state` to `path`: to a temporary file beside it, sealed, fsynced, then renamed.

    Args:
        abandoned: asked between pieces; where it says so, writing ends and leaves nothing behind.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; what was at `path` before is untouched.
        TypeError: `state` holds something other than tensors and plain containers, and could not be read back.
        WritingAbandonedError: `abandoned` said so.
    """
    content = {"format": FORMAT} | {name: getattr(state, name) for name in _FIELDS}
    _require_plain(content, "state")
    target = Path(path)
    try:
        with atomic_write(target) as file:
            sink = _Sink(file, abandoned)
            try:
                torch.save(content, cast(IO[bytes], sink))
            except RuntimeError:
                # torch reports a failed write in its own words; the operating system's are the ones to tell.
                if sink.error is not None:
                    raise sink.error from None
                raise
            sink.seal()
    except OSError as error:
        raise write_failure(target, error) from error


def read_checkpoint(path: str | Path) -> CheckpointState:
    """The checkpoint in `path`, with all tensors on the CPU.

    Raises:
        DamagedCheckpointError: the file is truncated, or a byte of it is not what was written.
        CheckpointError: the file is missing or not a seqkit checkpoint.
    """
    content = _load(Path(path), verify=True)
    unknown = sorted(set(content) - {"format", *_FIELDS})
    if unknown:
        raise CheckpointError(f"{path} holds entries that this version of seqkit does not know: {', '.join(unknown)}")
    missing = sorted({"config", "model"} - set(content))
    if missing:
        raise CheckpointError(f"{path} is incomplete: it has no {' and no '.join(missing)}")
    state = CheckpointState(**{name: content[name] for name in _FIELDS if name in content})
    if SHARDS not in state.extra:
        return state
    from seqkit.checkpoint.sharded import read_shards  # torch's part for this is slow to import

    return read_shards(state, Path(path))


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` is a checkpoint that seqkit wrote (of this format or a later one), damaged or not."""
    if is_sealed(path):
        return True
    try:
        content = _load(Path(path), verify=False, any_format=True)
    except CheckpointError:
        return False
    return str(content.get("format", "")).startswith(FORMAT.rsplit("-", 1)[0])


def is_sealed(path: str | Path) -> bool:
    """Whether a file ends with the SHA-256 that seqkit's checkpoints end with, right or wrong."""
    try:
        return _stored_digest(Path(path)) is not None
    except OSError:
        return False


def checkpoint_progress(path: str | Path) -> dict[str, Any]:
    """The `progress` of a checkpoint that seqkit wrote, without reading its tensors or checking the file.

    Raises:
        CheckpointError: the file is missing, not a seqkit checkpoint, or so damaged that it cannot be told.
    """
    progress = _load(Path(path), verify=False, any_format=True).get("progress")
    return progress if isinstance(progress, dict) else {}


def checkpoint_shards(path: str | Path) -> str | None:
    """The folder, beside a checkpoint, that holds its tensors; None where the file itself does.

    Raises:
        CheckpointError: as `checkpoint_progress`.
    """
    extra = _load(Path(path), verify=False, any_format=True).get("extra")
    return str(extra[SHARDS]["folder"]) if isinstance(extra, dict) and SHARDS in extra else None


def is_archive(path: str | Path) -> bool:
    """Whether a file ends as a zip archive does.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end that contradicts itself
        return False


def verify_archive(path: str | Path) -> None:
    """Read all of a `.pt` archive against its checksums: seqkit's seal, or the CRC-32 of each record.

    Raises:
        DamagedCheckpointError: one of them is wrong.
        OSError: the file cannot be read.
    """
    file = Path(path)
    stored = _stored_digest(file)
    if stored is not None:
        if _digest(file) != stored:
            raise DamagedCheckpointError(f"{path} is damaged: its bytes are not those of its SHA-256 checksum")
        return
    try:
        with zipfile.ZipFile(file) as archive:
            if archive.comment:
                raise DamagedCheckpointError(f"{path} is damaged: its checksum cannot be read")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise DamagedCheckpointError(f"{path} is damaged: {_first_line(error)}") from error
    if damaged is not None:
        raise DamagedCheckpointError(f"{path} is damaged: the checksum of its record {damaged!r} is wrong")


def remove_leftovers(folder: str | Path, older_than: float = 60.0) -> list[str]:
    """Delete what killed processes left half-written.

    A temporary file is left over if no process of its number runs on this machine (but this one, which has only begun)
    and nothing was written to it for `older_than` seconds, as a process on another machine would do.

    Returns:
        names of the files deleted.
    """
    removed = []
    for path in Path(folder).glob(".checkpoint*.tmp"):
        match = re.fullmatch(r"\.checkpoint.*\.(\d+)\.tmp", path.name)
        if match is None or (int(match[1]) != os.getpid() and _is_running(int(match[1]))):
            continue
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_than:
                path.unlink()
                removed.append(path.name)
    return sorted(removed)


def copy_checkpoint(source: str | Path, target: str | Path) -> None:
    """Make `target` the same checkpoint as `source`: a hard link where the file system has them, else a copy.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written.
    """
    source, target = Path(source), Path(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        try:
            os.link(source, temporary)
        except OSError:
            with atomic_write(target) as file, open(source, "rb") as original:
                shutil.copyfileobj(original, file, _CHUNK)
            return
        try:
            os.replace(temporary, target)
        finally:
            # Renaming one name of a file to another name of the same file leaves both.
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        sync_folder(target.parent)
    except OSError as error:
        raise write_failure(target, error) from error


def require_writable(folder: str | Path) -> None:
    """Make the folder for checkpoints, and find out now whether files can be written there.

    Raises:
        CheckpointError: they cannot.
    """
    place = Path(folder)
    probe = place / f".checkpoint-write-test.{os.getpid()}.tmp"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with open(probe, "wb") as file:
            file.write(b"\0")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(
            f"checkpoint.save_dir={folder} cannot be written ({reason}); give a folder that can, "
            "or set checkpoint.no_save=true"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def write_failure(target: Path, error: OSError) -> CheckpointError:
    """The user's words for a checkpoint that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CheckpointError(
            f"no space left on the disk of {target.parent} while writing {target.name}; nothing half-written was left "
            "behind and earlier checkpoints are whole. Free some space (checkpoint.keep_last_epochs and "
            "keep_interval_updates keep fewer files) and start the same command again"
        )
    return CheckpointError(f"cannot write the checkpoint {target}: {error.strerror or error}")


class _Sink:
    """A file that hashes what it is given, seals the archive, and remembers why a write failed."""

    def __init__(self, file: IO[bytes], abandoned: Callable[[], bool] | None = None) -> None:
        self._file = file
        self._abandoned = abandoned
        self._hash = hashlib.sha256()
        self._held = b""
        self.error: Exception | None = None

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        # The archive's last two bytes say that it has no comment; they are held back until it has one.
        kept = max(len(view) - 2, 0)
        self._put(self._held[: max(len(self._held) + len(view) - 2, 0)])
        self._put(view[:kept])
        self._held = (self._held + bytes(view[kept:]))[-2:]
        return len(view)

    def seal(self) -> None:
        """Append the checksum as the archive's comment."""
        assert self._held == b"\0\0", "torch.save ended with something other than an archive without comment"
        self._put(_SEAL_SIZE.to_bytes(2, "little"))
        self._file.write(_SEAL + self._hash.hexdigest().encode())

    def flush(self) -> None:
        self._file.flush()

    def _put(self, data: bytes | memoryview) -> None:
        try:
            for start in range(0, len(data), _CHUNK):
                if self._abandoned is not None and self._abandoned():
                    raise WritingAbandonedError
                piece = data[start : start + _CHUNK]
                self._hash.update(piece)
                self._file.write(piece)
        except (OSError, WritingAbandonedError) as error:
            self.error = error
            raise


def _stored_digest(path: Path) -> str | None:
    """The checksum at the end of a file, None where there is none."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _END_SIZE - _SEAL_SIZE))
        tail = file.read()
    end, comment = tail[:_END_SIZE], tail[_END_SIZE:]
    if not (end.startswith(_END_OF_ARCHIVE) and comment.startswith(_SEAL) and len(comment) == _SEAL_SIZE):
        return None
    return comment[len(_SEAL) :].decode("ascii", "replace")


def _digest(path: Path) -> str:
    """SHA-256 of a sealed file but for the seal itself."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        left = os.fstat(file.fileno()).st_size - _SEAL_SIZE
        while left > 0:
            piece = file.read(min(left, _CHUNK))
            if not piece:
                break
            hasher.update(piece)
            left -= len(piece)
    return hasher.hexdigest()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _load(path: Path, *, verify: bool, any_format: bool = False) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"no such checkpoint: {path}{_neighbours(path)}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give a checkpoint file in it, such as {path}/checkpoint_best.pt")
    try:
        if not is_archive(path):
            raise DamagedCheckpointError(
                f"{path} is not a checkpoint, or is truncated: {path.stat().st_size} bytes, no archive"
            )
        if verify:
            verify_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=not verify)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file makes torch's reader fail in any way
        raise CheckpointError(f"{path} is damaged or not a seqkit checkpoint: {_first_line(error)}") from error
    if not isinstance(content, dict) or (content.get("format") != FORMAT and not any_format):
        found = content.get("format") if isinstance(content, dict) else None
        what = f"of format {found!r}" if isinstance(found, str) else "of another program"
        raise CheckpointError(f"{path} is a file {what}; this version of seqkit reads {FORMAT!r}")
    return content


def _neighbours(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" (and no folder {folder})"
    names = sorted(item.name for item in folder.glob("*.pt"))
    if not names:
        return " (the folder holds no .pt file)"
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"; there are: {shown}"


def _require_plain(value: Any, where: str) -> None:
    if value is None or isinstance(value, Tensor):
        return
    if type(value) in (bool, int, float, str):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) not in (bool, int, float, str):
                raise TypeError(f"{where} has a key of type {type(key).__name__}, which a checkpoint cannot hold")
            _require_plain(item, f"{where}[{key!r}]")
        return
    if type(value) in (list, tuple):
        for position, item in enumerate(value):
            _require_plain(item, f"{where}[{position}]")
        return
    raise TypeError(f"{where} is a {type(value).__name__}, which a checkpoint cannot hold")


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
