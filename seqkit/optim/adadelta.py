"""Adadelta (Zeiler, 2012).

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
class AdadeltaConfig(Config):
    """Options of `Adadelta`."""

    adadelta_rho: float = option(0.9, "decay per step of the squares' running means", low=0.0, high=1.0)
    adadelta_eps: float = option(1e-6, "added to the means under the root", low=0.0)
    weight_decay: float = option(
        0.0, "share of a parameter added to its gradient", low=0.0, flags=("--weight-decay", "--wd")
    )
    anneal_eps: bool = option(False, "has no effect (kept for old commands)")
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("adadelta", config=AdadeltaConfig)
class Adadelta(BulkOptimizer):
    """Steps as large as past steps were, in the gradient's own scale.

        g <- g + weight_decay * p;  v <- rho * v + (1 - rho) * g^2
        d = sqrt(a + eps) / sqrt(v + eps) * g;  a <- rho * a + (1 - rho) * d^2;  p <- p - lr * d

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        rho, eps, weight_decay: as above.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: AdadeltaConfig, params: Parameters) -> Adadelta:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            rho=config.adadelta_rho,
            eps=config.adadelta_eps,
            weight_decay=config.weight_decay,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {
            "step": 0,
            "square_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "acc_delta": torch.zeros_like(param, memory_format=torch.preserve_format),
        }

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        advance(states)
        rho, eps = group["rho"], group["eps"]
        if group["weight_decay"] != 0:
            grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
        squares, steps = column(states, "square_avg"), column(states, "acc_delta")
        torch._foreach_mul_(squares, rho)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - rho)
        deltas = torch._foreach_add(steps, eps)
        torch._foreach_sqrt_(deltas)
        roots = torch._foreach_add(squares, eps)
        torch._foreach_sqrt_(roots)
        torch._foreach_div_(deltas, roots)
        torch._foreach_mul_(deltas, grads)
        torch._foreach_mul_(steps, rho)
        torch._foreach_addcmul_(steps, deltas, deltas, value=1 - rho)
        torch._foreach_add_(params, deltas, alpha=-float(group["lr"]))
