"""Polynomial decay to an end rate, after a linear warm-up.

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.optim.lr_scheduler._rates import rate_of_epoch, some_rates
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class PolynomialDecayConfig(Config):
    """Options of `PolynomialDecay`."""

    warmup_updates: int = option(0, "updates over which the rate rises linearly from 0 to its peak", low=0)
    force_anneal: int | None = option(None, "epoch from which the peak is no longer taken from optimization.lr", low=0)
    end_learning_rate: float = option(0.0, "rate at the end", low=0.0)
    power: float = option(1.0, "exponent of the decay; 1 is linear", low=0.0)
    total_num_update: float = option(
        0.0, "updates after which the end rate is reached", low=0.0, follows="optimization.max_update"
    )
    lr: list[float] = option(
        [0.25], "peak rate; of several, the second serves the first epoch", follows="optimization.lr"
    )


@register_lr_scheduler("polynomial_decay", config=PolynomialDecayConfig)
class PolynomialDecay(LRScheduler):
    """end + (lr - end) * (1 - (n - warmup) / (total - warmup))^power after n updates, and `end` from `total` on.

    Raises:
        ConfigError: the number of updates is not known.
    """

    def __init__(self, config: PolynomialDecayConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        if config.total_num_update <= 0:
            raise ConfigError(
                "lr_scheduler=polynomial_decay needs lr_scheduler.total_num_update or optimization.max_update above 0"
            )
        self.rates = some_rates(config.lr)
        self.peak = self.rates[0]
        self.warmup_factor = 1 / config.warmup_updates if config.warmup_updates > 0 else 1.0
        self.lr = self.warmup_factor * self.peak

    def step_begin_epoch(self, epoch: int) -> float:
        anneal = self.config.force_anneal
        # As in fairseq, where this schedule (and not `fixed`) is one rate ahead.
        self.peak = rate_of_epoch(self.rates, epoch + 1) if anneal is None or epoch < anneal else self.lr
        self.lr = self.warmup_factor * self.peak
        return self.lr

    def step_update(self, num_updates: int) -> float:
        warmup, total = self.config.warmup_updates, self.config.total_num_update
        if warmup > 0 and num_updates <= warmup:
            self.warmup_factor = num_updates / warmup
            self.lr = self.warmup_factor * self.peak
        elif num_updates >= total:
            self.lr = self.config.end_learning_rate
        else:
            left = 1 - (num_updates - warmup) / (total - warmup)
            end = self.config.end_learning_rate
            self.lr = (self.peak - end) * left**self.config.power + end
        return self.lr
