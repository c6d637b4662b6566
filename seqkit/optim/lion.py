"""Lion: steps of one size, in the direction of a momentum's sign (Chen et al., 2023).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, column, first_rate, two_decays
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class LionConfig(Config):
    """Options of `Lion`."""

    lion_betas: list[float] = option(
        [0.9, 0.99],
        "share of the momentum in a step's direction, and decay of the momentum per step",
        low=0.0,
        high=1.0,
    )
    weight_decay: float = option(
        0.0,
        "share of a parameter taken away at each step, times the learning rate (3 to 10 times AdamW's, as the rate is "
        "to be 3 to 10 times smaller)",
        low=0.0,
    )
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("lion", config=LionConfig)
class Lion(BulkOptimizer):
    """One momentum for each weight, half of Adam's state.

        p <- p - lr * weight_decay * p
        p <- p - lr * sign(b1 * m + (1 - b1) * g)
        m <- b2 * m + (1 - b2) * g

    Args:
        params: parameters or groups of them.
        lr: learning rate: how far every weight moves at each step.
        betas, weight_decay: as above.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: LionConfig, params: Parameters) -> Lion:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            betas=two_decays(config.lion_betas, "lion_betas"),
            weight_decay=config.weight_decay,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {"exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format)}

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        lr = float(group["lr"])
        beta1, beta2 = group["betas"]
        means = column(states, "exp_avg")
        if group["weight_decay"] != 0:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        directions = torch._foreach_lerp(means, grads, 1 - beta1)
        torch._foreach_sign_(directions)
        torch._foreach_add_(params, directions, alpha=-lr)
        torch._foreach_lerp_(means, grads, 1 - beta2)
