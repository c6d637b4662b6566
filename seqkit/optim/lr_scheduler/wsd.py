"""Warm-up, stable, decay (Hu et al., 2024, "MiniCPM"; forms of the decay: Hägele et al., 2024).

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
class WSDConfig(Config):
    """Options of `WSD`."""

    warmup_updates: int = option(0, "updates over which the rate rises linearly to its peak", low=0)
    warmup_init_lr: float = option(0.0, "rate of the first update, where there is a warm-up", low=0.0)
    decay_updates: int = option(-1, "updates of the decay at the end; below 0: a tenth of optimization.max_update")
    decay: str = option(
        "linear",
        "form of the decay: a straight line, half a cosine, or 1 - sqrt(share that is done)",
        choices=("linear", "cosine", "1-sqrt"),
    )
    min_lr: float = option(0.0, "rate at the end", low=0.0)
    max_update: int = option(0, "updates of the whole run", low=0, follows="optimization.max_update")
    lr: list[float] = option([0.25], "the peak rate", follows="optimization.lr")


@register_lr_scheduler("wsd", config=WSDConfig)
class WSD(LRScheduler):
    """Linear up to lr, lr, then min_lr + (lr - min_lr) * f(x) with x from 0 to 1 over the last `decay_updates`.

    f(x) is 1 - x, (1 + cos(pi * x)) / 2 or 1 - sqrt(x). Training can go on from any checkpoint of the stable part: a
    longer run only needs a larger `optimization.max_update`.

    Raises:
        ConfigError: the number of updates is not known, or too small for warm-up and decay.
    """

    def __init__(self, config: WSDConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.peak = single_rate(config.lr, "wsd")
        require_above(self.peak, config.min_lr, name="optimization.lr", bound="lr_scheduler.min_lr")
        if config.max_update <= 0:
            raise ConfigError("lr_scheduler=wsd needs optimization.max_update above 0, to know when the decay begins")
        self.decay_updates = config.decay_updates if config.decay_updates >= 0 else config.max_update // 10
        self.decay_start = config.max_update - self.decay_updates
        if self.decay_start < config.warmup_updates:
            raise ConfigError(
                f"lr_scheduler.warmup_updates={config.warmup_updates} and a decay of {self.decay_updates} updates "
                f"(lr_scheduler.decay_updates) do not fit into optimization.max_update={config.max_update}"
            )
        self.lr = config.warmup_init_lr if config.warmup_updates > 0 else self.peak

    def step_update(self, num_updates: int) -> float:
        config = self.config
        if num_updates < config.warmup_updates:
            share = num_updates / config.warmup_updates
            self.lr = config.warmup_init_lr + (self.peak - config.warmup_init_lr) * share
        elif num_updates < self.decay_start or self.decay_updates == 0:
            self.lr = self.peak
        else:
            done = min(1.0, (num_updates - self.decay_start) / self.decay_updates)
            self.lr = config.min_lr + (self.peak - config.min_lr) * self._left(done)
        return self.lr

    def _left(self, done: float) -> float:
        if self.config.decay == "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        return 1 - (math.sqrt(done) if self.config.decay == "1-sqrt" else done)
