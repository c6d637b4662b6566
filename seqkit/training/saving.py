"""Writing a save's checkpoint files and deleting those no longer kept, while training goes on.

Knows nothing of what is in a state.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from seqkit.checkpoint.background import Background
from seqkit.checkpoint.io import copy_checkpoint, write_checkpoint
from seqkit.checkpoint.policy import CheckpointPolicy, SaveEvent
from seqkit.checkpoint.staging import Staging, available_memory
from seqkit.checkpoint.state import CheckpointState
from seqkit.checkpoint.weights import state_on_cpu

logger = logging.getLogger(__name__)

_PATIENCE = 2.0
"""Seconds that an abandoned write gets to clear up after itself."""


@dataclass(frozen=True)
class Saved:
    """A save that is done.

    Attributes:
        event: the moment whose state was saved.
        written: names written, the most specific first.
        deleted: names deleted.
        stalled: seconds that training waited for it, and for the save before where that was still going on.
        took: seconds until it was on the disk.
    """

    event: SaveEvent
    written: Sequence[str]
    deleted: Sequence[str]
    stalled: float = 0.0
    took: float = 0.0


class CheckpointSaver:
    """Keeps one folder of checkpoints. Used as a context manager, it leaves no write behind.

    With `asynchronous`, `save` copies the state in memory and returns; a thread writes the copy. There is never more
    than one write at a time, and files are deleted only once what replaces them is on the disk. Where memory is too
    short for the copy, the save is written before training goes on.

    Args:
        policy: says which files.
        folder: exists and can be written (`checkpoint.io.require_writable`).
        asynchronous: write while training goes on.
        writing: makes the context in which files are written (`Communication.saving`); it is entered before `save`
            returns.
    """

    def __init__(
        self,
        policy: CheckpointPolicy,
        folder: str | Path,
        *,
        asynchronous: bool = False,
        writing: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.policy = policy
        self.folder = Path(folder)
        self._asynchronous = asynchronous
        self._writing = writing
        self._background: Background[Saved] = Background()
        self._staging = Staging()
        self._told_of_memory = False
        self._waited = 0.0

    def save(self, event: SaveEvent, state: Callable[[], CheckpointState]) -> Saved | None:
        """Write and delete what this event calls for, at once or while training goes on.

        The save before must have been collected by `wait` or `finished`.

        Args:
            state: gives the state to be written, its tensors wherever they are; called only if something is written.

        Returns:
            the save, where it is already done; else `wait` or `finished` will return it.

        Raises:
            CheckpointError: a file could not be written; files of before are whole, none was deleted.
        """
        begin = time.perf_counter() - self._waited
        self._waited = 0.0
        names = self.policy.files_to_write(event, self._names())
        if not names:
            return Saved(event, (), self._delete(event))
        live = state()
        if not self._asynchronous or not self._fits_in_memory(live):
            with self._writing():
                saved = self._write_and_delete(event, names, state_on_cpu(live), begin)
            return Saved(event, saved.written, saved.deleted, stalled=saved.took, took=saved.took)
        copy = self._staging.copy(live)
        stalled = time.perf_counter() - begin
        self._write_beside(
            lambda abandoned: self._write_and_delete(event, names, copy, begin, stalled=stalled, abandoned=abandoned)
        )
        return None

    def _write_beside(self, job: Callable[[Callable[[], bool]], Saved]) -> None:
        """Do a job while training goes on."""
        writing = contextlib.ExitStack()
        writing.enter_context(self._writing())

        def work(abandoned: Callable[[], bool]) -> Saved:
            with writing:
                return job(abandoned)

        self._background.start(work)

    def finished(self) -> Saved | None:
        """The save that has been done since the last call of this or `wait`, if one has.

        Raises:
            CheckpointError: it could not be written; files of before are whole, none was deleted.
        """
        return self._background.poll()

    def wait(self) -> Saved | None:
        """As `finished`, after waiting for the write that is going on, if one is."""
        begin = time.perf_counter()
        try:
            return self._background.wait()
        finally:
            self._waited = time.perf_counter() - begin

    def save_last(self, state: Callable[[], CheckpointState]) -> list[str]:
        """Write only the checkpoint that training goes on from, before returning; nothing where the config forbids it.

        Raises:
            CheckpointError: it could not be written; files of before are whole.
        """
        names = self.policy.last_only()
        if names:
            with self._writing():
                self._write(names, state_on_cpu(state()))
        return names

    def whole_state(self, state: CheckpointState) -> CheckpointState:
        """A state with all of its tensors on the CPU."""
        return state_on_cpu(state)

    def __enter__(self) -> CheckpointSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._background.abandon(_PATIENCE)  # Ctrl-C: leave now
        else:
            try:
                self._background.wait()
            except Exception as failure:
                if kind is None:
                    raise
                logger.error("%s", failure)  # beside the error that ends training
        self._staging.release()

    def _fits_in_memory(self, state: CheckpointState) -> bool:
        needed, available = self._staging.memory_needed(state), available_memory()
        if available is None or needed == 0 or needed < 0.9 * available:
            return True
        if not self._told_of_memory:
            self._told_of_memory = True
            logger.warning(
                "checkpoints are written before training goes on: a copy takes %.1f GB of memory, of %.1f GB available",
                needed / 1e9,
                available / 1e9,
            )
        return False

    def _write_and_delete(
        self,
        event: SaveEvent,
        names: Sequence[str],
        state: CheckpointState,
        begin: float,
        *,
        stalled: float = 0.0,
        abandoned: Callable[[], bool] | None = None,
    ) -> Saved:
        self._write(names, state, abandoned)
        deleted = self._delete(event)
        return Saved(event, tuple(names), deleted, stalled=stalled, took=time.perf_counter() - begin)

    def _write(self, names: Sequence[str], state: CheckpointState, abandoned: Callable[[], bool] | None = None) -> None:
        first = self.folder / names[0]
        write_checkpoint(first, state, abandoned=abandoned)
        for name in names[1:]:
            copy_checkpoint(first, self.folder / name)

    def _delete(self, event: SaveEvent) -> tuple[str, ...]:
        names = self.policy.files_to_delete(event, self._names())
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()
        return tuple(names)

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
