"""Checkpoint files: written whole or not at all, read without running anything that is in them.

A file is a zip archive as `torch.save` makes it, so `torch.load(path, weights_only=True)` opens it too; the CRC-32 that
the archive keeps of each record is verified on reading. Knows nothing of training, nor of which files are kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from seqkit.checkpoint.state import FORMAT, CheckpointState
from seqkit.errors import CheckpointError
from seqkit.files import atomic_write, sync_folder

_FIELDS = tuple(field.name for field in fields(CheckpointState))
_CHUNK = 1 << 20


def write_checkpoint(path: str | Path, state: CheckpointState) -> None:
    """Write `state` to `path`: to a temporary file beside it, fsynced, then renamed.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; what was at `path` before is untouched.
        TypeError: `state` holds something other than tensors and plain containers, and could not be read back.
    """
    content = {"format": FORMAT} | {name: getattr(state, name) for name in _FIELDS}
    _require_plain(content, "state")
    target = Path(path)
    try:
        with atomic_write(target) as file:
            sink = _Sink(file)
            try:
                torch.save(content, cast(IO[bytes], sink))
            except RuntimeError:
                # torch reports a failed write in its own words; the operating system's are the ones to tell.
                if sink.error is not None:
                    raise sink.error from None
                raise
    except OSError as error:
        raise write_failure(target, error) from error


def read_checkpoint(path: str | Path) -> CheckpointState:
    """The checkpoint in `path`, with all tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, truncated, or not a seqkit checkpoint.
    """
    content = _load(Path(path), verify=True)
    unknown = sorted(set(content) - {"format", *_FIELDS})
    if unknown:
        raise CheckpointError(f"{path} holds entries that this version of seqkit does not know: {', '.join(unknown)}")
    missing = sorted({"config", "model"} - set(content))
    if missing:
        raise CheckpointError(f"{path} is incomplete: it has no {' and no '.join(missing)}")
    return CheckpointState(**{name: content[name] for name in _FIELDS if name in content})


def is_checkpoint(path: str | Path) -> bool:
    """Whether `path` is a checkpoint that seqkit wrote (of this format or a later one)."""
    try:
        content = _load(Path(path), verify=False, any_format=True)
    except CheckpointError:
        return False
    return str(content.get("format", "")).startswith(FORMAT.rsplit("-", 1)[0])


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
    probe = place / f".seqkit-write-test.{os.getpid()}"
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
    """A file that remembers why a write failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _load(path: Path, *, verify: bool, any_format: bool = False) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"no such checkpoint: {path}{_neighbours(path)}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give a checkpoint file in it, such as {path}/checkpoint_best.pt")
    try:
        if not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} is not a checkpoint, or is truncated: {path.stat().st_size} bytes, no archive"
            )
        if verify:
            _verify(path)
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


def _verify(path: Path) -> None:
    """Read every record against its CRC-32, which torch itself does not look at."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its record {damaged!r} is wrong")


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
