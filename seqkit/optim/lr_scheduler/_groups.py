"""Several schedules, one for each group of parameters, as one.

Knows nothing of losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from seqkit.optim.lr_scheduler.base import LRScheduler


class GroupSchedules(LRScheduler):
    """Hands every call on to the schedule of each group; the rates returned are those of the first.

    Args:
        schedules: by group, each with an optimizer of its own.
        optimizer: the one that consists of those optimizers.
    """

    def __init__(self, schedules: Mapping[str, LRScheduler], optimizer: torch.optim.Optimizer) -> None:
        super().__init__(None, optimizer)
        self.schedules = dict(schedules)

    def step_begin_epoch(self, epoch: int) -> float:
        return self._each(lambda schedule: schedule.step_begin_epoch(epoch))

    def step(self, epoch: int, val_loss: float | None = None) -> float:
        return self._each(lambda schedule: schedule.step(epoch, val_loss))

    def step_update(self, num_updates: int) -> float:
        return self._each(lambda schedule: schedule.step_update(num_updates))

    def _each(self, call: Callable[[LRScheduler], float]) -> float:
        first, *_ = [call(schedule) for schedule in self.schedules.values()]
        return first

    @property
    def group_rates(self) -> dict[str, float]:
        return {group: schedule.lr for group, schedule in self.schedules.items()}

    def state_dict(self) -> dict[str, Any]:
        return {group: schedule.state_dict() for group, schedule in self.schedules.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for group, schedule in self.schedules.items():
            if group in state:
                schedule.load_state_dict(state[group])
