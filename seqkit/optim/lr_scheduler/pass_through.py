"""No schedule of its own: the optimizer's schedules set the rates, or nothing does.

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from seqkit.config.base import Config
from seqkit.optim.lr_scheduler.base import LRScheduler, WithSchedule, register_lr_scheduler


@dataclass
class PassThroughConfig(Config):
    """`PassThrough` has no options."""


@register_lr_scheduler("pass_through", config=PassThroughConfig)
class PassThrough(LRScheduler):
    """Hands every call on to the schedules that the optimizer has (`optimizer=composite`).

    Of an optimizer without any, the rates stay as they are: those it was made with, or those it sets itself.
    """

    def __init__(self, config: PassThroughConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self._inner = optimizer.lr_scheduler if isinstance(optimizer, WithSchedule) else None

    def step_begin_epoch(self, epoch: int) -> float:
        return self.lr if self._inner is None else self._inner.step_begin_epoch(epoch)

    def step(self, epoch: int, val_loss: float | None = None) -> float:
        return super().step(epoch, val_loss) if self._inner is None else self._inner.step(epoch, val_loss)

    def step_update(self, num_updates: int) -> float:
        return self.lr if self._inner is None else self._inner.step_update(num_updates)

    @property
    def group_rates(self) -> dict[str, float]:
        return {} if self._inner is None else self._inner.group_rates

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() if self._inner is None else self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._inner is None:
            super().load_state_dict(state)
        else:
            self._inner.load_state_dict(state)
