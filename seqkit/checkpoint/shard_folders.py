"""Checkpoints of which each process writes its own part (`distributed_training.use_sharded_state`).

    checkpoint_last.pt          an ordinary, sealed checkpoint file, in which tensors are named instead of held
    checkpoint_shards_4000/     the tensors

The file is written last and replaced by renaming, so a name stands for the old checkpoint or for the new one, never for
something between; several names share one folder. Policies that keep and delete files look at the files; a folder that
none of them names any more is deleted after them. Knows nothing of training.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from seqkit.checkpoint.io import checkpoint_shards, copy_checkpoint, write_checkpoint, write_failure
from seqkit.checkpoint.sharded import together, write_shards
from seqkit.checkpoint.state import CheckpointState
from seqkit.distributed.communication import Communication
from seqkit.errors import CheckpointError

_PREFIX = "checkpoint_shards_"


def write_sharded(folder: Path, names: Sequence[str], state: CheckpointState, communication: Communication) -> None:
    """Write one checkpoint under several names. All processes call this, and see the same folder.

    Args:
        names: of the checkpoint's files, at least one.
        state: of each process.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; what was there before is untouched.
    """
    place = folder / communication.from_main(_free_name(folder, state) if communication.is_main else "")
    temporary = place.with_name(f".{place.name}.tmp")
    try:
        outline = write_shards(place, temporary, state, communication)

        def name_it() -> None:
            if communication.is_main:
                write_checkpoint(folder / names[0], outline)
                for name in names[1:]:
                    copy_checkpoint(folder / names[0], folder / name)

        together(name_it, communication)
    except OSError as error:
        raise write_failure(folder / names[0], error) from error
    finally:
        if communication.is_main:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_unused_shards(folder: str | Path) -> list[str]:
    """Delete the folders of tensors that no checkpoint file names; nothing where a file cannot be read.

    To be called by one process, while none writes.

    Returns:
        names of the folders deleted.
    """
    place = Path(folder)
    present = [item for pattern in (f"{_PREFIX}*", f".{_PREFIX}*.tmp") for item in place.glob(pattern) if item.is_dir()]
    if not present:
        return []
    try:
        # A file that recovery has set aside as damaged would stop the cleaning for ever.
        files = [path for path in place.glob("checkpoint*.pt*") if path.is_file() and ".damaged" not in path.name]
        used = {checkpoint_shards(path) for path in files}
    except CheckpointError:
        return []
    unused = sorted(item for item in present if item.name not in used)
    for item in unused:
        shutil.rmtree(item, ignore_errors=True)
    return [item.name for item in unused]


def _free_name(folder: Path, state: CheckpointState) -> str:
    base = f"{_PREFIX}{state.progress.get('num_updates', 0)}"
    names = (f"{base}{ending}" for ending in ("", *(f"-{number}" for number in range(2, 10_000))))
    return next(name for name in names if not (folder / name).exists())
