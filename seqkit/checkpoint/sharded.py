"""A checkpoint's tensors in a folder, to which each process writes its own part (through torch.distributed.checkpoint).

The rest of the checkpoint is an outline, in which tensors are named instead of held; it has the checksums of the
folder's files. Reading needs no other process, and runs nothing that is in the files. Knows nothing of
checkpoint files.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from seqkit.checkpoint.state import SHARDS, CheckpointState
from seqkit.distributed.communication import Communication
from seqkit.errors import CheckpointError, DamagedCheckpointError
from seqkit.files import sync_folder

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata

T = TypeVar("T")

_TENSOR = "tensor"
_METADATA = ".metadata"
_CHUNK = 1 << 24


def write_shards(
    folder: Path, temporary: Path, state: CheckpointState, communication: Communication
) -> CheckpointState:
    """Write a state's tensors to a new folder, of which nothing is seen until it is complete. All processes call this.

    Args:
        folder: does not exist; all processes see the one that it is in.
        temporary: what it is called until then.
        state: of each process; tensors that are spread (`DTensor`) are written by parts, others by the main process.

    Returns:
        the outline of the state, for the checkpoint's file. (Only the main process's is complete.)

    Raises:
        OSError: as the operating system says (disk full, no permission); in all processes.
        CheckpointError: a process could not write for another reason; in all processes.
    """

    def begin() -> None:
        if communication.is_main:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)

    def finish() -> None:
        if communication.is_main:
            digests[_METADATA] = _digest(temporary / _METADATA)
            sync_folder(temporary)
            os.replace(temporary, folder)
            sync_folder(folder.parent)

    together(begin, communication)
    tensors: dict[str, Tensor] = {}
    seen: dict[int, str] = {}
    outline = {item.name: _outline(getattr(state, item.name), item.name, tensors, seen) for item in fields(state)}
    _write_tensors(temporary, tensors, communication)
    digests: dict[str, str] = {}
    for own in together(lambda: _own_digests(temporary, communication.rank), communication):
        digests |= own
    together(finish, communication)
    outline["extra"] |= {SHARDS: {"folder": folder.name, "files": digests}}
    return CheckpointState(**outline)


def together(part: Callable[[], T], communication: Communication) -> list[T]:
    """Each process does its part of something; all learn what came of it, or that one has failed.

    Args:
        part: returns numbers, texts or plain containers.

    Returns:
        the results, by rank.

    Raises:
        OSError: what the operating system said to the first process that failed; in all processes.
        CheckpointError: the reason why the first process failed; in all processes.
    """
    result, fault = None, None
    try:
        result = part()
    except OSError as error:
        fault = [error.errno, error.strerror or str(error)]
    except CheckpointError as error:
        fault = [None, str(error)]
    outcomes = [json.loads(text) for text in communication.gather_texts(json.dumps([result, fault]))]
    for _, failed in outcomes:
        if failed is not None:
            number, text = failed
            raise CheckpointError(text) if number is None else OSError(number, text)
    return [outcome for outcome, _ in outcomes]


def read_shards(outline: CheckpointState, path: Path) -> CheckpointState:
    """The whole state, on the CPU, of a checkpoint whose file holds an outline of it. No other process takes part.

    Args:
        outline: what is in the file.
        path: of the file.

    Raises:
        DamagedCheckpointError: the folder with the tensors, or a file in it, is missing or not what was written.
    """
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    class Reader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
            return _read_metadata(place)

    shards = outline.extra[SHARDS]
    place = path.parent / Path(shards["folder"]).name
    _verify(place, shards["files"], path)
    reader = Reader(place)
    metadata = reader.read_metadata()
    tensors: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    planner = DefaultLoadPlanner()
    planner.set_up_planner(tensors, metadata, True)
    reader.set_up_storage_reader(metadata, True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(plan, planner).wait()
    whole = {item.name: _filled(getattr(outline, item.name), tensors) for item in fields(outline)}
    return CheckpointState(**whole | {"extra": {key: part for key, part in whole["extra"].items() if key != SHARDS}})


def _outline(value: Any, place: str, tensors: dict[str, Tensor], seen: dict[int, str]) -> Any:
    """`value` with tensors replaced by their names; they go to `tensors`, each once."""
    if isinstance(value, Tensor):
        name = seen.setdefault(id(value), place)
        tensors[name] = value.detach()
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {key: _outline(item, f"{place}/{key}", tensors, seen) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_outline(item, f"{place}/{number}", tensors, seen) for number, item in enumerate(value))
    return value


def _filled(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {key: _filled(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(item, tensors) for item in value)
    return value


def _write_tensors(folder: Path, tensors: dict[str, Tensor], communication: Communication) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save
    from torch.distributed.tensor import DTensor

    own = {name: value for name, value in tensors.items() if communication.is_main or isinstance(value, DTensor)}
    try:
        with communication.waiting("writing a checkpoint"):
            writer = FileSystemWriter(folder, sync_files=True)
            save(own, storage_writer=writer, process_group=communication.process_group)
    except CheckpointException as error:
        causes = [failure[0] for failure in error.failures.values()]
        cause = next((each for each in causes if isinstance(each, OSError)), None)
        if cause is not None:
            raise cause from error
        raise CheckpointError(f"cannot write the checkpoint {folder}: {causes[0]}") from error


def _own_digests(folder: Path, rank: int) -> dict[str, str]:
    return {path.name: _digest(path) for path in sorted(folder.glob(f"__{rank}_*"))}


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            hasher.update(piece)
    return hasher.hexdigest()


def _verify(place: Path, digests: dict[str, str], path: Path) -> None:
    if not place.is_dir():
        raise DamagedCheckpointError(
            f"{path} is damaged: its tensors are in the folder {place}, which is not there (move or copy both together)"
        )
    for name, digest in digests.items():
        part = place / Path(name).name
        if not part.is_file():
            raise DamagedCheckpointError(f"{path} is damaged: {part} is missing")
        if _digest(part) != digest:
            raise DamagedCheckpointError(f"{path} is damaged: {part} is not what its SHA-256 checksum says")


class _MetadataReader(pickle.Unpickler):
    """Reads the description of the tensors, which torch pickles: data classes of torch's, and nothing else."""

    _CLASSES = frozenset(
        {
            *(
                ("torch.distributed.checkpoint.metadata", name)
                for name in (
                    "BytesStorageMetadata",
                    "ChunkStorageMetadata",
                    "Metadata",
                    "MetadataIndex",
                    "StorageMeta",
                    "TensorProperties",
                    "TensorStorageMetadata",
                    "_MEM_FORMAT_ENCODING",
                )
            ),
            ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
            ("torch.serialization", "_get_layout"),
            ("torch", "Size"),
            ("collections", "OrderedDict"),
            *(("pathlib", name) for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
            *(("pathlib._local", name) for name in ("PosixPath", "WindowsPath")),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._CLASSES:
            return super().find_class(module, name)
        found = getattr(torch, name, None) if module == "torch" else None
        if isinstance(found, torch.dtype):
            return found
        raise DamagedCheckpointError(
            f"the description of a checkpoint's tensors names {module}.{name}, which is refused"
        )


def _read_metadata(folder: Path) -> Metadata:
    from torch.distributed.checkpoint.metadata import Metadata

    try:
        with open(folder / _METADATA, "rb") as file:
            metadata = _MetadataReader(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError) as error:
        raise DamagedCheckpointError(f"{folder / _METADATA} is damaged: {error}") from error
    if not isinstance(metadata, Metadata):
        raise DamagedCheckpointError(f"{folder / _METADATA} is damaged: it describes no tensors")
    return metadata
