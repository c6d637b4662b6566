"""Going on where the last checkpoint is damaged: from the newest one of its folder that is intact.

Nothing is deleted. Knows nothing of training, nor of what a state means but its number of updates.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from pathlib import Path

from seqkit.checkpoint.io import checkpoint_progress, copy_checkpoint
from seqkit.checkpoint.policy import saved_checkpoints
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError, DamagedCheckpointError

logger = logging.getLogger(__name__)


def read_or_recover(
    last: Path, read: Callable[[Path], CheckpointState], suffix: str = ""
) -> tuple[Path, CheckpointState]:
    """Read `last`; where it is damaged, the newest intact checkpoint that training saved in the same folder.

    Damaged files are kept under other names (`….pt.damaged`), and `last` becomes the one that was read, so that a run
    that is killed before its first save goes on from there again. All of it is told in warnings.

    Args:
        last: the checkpoint to go on from.
        read: opens a file.
        suffix: `checkpoint.checkpoint_suffix`.

    Returns:
        the file that was read and its state.

    Raises:
        CheckpointError: `last` is damaged and nothing else is intact, or it cannot be read for another reason. Nothing
            was changed then.
    """
    try:
        return last, read(last)
    except DamagedCheckpointError as error:
        reason = str(error)
    damaged = [last]
    for candidate in _newest_first(last.parent, suffix):
        try:
            state = read(candidate)
        except DamagedCheckpointError as error:
            logger.warning("%s", error)
            damaged.append(candidate)
            continue
        except CheckpointError as error:
            logger.warning("passed over: %s", error)
            continue
        logger.warning(
            "%s. GOING ON FROM AN EARLIER CHECKPOINT instead, %s, which has %s updates",
            reason,
            candidate,
            state.progress.get("num_updates", "an unknown number of"),
        )
        for path in damaged:
            is_kept = _keep_aside(path, name_stays=path == last)
            if path == last and is_kept:
                with contextlib.suppress(CheckpointError):
                    copy_checkpoint(candidate, last)
        return candidate, state
    raise CheckpointError(
        f"{reason}; and {last.parent} has no other checkpoint that is intact. Nothing was changed: to begin anew, move "
        f"{last.name} away or give another checkpoint.save_dir"
    )


def _newest_first(folder: Path, suffix: str) -> list[Path]:
    def age(path: Path) -> tuple[float, float]:
        try:
            updates = float(checkpoint_progress(path).get("num_updates", -1))
        except DamagedCheckpointError:
            updates = math.inf  # first, to be found damaged
        except CheckpointError:
            updates = -1  # another system's: after the others, by its date
        return updates, path.stat().st_mtime

    return sorted(saved_checkpoints(folder, suffix), key=age, reverse=True)


def _keep_aside(path: Path, *, name_stays: bool) -> bool:
    """Give a damaged file another name; whether that was possible.

    Args:
        name_stays: it has its old name too, so that whoever is killed now finds a checkpoint under that name again.
    """
    names = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *(f"-{n}" for n in range(2, 1000))))
    aside = next(name for name in names if not name.exists())
    try:
        if name_stays:
            copy_checkpoint(path, aside)
        else:
            path.rename(aside)
    except (OSError, CheckpointError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else error
        logger.warning("the damaged file %s could not be kept under another name: %s", path, told)
        return False
    logger.warning("the damaged file is kept as %s", aside)
    return True
