"""Rate multiplied by a factor every so many updates, after a linear warm-up.

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seqkit.config.base import Config, option
from seqkit.optim.lr_scheduler._rates import require_above, single_rate
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class StepConfig(Config):
    """Options of `Step`. (`lr_deacy_period` is fairseq's spelling.)"""

    warmup_updates: int = option(0, "updates over which the rate rises linearly to its peak", low=0)
    warmup_init_lr: float = option(-1.0, "rate of the first update; below 0: min_lr")
    lr: list[float] = option([0.25], "the peak rate", follows="optimization.lr")
    min_lr: float = option(0.0, "smallest rate", low=0.0)
    lr_deacy_period: int = option(25000, "updates from one decay to the next", low=1)
    lr_decay: float = option(0.5, "factor of each decay", low=0.0)


@register_lr_scheduler("step", config=StepConfig)
class Step(LRScheduler):
    """max(min_lr, lr * lr_decay^floor((n - warmup_updates) / lr_deacy_period)) after n updates.

    Raises:
        ConfigError: the peak is not above `min_lr`.
    """

    def __init__(self, config: StepConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.peak = single_rate(config.lr, "step")
        require_above(self.peak, config.min_lr, name="optimization.lr", bound="lr_scheduler.min_lr")
        self.start = config.warmup_init_lr if config.warmup_init_lr >= 0 else config.min_lr
        self.slope = (self.peak - self.start) / config.warmup_updates if config.warmup_updates > 0 else 1.0
        self.lr = self.start

    def step_update(self, num_updates: int) -> float:
        config = self.config
        if num_updates < config.warmup_updates:
            self.lr = self.start + num_updates * self.slope
        else:
            decays = (num_updates - config.warmup_updates) // config.lr_deacy_period
            self.lr = max(self.peak * config.lr_decay**decays, config.min_lr)
        return self.lr
