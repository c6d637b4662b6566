"""The door through which commands and the hub open a checkpoint file, whatever system wrote it."""

from __future__ import annotations

from pathlib import Path

from seqkit.checkpoint.io import is_checkpoint, read_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError
from seqkit.interop.fairseq import checkpoint as fairseq_checkpoint
from seqkit.interop.safe_load import safe_load, trusting_load


def open_checkpoint(path: str | Path, *, trust_pickle: bool = False) -> CheckpointState:
    """Read a checkpoint of seqkit or of fairseq, on the CPU.

    Args:
        path: the file.
        trust_pickle: also load old files that hold more than data, running the code they name. A warning is given.

    Raises:
        CheckpointError: missing, damaged, unsafe, or of no format known here.
    """
    if is_checkpoint(path):
        return read_checkpoint(path)
    raw = trusting_load(path) if trust_pickle else safe_load(path)
    if fairseq_checkpoint.is_fairseq(raw):
        return fairseq_checkpoint.convert(raw, str(path))
    raise CheckpointError(
        f"{path} is neither a seqkit nor a fairseq checkpoint; give a file written by seqkit-train or fairseq-train"
    )
