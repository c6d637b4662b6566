"""LAMB: Adam whose step is, for each parameter, in proportion to the parameter's norm (You et al., 2020).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate, two_decays
from seqkit.optim.base import Parameters, register_optimizer
from seqkit.optim.clip import clip_factor, gradient_norm, gradients


@dataclass
class LAMBConfig(Config):
    """Options of `LAMB`."""

    lamb_betas: list[float] = option(
        [0.9, 0.999], "decay per step of the gradient's mean and of its square's mean", low=0.0, high=1.0
    )
    lamb_eps: float = option(1e-8, "added to the root of the squares' mean, after its bias is corrected", low=0.0)
    weight_decay: float = option(
        0.0, "share of a parameter added to its direction", low=0.0, flags=("--weight-decay", "--wd")
    )
    lamb_max_grad_norm: float = option(
        1.0,
        "gradients are first scaled down to this norm, over all parameters together; 0: they are not (fairseq's LAMB "
        "always does, with 1)",
        low=0.0,
    )
    lamb_always_adapt: bool = option(
        False,
        "scale steps by the parameters' norms even where weight_decay is 0, as the paper does; fairseq's LAMB is Adam "
        "then",
    )
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("lamb", config=LAMBConfig)
class LAMB(BulkOptimizer):
    """Layer-wise adaptive moments, for very large batches.

        r = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay * p
        p <- p - lr * |p| / |r| * r

    where m and v are the running means of gradient and squared gradient. The ratio is 1 where a norm is 0.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas, eps, weight_decay: as above.
        max_grad_norm: largest norm of all gradients together; 0 for no bound.
        always_adapt: use the ratio also where `weight_decay` is 0.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
        always_adapt: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "always_adapt": always_adapt}
        super().__init__(params, defaults)
        self.max_grad_norm = max_grad_norm
        self._scale = torch.ones(())

    @classmethod
    def build(cls, config: LAMBConfig, params: Parameters) -> LAMB:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            betas=two_decays(config.lamb_betas, "lamb_betas"),
            eps=config.lamb_eps,
            weight_decay=config.weight_decay,
            max_grad_norm=config.lamb_max_grad_norm,
            always_adapt=config.lamb_always_adapt,
        )

    def begin_step(self) -> None:
        if self.max_grad_norm > 0:
            norm = gradient_norm(gradients(param for group in self.param_groups for param in group["params"]))
            self._scale = clip_factor(norm, self.max_grad_norm)

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {
            "step": 0,
            "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(param, memory_format=torch.preserve_format),
        }

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        step = advance(states)
        beta1, beta2 = group["betas"]
        means, squares = column(states, "exp_avg"), column(states, "exp_avg_sq")
        if self.max_grad_norm > 0:
            grads = list(torch._foreach_mul(grads, self._scale.to(params[0].device)))
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, math.sqrt(1 - beta2**step))
        torch._foreach_add_(roots, group["eps"])
        directions = list(torch._foreach_div(means, roots))
        torch._foreach_div_(directions, 1 - beta1**step)
        if group["weight_decay"] != 0:
            torch._foreach_add_(directions, params, alpha=group["weight_decay"])
        if group["weight_decay"] != 0 or group["always_adapt"]:
            torch._foreach_mul_(directions, _ratios(params, directions))
        torch._foreach_add_(params, directions, alpha=-float(group["lr"]))


def _ratios(params: list[Tensor], directions: list[Tensor]) -> list[Tensor]:
    """|p| / |r| of every parameter, 1 where one of them is 0: scalars on the device, without waiting for it."""
    sizes = torch.stack(list(torch._foreach_norm(params)))
    lengths = torch.stack(list(torch._foreach_norm(directions)))
    ratios = torch.where((sizes > 0) & (lengths > 0), sizes / lengths, 1.0)
    return list(ratios.unbind())
