"""AdamW (Loshchilov and Hutter, 2019), as PyTorch computes it.

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate, fused_adamw, two_decays
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class AdamWConfig(Config):
    """Options of `AdamW`."""

    adam_betas: list[float] = option(
        [0.9, 0.999], "decay per step of the gradient's mean and of its square's mean", low=0.0, high=1.0
    )
    adam_eps: float = option(1e-8, "added to the root of the squares' mean, after its bias is corrected", low=0.0)
    weight_decay: float = option(0.01, "share of a parameter taken away at each step, times the learning rate", low=0.0)
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("adamw", config=AdamWConfig)
class AdamW(BulkOptimizer):
    """Adam with decoupled weight decay.

        m <- b1 * m + (1 - b1) * g;  v <- b2 * v + (1 - b2) * g^2
        p <- p - lr * weight_decay * p
        p <- p - lr * m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)

    (`adam` differs in eps, which it adds before v's bias is corrected, as fairseq does, and in its weight decay of 0.)

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas, eps, weight_decay: as above.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: AdamWConfig, params: Parameters) -> AdamW:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            betas=two_decays(config.adam_betas, "adam_betas"),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {
            "step": 0,
            "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(param, memory_format=torch.preserve_format),
        }

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        step = advance(states)
        fused_adamw(
            params,
            grads,
            column(states, "exp_avg"),
            column(states, "exp_avg_sq"),
            step,
            lr=float(group["lr"]),
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )
