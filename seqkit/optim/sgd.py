"""Stochastic gradient descent (Robbins and Monro, 1951) with momentum (Polyak, 1964).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, column, first_rate, own_parts
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class SGDConfig(Config):
    """Options of `SGD`."""

    momentum: float = option(0.0, "share of the last step's direction that is kept", low=0.0)
    weight_decay: float = option(
        0.0, "share of a parameter added to its gradient", low=0.0, flags=("--weight-decay", "--wd")
    )
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("sgd", config=SGDConfig)
class SGD(BulkOptimizer):
    """Gradient descent, with momentum m if asked for.

        g <- g + weight_decay * p;  b <- m * b + g;  p <- p - lr * b

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        momentum, weight_decay: as above.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: SGDConfig, params: Parameters) -> SGD:
        """Make the optimizer from its config."""
        return cls(params, lr=first_rate(config.lr), momentum=config.momentum, weight_decay=config.weight_decay)

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        if not group["momentum"]:
            return {}
        return {"momentum_buffer": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        torch._fused_sgd_(
            own_parts(params),
            own_parts(grads),
            own_parts(column(states, "momentum_buffer")) if group["momentum"] else [],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=float(group["lr"]),
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
