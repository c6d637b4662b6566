"""Fixed learning rate, with warm-up, a rate per epoch, and shrinking from a given epoch on.

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from seqkit.config.base import Config, option
from seqkit.optim.lr_scheduler._rates import rate_of_epoch, some_rates
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class FixedConfig(Config):
    """Options of `Fixed`."""

    force_anneal: int | None = option(None, "epoch from which the rate shrinks at every epoch", low=0)
    lr_shrink: float = option(0.1, "factor by which it shrinks", low=0.0)
    warmup_updates: int = option(0, "updates over which the rate rises linearly to its value", low=0)
    lr: list[float] = option([0.25], "learning rate of each epoch; the last serves the rest", follows="optimization.lr")


@register_lr_scheduler("fixed", config=FixedConfig)
class Fixed(LRScheduler):
    """The n-th rate for epoch n; from epoch `force_anneal` on, last rate * lr_shrink^(epoch + 1 - force_anneal)."""

    def __init__(self, config: FixedConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.rates = some_rates(config.lr)
        self.base = self.rates[0]
        self.warmup_factor = 1 / config.warmup_updates if config.warmup_updates > 0 else 1.0

    def rate_of(self, epoch: int) -> float:
        """The rate of an epoch when warm-up is over."""
        anneal = self.config.force_anneal
        if anneal is None or epoch < anneal:
            return rate_of_epoch(self.rates, epoch)
        return self.rates[-1] * float(self.config.lr_shrink ** (epoch + 1 - anneal))

    def step_begin_epoch(self, epoch: int) -> float:
        self.base = self.rate_of(epoch)
        self.lr = self.warmup_factor * self.base
        return self.lr

    def step_update(self, num_updates: int) -> float:
        warmup = self.config.warmup_updates
        self.warmup_factor = (num_updates + 1) / warmup if num_updates < warmup else 1.0
        self.lr = self.warmup_factor * self.base
        return self.lr

    def state_dict(self) -> dict[str, Any]:
        return {"lr": self.base}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base = state.get("lr", self.base)
