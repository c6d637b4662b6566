"""Cosine annealing with warm restarts, after a linear warm-up (Loshchilov and Hutter, 2017).

Knows nothing of losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.optim.lr_scheduler._rates import require_above, single_rate
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class CosineConfig(Config):
    """Options of `Cosine`."""

    warmup_updates: int = option(0, "updates over which the rate rises linearly to its peak", low=0)
    warmup_init_lr: float = option(-1.0, "rate of the first update; below 0: min_lr")
    lr: list[float] = option([0.25], "the peak rate", follows="optimization.lr")
    min_lr: float = option(0.0, "rate at the end of a period", low=0.0)
    t_mult: float = option(1.0, "each period is this many times as long as the one before", low=0.0)
    lr_period_updates: float = option(-1.0, "updates of the first period; below 0: all updates after warm-up")
    lr_shrink: float = option(0.1, "peak and end rate are multiplied by this at every restart", low=0.0)
    max_update: int = option(0, "updates of the whole run", low=0, follows="optimization.max_update")


@register_lr_scheduler("cosine", config=CosineConfig)
class Cosine(LRScheduler):
    """min + (max - min) / 2 * (1 + cos(pi * t / T)) for t of T updates of a period; min and max shrink with each.

    Raises:
        ConfigError: the peak is not above `min_lr`, the period is not known, or periods that grow shorter end before
            training does.
    """

    def __init__(self, config: CosineConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.peak = single_rate(config.lr, "cosine")
        require_above(self.peak, config.min_lr, name="optimization.lr", bound="lr_scheduler.min_lr")
        self.start = config.warmup_init_lr if config.warmup_init_lr >= 0 else config.min_lr
        self.period = config.lr_period_updates
        if self.period <= 0:
            self.period = config.max_update - config.warmup_updates
            if self.period <= 0:
                raise ConfigError(
                    "lr_scheduler=cosine needs lr_scheduler.lr_period_updates, or optimization.max_update above "
                    f"lr_scheduler.warmup_updates={config.warmup_updates}; max_update is {config.max_update}"
                )
        # Periods that grow shorter and shorter come to an end.
        self.end = self.period / (1 - config.t_mult) if 0 < config.t_mult < 1 else math.inf
        if config.t_mult <= 0 or config.max_update - config.warmup_updates >= self.end:
            raise ConfigError(self._all_over(config.max_update))
        self.slope = (self.peak - self.start) / config.warmup_updates if config.warmup_updates > 0 else 1.0
        self.lr = self.start

    def step_update(self, num_updates: int) -> float:
        config = self.config
        if num_updates < config.warmup_updates:
            self.lr = self.start + num_updates * self.slope
            return self.lr
        position: float = num_updates - config.warmup_updates
        if position >= self.end:
            raise ConfigError(self._all_over(num_updates))
        growth = config.t_mult
        if growth == 1:
            restarts = math.floor(position / self.period)
            length = self.period
            position -= self.period * restarts
        else:
            restarts = math.floor(math.log(1 - position / self.period * (1 - growth), growth))
            length = growth**restarts * self.period
            position -= (1 - growth**restarts) / (1 - growth) * self.period
        shrink = config.lr_shrink**restarts
        low, high = config.min_lr * shrink, self.peak * shrink
        self.lr = low + 0.5 * (high - low) * (1 + math.cos(math.pi * position / length))
        return self.lr

    def _all_over(self, num_updates: int) -> str:
        config = self.config
        if config.t_mult <= 0:
            return f"lr_scheduler.t_mult={config.t_mult} is out of range; give a number above 0"
        return (
            f"lr_scheduler.t_mult={config.t_mult}: periods that grow shorter, the first of {self.period:g} updates, "
            f"are all over after {config.warmup_updates + self.end:g} updates, and training goes on to {num_updates} "
            "(optimization.max_update); give fewer updates, a longer lr_scheduler.lr_period_updates, or a larger t_mult"
        )
