"""Adagrad (Duchi et al., 2011).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class AdagradConfig(Config):
    """Options of `Adagrad`."""

    weight_decay: float = option(
        0.0, "share of a parameter added to its gradient", low=0.0, flags=("--weight-decay", "--wd")
    )
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("adagrad", config=AdagradConfig)
class Adagrad(BulkOptimizer):
    """Each weight's rate shrinks with the squares of its gradients summed so far.

        g <- g + weight_decay * p;  s <- s + g^2;  p <- p - lr * g / (sqrt(s) + 1e-10)

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        weight_decay: as above.
    """

    def __init__(self, params: Parameters, lr: float = 1e-2, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: AdagradConfig, params: Parameters) -> Adagrad:
        """Make the optimizer from its config."""
        return cls(params, lr=first_rate(config.lr), weight_decay=config.weight_decay)

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {"step": 0, "sum": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        advance(states)
        if group["weight_decay"] != 0:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        sums = column(states, "sum")
        torch._foreach_addcmul_(sums, grads, grads, value=1.0)
        roots = torch._foreach_sqrt(sums)
        torch._foreach_add_(roots, 1e-10)
        torch._foreach_addcdiv_(params, grads, roots, value=-float(group["lr"]))
