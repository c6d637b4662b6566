"""Cyclical learning rate: up and down along a triangle (Smith, 2017).

Knows nothing of losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from seqkit.config.base import MISSING, Config, option
from seqkit.optim.lr_scheduler._rates import require_above, single_rate
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class TriangularConfig(Config):
    """Options of `Triangular`."""

    max_lr: float = option(MISSING, "rate at the peak", low=0.0)
    lr_period_updates: float = option(5000.0, "updates of one cycle, up and down", low=2.0)
    lr_shrink: float = option(0.1, "the peak is multiplied by this at every cycle", low=0.0)
    shrink_min: bool = option(False, "the rate at the foot shrinks as well")
    lr: list[float] = option([0.25], "rate at the foot", follows="optimization.lr")


@register_lr_scheduler("triangular", config=TriangularConfig)
class Triangular(LRScheduler):
    """min + (max - min) * max(0, 1 - |n / s - 2c - 1|) after n updates, s half a cycle, c cycles done.

    Raises:
        ConfigError: `max_lr` is not above the rate.
    """

    def __init__(self, config: TriangularConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.foot = single_rate(config.lr, "triangular")
        require_above(config.max_lr, self.foot, name="lr_scheduler.max_lr", bound="optimization.lr")
        self.half = config.lr_period_updates // 2
        self.lr = self.foot

    def step_update(self, num_updates: int) -> float:
        cycle = math.floor(num_updates / (2 * self.half))
        shrink = self.config.lr_shrink**cycle
        high = self.config.max_lr * shrink
        low = self.foot * shrink if self.config.shrink_min else self.foot
        distance = abs(num_updates / self.half - 2 * (cycle + 1) + 1)
        self.lr = low + (high - low) * max(0, 1 - distance)
        return self.lr
