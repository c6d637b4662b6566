"""Writing a save's checkpoint files and deleting those no longer kept.

Knows nothing of what is in a state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from seqkit.checkpoint.io import copy_checkpoint, write_checkpoint
from seqkit.checkpoint.policy import CheckpointPolicy, SaveEvent
from seqkit.checkpoint.state import CheckpointState


class CheckpointSaver:
    """Keeps one folder of checkpoints.

    Args:
        policy: says which files.
        folder: exists and can be written (`checkpoint.io.require_writable`).
    """

    def __init__(self, policy: CheckpointPolicy, folder: str | Path) -> None:
        self.policy = policy
        self.folder = Path(folder)

    def save(self, event: SaveEvent, state: Callable[[], CheckpointState]) -> tuple[list[str], list[str]]:
        """Write and delete what this event calls for.

        Args:
            state: makes the state to be written; called only if something is written.

        Returns:
            names written (most specific first) and names deleted.

        Raises:
            CheckpointError: a file could not be written; files of before are whole, none was deleted.
        """
        written = self.policy.files_to_write(event, self._names())
        self._write(written, state)
        deleted = self.policy.files_to_delete(event, self._names()) if written else []
        for name in deleted:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()
        return written, deleted

    def save_last(self, state: Callable[[], CheckpointState]) -> list[str]:
        """Write only the checkpoint that training goes on from; nothing where the config forbids it."""
        written = self.policy.last_only()
        self._write(written, state)
        return written

    def _write(self, names: Sequence[str], state: Callable[[], CheckpointState]) -> None:
        if not names:
            return
        first = self.folder / names[0]
        write_checkpoint(first, state())
        for name in names[1:]:
            copy_checkpoint(first, self.folder / name)

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
