"""Rate shrunk whenever the validation figure has stopped getting better, after a linear warm-up.

Sees one validation figure per epoch. Knows nothing of how it is computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from seqkit.config.base import Config, option
from seqkit.optim.lr_scheduler._rates import single_rate
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler

SMALLEST_CHANGE = 1e-8
"""A rate is left alone rather than changed by less than this (as torch's schedule of this name does)."""


@dataclass
class ReduceLROnPlateauConfig(Config):
    """Options of `ReduceLROnPlateau`."""

    lr_shrink: float = option(0.1, "factor by which the rate shrinks", low=0.0)
    lr_threshold: float = option(1e-4, "relative improvement below which a figure counts as no better", low=0.0)
    lr_patience: int = option(0, "epochs without improvement that are let pass", low=0)
    warmup_updates: int = option(0, "updates over which the rate rises linearly to its value", low=0)
    warmup_init_lr: float = option(-1.0, "rate of the first update, where there is a warm-up; below 0: 0")
    lr: list[float] = option([0.25], "learning rate", follows="optimization.lr")
    maximize_best_checkpoint_metric: bool = option(
        False, "the largest figure is best", follows="checkpoint.maximize_best_checkpoint_metric"
    )


@register_lr_scheduler("reduce_lr_on_plateau", config=ReduceLROnPlateauConfig)
class ReduceLROnPlateau(LRScheduler):
    """lr <- lr * lr_shrink after more than `lr_patience` epochs in which the figure was no better than the best."""

    def __init__(self, config: ReduceLROnPlateauConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        peak = single_rate(config.lr, "reduce_lr_on_plateau")
        start = max(config.warmup_init_lr, 0.0) if config.warmup_updates > 0 else peak
        self.start = start
        self.slope = (peak - start) / config.warmup_updates if config.warmup_updates > 0 else 0.0
        self.warm = config.warmup_updates == 0
        self.last_epoch = 0
        self.bad_epochs = 0
        self.lr = start

    def step(self, epoch: int, val_loss: float | None = None) -> float:
        self.last_epoch = epoch
        if val_loss is not None and self.warm:
            if self._is_better(val_loss):
                self.best = val_loss
                self.bad_epochs = 0
            else:
                self.bad_epochs += 1
            if self.bad_epochs > self.config.lr_patience:
                shrunk = self.lr * self.config.lr_shrink
                if self.lr - shrunk > SMALLEST_CHANGE:
                    self.lr = shrunk
                self.bad_epochs = 0
        return self.lr

    def step_update(self, num_updates: int) -> float:
        if self.config.warmup_updates > 0:
            if num_updates <= self.config.warmup_updates:
                self.lr = self.start + num_updates * self.slope
            else:
                self.warm = True
        return self.lr

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "last_epoch": self.last_epoch, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        best = state["best"]
        self.best = None if best is None or math.isinf(best) else best
        self.last_epoch = state.get("last_epoch", self.last_epoch)
        self.bad_epochs = state.get("bad_epochs", 0)

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        threshold: float = self.config.lr_threshold
        if self.config.maximize_best_checkpoint_metric:
            return value > self.best * (1 + threshold)
        return value < self.best * (1 - threshold)
