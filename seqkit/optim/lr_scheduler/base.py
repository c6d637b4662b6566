"""What every learning-rate schedule promises. A schedule writes the rate into its optimizer."""

from __future__ import annotations

from abc import ABC
from typing import Any, Protocol, runtime_checkable

import torch

from seqkit.config.base import Config
from seqkit.errors import ConfigError
from seqkit.optim.base import get_lr, set_lr
from seqkit.registry import registry

register_lr_scheduler = registry("lr_scheduler").register


class LRScheduler(ABC):
    """Base of all schedules. The three `step*` methods return the rate now in force.

    The trainer calls `step_update(0)` once before training, `step_begin_epoch(epoch)` at each epoch's start,
    `step_update(n)` after the n-th update (so that rate u is in force at update u + 1, as in fairseq), and
    `step(epoch, val_loss)` after each epoch's validation.
    """

    def __init__(self, config: Any, optimizer: torch.optim.Optimizer) -> None:
        self.config = config
        self.optimizer = optimizer
        self.best: float | None = None

    def step_begin_epoch(self, epoch: int) -> float:
        """Epoch `epoch` (from 1) begins."""
        return self.lr

    def step(self, epoch: int, val_loss: float | None = None) -> float:
        """Epoch `epoch` has ended with this validation loss."""
        if val_loss is not None:
            self.best = val_loss if self.best is None else min(self.best, val_loss)
        return self.lr

    def step_update(self, num_updates: int) -> float:
        """`num_updates` updates are done."""
        return self.lr

    @property
    def lr(self) -> float:
        """The rate in force."""
        return get_lr(self.optimizer)

    @lr.setter
    def lr(self, value: float) -> None:
        set_lr(self.optimizer, value)

    @property
    def group_rates(self) -> dict[str, float]:
        """The rates in force by group of parameters, where each has a schedule of its own; else empty."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What must be kept to go on later."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        self.best = state["best"]


@runtime_checkable
class WithSchedule(Protocol):
    """An optimizer that has schedules of its own (`composite`), or None where it was given none."""

    lr_scheduler: LRScheduler | None


def build_lr_scheduler(config: Config, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule that `config._name` names.

    Raises:
        ConfigError: the optimizer has schedules of its own, whose rates this one would overwrite.
    """
    own = optimizer.lr_scheduler if isinstance(optimizer, WithSchedule) else None
    if own is not None and config._name != "pass_through":
        raise ConfigError(
            f"lr_scheduler={config._name}, but the groups of the optimizer have schedules of their own "
            "(optimizer.groups.<group>.lr_scheduler); set lr_scheduler=pass_through, or leave theirs out"
        )
    scheduler: LRScheduler = registry("lr_scheduler").get(str(config._name)).cls(config, optimizer)
    return scheduler
