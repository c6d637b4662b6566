"""Optimizers: `torch.optim.Optimizer` subclasses with a config, one per file.

`param_groups` carry `lr`; the learning-rate schedule writes it (times each group's `lr_scale`, 1 by default).
State names are those of fairseq where it has them (`step`, `exp_avg`, `exp_avg_sq`), so that old optimizer state
carries over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

import torch
from torch import nn

from seqkit.config.base import Config
from seqkit.registry import registry

register_optimizer = registry("optimizer").register

Parameters: TypeAlias = Iterable[nn.Parameter] | Iterable[tuple[str, nn.Parameter]] | Iterable[dict[str, Any]]
"""What an optimizer is made over: parameters, pairs of name and parameter, or groups of either (`params`)."""


class OptimizerComponent(Protocol):
    """What a registered optimizer class offers beside being a `torch.optim.Optimizer`."""

    @classmethod
    def build(cls, config: Any, params: Parameters) -> torch.optim.Optimizer:
        """Make the optimizer over parameters, named parameters or parameter groups."""
        ...


def build_optimizer(config: Config, params: Parameters) -> torch.optim.Optimizer:
    """Build the optimizer that `config._name` names. (Some treat parameters by their names: give them where known.)"""
    optimizer: torch.optim.Optimizer = registry("optimizer").get(str(config._name)).cls.build(config, params)
    return optimizer


def works_on_cpu(config: Config) -> bool:
    """Whether the optimizer that `config._name` names is to run on the CPU, wherever the model is."""
    return bool(getattr(registry("optimizer").get(str(config._name)).cls, "offloads", False))


def get_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate in force (of the first group)."""
    return float(optimizer.param_groups[0]["lr"])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times the group's `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def parameter_names(optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of an optimizer's parameters, in the order in which its state numbers them.

    Empty where it was made over parameters without names.
    """
    return [name for group in optimizer.param_groups for name in group.get("param_names", ())]
