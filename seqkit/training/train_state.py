"""How far training has come: the numbers that a checkpoint's `progress` holds.

Numbers only: knows nothing of models, data or files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class TrainState:
    """Progress of one training, over all the runs it was resumed in.

    Attributes:
        num_updates: optimizer steps done.
        best: the best validation figure at which a checkpoint was saved.
        val_loss: the validation figure of the last save, None where there was none.
        patience_best: the best validation figure seen, for early stopping.
        stale_validations: validations since then without improvement.
        train_time: seconds of training in earlier runs.
        pending_epoch: the epoch of a last update that was interrupted before what follows an update (validation, save,
            the end of the epoch) was done; None where nothing is pending.
        pending_end: whether that update was its epoch's last.
        skipped_updates: updates left out, for want of memory or for numbers that are not finite.
        skips_in_a_row: those since the last update that was done.
    """

    num_updates: int = 0
    best: float | None = None
    val_loss: float | None = None
    patience_best: float | None = None
    stale_validations: int = 0
    train_time: float = 0.0
    pending_epoch: int | None = None
    pending_end: bool = False
    skipped_updates: int = 0
    skips_in_a_row: int = 0
    _started: float = field(default_factory=time.perf_counter, repr=False, compare=False)

    def count_update(self) -> None:
        """An update was done."""
        self.num_updates += 1
        self.skips_in_a_row = 0

    def count_skip(self, *, fault: bool) -> None:
        """An update was left out; `fault`: not for a loss scale that was too high."""
        self.skipped_updates += 1
        self.skips_in_a_row += fault

    @property
    def total_train_time(self) -> float:
        """Seconds of training, this run included."""
        return self.train_time + self.run_time

    @property
    def run_time(self) -> float:
        """Seconds since this run began."""
        return time.perf_counter() - self._started

    def restart_clock(self) -> None:
        """The run begins now."""
        self._started = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers for a checkpoint."""
        numbers = {item.name: getattr(self, item.name) for item in fields(self) if not item.name.startswith("_")}
        return numbers | {"train_time": self.total_train_time}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned; entries that are absent keep their value."""
        for item in fields(self):
            if not item.name.startswith("_") and item.name in state:
                setattr(self, item.name, state[item.name])
        self.restart_clock()
