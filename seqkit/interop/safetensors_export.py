"""Weights to and from safetensors files, which other programs read without pickle.

A file holds each tensor once; what else is needed is in its metadata: `format` (`"pt"`), `config` (the whole root
config as JSON), `shared` (JSON: name -> the name under which the same tensor is stored), `num_updates`.
Knows nothing of models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from seqkit.checkpoint.io import write_failure
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError, DamagedCheckpointError, require_extra
from seqkit.files import atomic_write

_PURPOSE = "reading and writing .safetensors files"
_WRITER = "seqkit"


def export_safetensors(state: CheckpointState, path: str | Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write a checkpoint's weights and configuration to `path`.

    Tensors that occur under several names (tied embeddings) are stored under the first; `shared` tells the others.

    Args:
        metadata: more entries for the file's metadata.

    Raises:
        MissingExtraError: the `safetensors` package is not installed (extra `export`).
        CheckpointError: the file cannot be written; what was at `path` before is untouched.
    """
    library = require_extra("safetensors.torch", extra="export", purpose=_PURPOSE)
    tensors, shared = _distinct(state.model)
    entries = {
        "format": "pt",
        "writer": _WRITER,
        "config": json.dumps(state.config),
        "shared": json.dumps(shared),
        "num_updates": str(state.progress.get("num_updates", 0)),
    }
    target = Path(path)
    try:
        with atomic_write(target) as file:
            file.write(library.save(tensors, metadata=entries | (metadata or {})))
    except OSError as error:
        raise write_failure(target, error) from error


def is_safetensors(path: str | Path) -> bool:
    """Whether a file begins as safetensors files do: the length of a JSON header, and that."""
    try:
        with open(path, "rb") as file:
            beginning = file.read(9)
            size = Path(path).stat().st_size
    except OSError:
        return False
    return len(beginning) == 9 and beginning[8:] == b"{" and int.from_bytes(beginning[:8], "little") + 8 <= size


def read_safetensors(path: str | Path) -> CheckpointState:
    """Weights and configuration that `export_safetensors` wrote, as a checkpoint without training state.

    Raises:
        MissingExtraError: the `safetensors` package is not installed (extra `export`).
        CheckpointError: the file is damaged, or was not written by seqkit.
    """
    library = require_extra("safetensors", extra="export", purpose=_PURPOSE)
    try:
        with library.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            model: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (library.SafetensorError, OSError) as error:
        raise DamagedCheckpointError(f"{path} is damaged or no safetensors file: {error}") from error
    if metadata.get("writer") != _WRITER:
        raise CheckpointError(
            f"{path} was not written by seqkit, and does not say what model its weights are of; give a checkpoint"
        )
    shared: dict[str, str] = json.loads(metadata["shared"])
    model |= {name: model[stored] for name, stored in shared.items()}
    config: dict[str, Any] = json.loads(metadata["config"])
    return CheckpointState(config=config, model=model, progress={"num_updates": int(metadata["num_updates"])})


def _distinct(model: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, contiguous; and the other names of those that have several."""
    first_names: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    for name, tensor in model.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in first_names:
            shared[name] = first_names[key]
        else:
            first_names[key] = name
            alone = tensor.untyped_storage().nbytes() == tensor.nbytes
            tensors[name] = (tensor.detach() if alone else tensor.detach().clone()).cpu().contiguous()
    return tensors, shared
