"""Rate in inverse proportion to the square root of the update number, after a linear warm-up (Vaswani et al., 2017).

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seqkit.config.base import Config, option
from seqkit.optim.lr_scheduler._rates import single_rate
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class InverseSqrtConfig(Config):
    """Options of `InverseSqrt`."""

    warmup_updates: int = option(4000, "updates over which the rate rises linearly to its peak", low=1)
    warmup_init_lr: float = option(-1.0, "rate of the first update; below 0: 0")
    lr: list[float] = option([0.25], "the peak rate", follows="optimization.lr")


@register_lr_scheduler("inverse_sqrt", config=InverseSqrtConfig)
class InverseSqrt(LRScheduler):
    """lr * sqrt(warmup_updates / n) after n >= warmup_updates updates, linear from `warmup_init_lr` to lr before."""

    def __init__(self, config: InverseSqrtConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        peak = single_rate(config.lr, "inverse_sqrt")
        self.start = config.warmup_init_lr if config.warmup_init_lr >= 0 else 0.0
        self.slope = (peak - self.start) / config.warmup_updates
        self.decay_factor = peak * config.warmup_updates**0.5
        self.lr = self.start

    def step_update(self, num_updates: int) -> float:
        if num_updates < self.config.warmup_updates:
            self.lr = self.start + num_updates * self.slope
        else:
            self.lr = self.decay_factor * num_updates**-0.5
        return self.lr
