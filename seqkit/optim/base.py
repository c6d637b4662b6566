"""Optimizers: `torch.optim.Optimizer` subclasses with a config, one per file.

`param_groups` carry `lr`; the learning-rate schedule writes it (times each group's `lr_scale`, 1 by default).
State names are those of fairseq where it has them (`step`, `exp_avg`, `exp_avg_sq`), so that old optimizer state
carries over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from seqkit.config.base import Config
from seqkit.registry import registry

register_optimizer = registry("optimizer").register


class OptimizerComponent(Protocol):
    """What a registered optimizer class offers beside being a `torch.optim.Optimizer`."""

    @classmethod
    def build(cls, config: Any, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Make the optimizer over parameters or parameter groups."""
        ...


def build_optimizer(config: Config, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build the optimizer that `config._name` names."""
    optimizer: torch.optim.Optimizer = registry("optimizer").get(str(config._name)).cls.build(config, params)
    return optimizer


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate in force (of the first group)."""
    return float(optimizer.param_groups[0]["lr"])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times the group's `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
