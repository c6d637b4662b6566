"""The door through which commands and the hub open a checkpoint file, whatever system wrote it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from seqkit.checkpoint.io import is_archive, is_checkpoint, read_checkpoint, verify_archive
from seqkit.checkpoint.policy import suffixed
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError, DamagedCheckpointError
from seqkit.interop.fairseq import checkpoint as fairseq_checkpoint
from seqkit.interop.safe_load import safe_load, trusting_load
from seqkit.interop.safetensors_export import is_safetensors, read_safetensors

_ARCHIVE = b"PK\x03\x04"


def open_checkpoint(path: str | Path, *, trust_pickle: bool = False) -> CheckpointState:
    """Read a checkpoint of seqkit or of fairseq, or weights that seqkit exported to safetensors, on the CPU.

    Args:
        path: the file.
        trust_pickle: also load old files that hold more than data, running the code they name. A warning is given.

    Raises:
        DamagedCheckpointError: the file is truncated or its checksums are wrong.
        CheckpointError: missing, unsafe, or of no format known here.
    """
    if is_checkpoint(path):
        return read_checkpoint(path)
    if is_safetensors(path):
        return read_safetensors(path)
    _require_whole(Path(path))
    raw = trusting_load(path) if trust_pickle else safe_load(path)
    if fairseq_checkpoint.is_fairseq(raw):
        return fairseq_checkpoint.convert(raw, str(path))
    raise CheckpointError(
        f"{path} is neither a seqkit nor a fairseq checkpoint; give a file written by seqkit-train or fairseq-train"
    )


def open_parts(
    path: str | Path, *, suffix: str = "", shard_count: int = 1, trust_pickle: bool = False
) -> CheckpointState:
    """Read a checkpoint by fairseq's rules for suffixes (`checkpoint.checkpoint_suffix`) and parts (`…_shard_count`).

    The suffix goes before `.pt`. With a count above 1, `NAME_part0.pt`, `NAME_part1.pt`, … are read instead of
    `NAME.pt`: each holds some of the weights, and the first the rest of the checkpoint.

    Raises:
        CheckpointError: as `open_checkpoint`; parts are missing or hold different weights of one name.
    """
    if shard_count == 1:
        return open_checkpoint(suffixed(path, suffix), trust_pickle=trust_pickle)
    stem = str(path).removesuffix(".pt")
    flat = [name for name in (f"{stem}{suffix}-shard{index}.pt" for index in range(shard_count)) if Path(name).exists()]
    if flat:
        raise CheckpointError(
            f"{flat[0]} is a shard of fairseq's FullyShardedDataParallel, whose flattened parameters only the "
            "fairscale library can put together; save the checkpoint again without --use-sharded-state"
        )
    names = [f"{stem}_part{index}.pt" for index in range(shard_count)]
    missing = [name for name in names if not Path(name).exists()]
    if missing:
        raise CheckpointError(
            f"checkpoint.checkpoint_shard_count={shard_count}, but there is no {' and no '.join(missing)}"
        )
    first, *others = (open_checkpoint(name, trust_pickle=trust_pickle) for name in names)
    merged = dict(first.model)
    for name, part in zip(names[1:], others, strict=True):
        for key, tensor in part.model.items():
            if key in merged and not (merged[key].shape == tensor.shape and merged[key].equal(tensor)):
                raise CheckpointError(
                    f"{key} in {name} is not what it is in an earlier part: they are of different models"
                )
            merged[key] = tensor
    return replace(first, model=merged)


def _require_whole(path: Path) -> None:
    """Archives of other programs are checked as well: torch would take changed bytes for weights."""
    if not path.is_file():
        return
    try:
        with open(path, "rb") as file:
            begins_as_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
        if is_archive(path):
            verify_archive(path)
        elif begins_as_archive:
            raise DamagedCheckpointError(f"{path} is truncated or damaged: its end is not that of an archive")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
