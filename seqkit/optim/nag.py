"""Nesterov's accelerated gradient (Nesterov, 1983; in the form of Bengio et al., 2013).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, column, first_rate
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class NAGConfig(Config):
    """Options of `NAG`."""

    momentum: float = option(0.99, "share of the last step's direction that is kept", low=0.0)
    weight_decay: float = option(0.0, "share of a parameter taken away at each step, times the learning rate", low=0.0)
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("nag", config=NAGConfig)
class NAG(BulkOptimizer):
    """Nesterov momentum m with the step looked ahead; the buffer b is rescaled when the learning rate changes.

        c = lr / last lr
        p <- (1 - lr * weight_decay) * p + m^2 * c * b - (1 + m) * lr * g
        b <- m * c * b - lr * g

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
        super().__init__(params, {"lr": lr, "lr_old": lr, "momentum": momentum, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: NAGConfig, params: Parameters) -> NAG:
        """Make the optimizer from its config."""
        return cls(params, lr=first_rate(config.lr), momentum=config.momentum, weight_decay=config.weight_decay)

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {"momentum_buffer": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        lr, momentum = float(group["lr"]), group["momentum"]
        last = float(group["lr_old"])
        change = lr / last if last > 0 else lr
        buffers = column(states, "momentum_buffer")
        if group["weight_decay"] != 0:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, buffers, alpha=momentum * momentum * change)
        torch._foreach_add_(params, grads, alpha=-(1 + momentum) * lr)
        torch._foreach_mul_(buffers, momentum * change)
        torch._foreach_add_(buffers, grads, alpha=-lr)

    def end_group(self, group: dict[str, Any]) -> None:
        group["lr_old"] = group["lr"]
