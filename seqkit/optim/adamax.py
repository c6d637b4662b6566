"""Adamax: Adam with the largest gradient in place of the squares' mean (Kingma and Ba, 2015, section 7).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate, two_decays
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class AdamaxConfig(Config):
    """Options of `Adamax`."""

    adamax_betas: list[float] = option(
        [0.9, 0.999], "decay per step of the gradient's mean and of its largest absolute value", low=0.0, high=1.0
    )
    adamax_eps: float = option(1e-8, "added to the largest absolute value", low=0.0)
    weight_decay: float = option(
        0.0,
        "share of a parameter taken away at each step, times the learning rate",
        low=0.0,
        flags=("--weight-decay", "--wd"),
    )
    no_bias_correction: bool = option(False, "do not enlarge the first steps to make up for the mean's start at 0")
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("adamax", config=AdamaxConfig)
class Adamax(BulkOptimizer):
    """Adam in the infinity norm.

        m <- b1 * m + (1 - b1) * g;  u <- max(b2 * u, |g|)
        p <- p - lr * weight_decay * p;  p <- p - lr / (1 - b1^t) * m / (u + eps)

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas, eps, weight_decay: as above.
        bias_correction: divide by 1 - b1^t.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
        }
        super().__init__(params, defaults)

    @classmethod
    def build(cls, config: AdamaxConfig, params: Parameters) -> Adamax:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            betas=two_decays(config.adamax_betas, "adamax_betas"),
            eps=config.adamax_eps,
            weight_decay=config.weight_decay,
            bias_correction=not config.no_bias_correction,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {
            "step": 0,
            "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "exp_inf": torch.zeros_like(param, memory_format=torch.preserve_format),
        }

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        step = advance(states)
        lr = float(group["lr"])
        beta1, beta2 = group["betas"]
        means, largest = column(states, "exp_avg"), column(states, "exp_inf")
        torch._foreach_mul_(means, beta1)
        torch._foreach_add_(means, grads, alpha=1 - beta1)
        torch._foreach_mul_(largest, beta2)
        torch._foreach_maximum_(largest, torch._foreach_abs(grads))
        if group["weight_decay"] != 0:
            torch._foreach_mul_(params, 1 - group["weight_decay"] * lr)
        size = lr / (1 - beta1**step) if group["bias_correction"] else lr
        torch._foreach_addcdiv_(params, means, torch._foreach_add(largest, group["eps"]), value=-size)
