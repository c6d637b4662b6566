"""Reading `.pt` files without running anything that is in them.

torch's own restricted unpickler does the work; what it may build beside tensors and plain containers is listed
here, and every such name is a stand-in of ours or a plain data class. Anything else is refused and named.
Knows nothing of what the content means.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqkit.errors import CheckpointError, DamagedCheckpointError


class InertNode:
    """Stands in for a class that must not be run: keeps the pickled state and does nothing with it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _stand_in(name: str) -> type[InertNode]:
    return type(name.rsplit(".", 1)[-1], (InertNode,), {"original": name})


_INERT = (
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.basecontainer.ContainerMetadata",
    "omegaconf.nodes.AnyNode",
    "omegaconf.nodes.BooleanNode",
    "omegaconf.nodes.EnumNode",
    "omegaconf.nodes.FloatNode",
    "omegaconf.nodes.IntegerNode",
    "omegaconf.nodes.StringNode",
    # What a node notes of its own type: it is kept as a name.
    "typing.Any",
    "builtins.bool",
    "builtins.dict",
    "builtins.float",
    "builtins.int",
    "builtins.list",
    "builtins.str",
    # Training state of fairseq before 0.9, and of tasks that made their dictionaries themselves.
    "fairseq.meters.AverageMeter",
    "fairseq.meters.StopwatchMeter",
    "fairseq.meters.TimeMeter",
    "fairseq.logging.meters.AverageMeter",
    "fairseq.logging.meters.StopwatchMeter",
    "fairseq.logging.meters.TimeMeter",
    "fairseq.data.dictionary.Dictionary",
)
"""Classes of which a file may have objects: these stay what the file says of them, and no code of theirs is run."""


def _mapping(*_: Any) -> dict[Any, Any]:
    """What stands in for `collections.defaultdict`: a dictionary, to be filled."""
    return {}


def _scalar(dtype: np.dtype[Any], data: bytes) -> Any:
    """A numpy scalar as a plain Python number."""
    return np.frombuffer(data, dtype=dtype)[0].item()


def allowed_globals() -> list[Any]:
    """What a file may name: (object, the name in the file) pairs for `torch.serialization.safe_globals`."""
    pairs: list[Any] = [(_stand_in(name), name) for name in _INERT]
    pairs += [(argparse.Namespace, "argparse.Namespace"), (np.dtype, "numpy.dtype")]
    pairs.append((_mapping, "collections.defaultdict"))
    pairs += [(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    pairs += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return pairs


def safe_load(path: str | Path) -> Any:
    """The content of a `.pt` file on the CPU: tensors, plain containers, `argparse.Namespace`, inert nodes.

    Raises:
        DamagedCheckpointError: the file is damaged or not a checkpoint.
        CheckpointError: it is missing, or names an object that is not allowed.
    """
    file = _existing_file(path)
    try:
        with torch.serialization.safe_globals(allowed_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        refused = _refused_name(str(error))
        if refused is not None:
            raise CheckpointError(
                f"{path} holds an object of type {refused!r}, which is not data; it was not loaded and nothing in the "
                "file was run. If you trust the file's author, load it with checkpoint.trust_pickle=true "
                "(--trust-pickle for seqkit-convert and seqkit-average)"
            ) from None
        raise DamagedCheckpointError(f"{path} is not a checkpoint, or is damaged (no PyTorch file)") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except (IndexError, KeyError, TypeError, ValueError):  # of the unpickler, on what is no pickle
        raise DamagedCheckpointError(f"{path} is not a checkpoint, or is damaged (no PyTorch file)") from None
    except Exception as error:  # a damaged file makes torch's reader fail in any way
        raise DamagedCheckpointError(f"{path} is not a checkpoint, or is damaged: {_first_line(error)}") from None


def trusting_load(path: str | Path) -> Any:
    """The content of a `.pt` file, running whatever code it names: only for files whose author the user trusts.

    The one place that does so, reached only by `checkpoint.trust_pickle=true`: old files may hold any class.

    Raises:
        CheckpointError: the file is missing, or a folder.
    """
    file = _existing_file(path)
    warnings.warn(f"loading {path} without restrictions (checkpoint.trust_pickle=true)", stacklevel=2)
    return torch.load(file, map_location="cpu", weights_only=False)


def _existing_file(path: str | Path) -> Path:
    file = Path(path)
    if not file.exists():
        raise CheckpointError(f"no such checkpoint: {path}")
    if file.is_dir():
        raise CheckpointError(f"{path} is a folder; give a checkpoint file in it, such as {path}/checkpoint_best.pt")
    return file


def _refused_name(message: str) -> str | None:
    match = re.search(
        r"(?:Unsupported global: GLOBAL|unsupported GLOBAL|call reduce for unrecognized function) ([\w.]+)", message
    )
    return match.group(1) if match else None


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].split(". ")[0][:200] if lines else type(error).__name__
