"""Adam with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate, two_decays
from seqkit.optim.base import register_optimizer


@dataclass
class AdamConfig(Config):
    """Options of `Adam`."""

    adam_betas: list[float] = option(
        [0.9, 0.999], "decay per step of the gradient's mean and of its square's mean", low=0.0, high=1.0
    )
    adam_eps: float = option(1e-8, "added to the root of the squares' mean, before its bias is corrected", low=0.0)
    weight_decay: float = option(0.0, "share of a parameter taken away at each step, times the learning rate", low=0.0)
    use_old_adam: bool = option(False, "has no effect: there is one Adam (kept for old commands)")
    fp16_adam_stats: bool = option(
        False, "keep the means in float16", refused="the means are kept in float32; leave fp16_adam_stats out"
    )
    tpu: bool = option(False, "run on a TPU", follows="common.tpu", refused="seqkit does not run on TPUs")
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("adam", config=AdamConfig)
class Adam(BulkOptimizer):
    """Adam as fairseq computes it.

        p <- p - lr * weight_decay * p
        p <- p - lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)

    where m and v are the running means of gradient and squared gradient. (torch's `AdamW` adds eps after the
    correction of v's bias: its eps is larger by 1 / sqrt(1 - b2^t), which is how its kernel serves here.)

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas, eps, weight_decay: as above.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: AdamConfig, params: Iterable[nn.Parameter] | Iterable[dict[str, Any]]) -> Adam:
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
        beta1, beta2 = group["betas"]
        correction2 = 1 - beta2**step
        clock = torch.full((), float(step), device=params[0].device)
        torch._fused_adamw_(
            params,
            grads,
            column(states, "exp_avg"),
            column(states, "exp_avg_sq"),
            [],
            [clock] * len(params),
            lr=float(group["lr"]),
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"] / math.sqrt(correction2),
            amsgrad=False,
            maximize=False,
        )
