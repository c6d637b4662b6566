"""Adam with decoupled weight decay (Kingma and Ba, 2015; Loshchilov and Hutter, 2019).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate, fused_adamw, two_decays
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class AdamConfig(Config):
    """Options of `Adam`."""

    adam_betas: list[float] = option(
        [0.9, 0.999], "decay per step of the gradient's mean and of its square's mean", low=0.0, high=1.0
    )
    adam_eps: float = option(1e-8, "added to the root of the squares' mean, before its bias is corrected", low=0.0)
    weight_decay: float = option(0.0, "share of a parameter taken away at each step, times the learning rate", low=0.0)
    use_old_adam: bool = option(False, "has no effect: there is one Adam (kept for old commands)")
    fp16_adam_stats: bool = option(False, "keep the means in float16, which halves their memory")
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
        fp16_stats: keep m and v in float16, each with a scale for the whole parameter.

    Attributes:
        offloads: whether the master weights are to be kept on the CPU, which the optimizer then updates there.
    """

    offloads: ClassVar[bool] = False

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        fp16_stats: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.fp16_stats = fp16_stats

    @classmethod
    def build(cls, config: AdamConfig, params: Parameters) -> Adam:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            betas=two_decays(config.adam_betas, "adam_betas"),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fp16_stats=config.fp16_adam_stats,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        state: State = {"step": 0}
        dtype = torch.float16 if self.fp16_stats else param.dtype
        for name in _MEANS:
            state[name] = torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format)
            if self.fp16_stats:
                state[f"{name}_scale"] = torch.ones((), device=param.device)
        return state

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        step = advance(states)
        if not self.fp16_stats:
            self._update(group, params, grads, column(states, "exp_avg"), column(states, "exp_avg_sq"), step)
            return
        for param, grad, state in zip(params, grads, states, strict=True):  # one by one: little float32 at a time
            mean, square = (_in_float32(state, name) for name in _MEANS)
            self._update(group, [param], [grad], [mean], [square], step)
            _keep_in_float16(state, "exp_avg", mean)
            _keep_in_float16(state, "exp_avg_sq", square)

    @staticmethod
    def _update(
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        step: int,
    ) -> None:
        beta1, beta2 = group["betas"]
        fused_adamw(
            params,
            grads,
            means,
            squares,
            step,
            lr=float(group["lr"]),
            betas=(beta1, beta2),
            eps=group["eps"] / math.sqrt(1 - beta2**step),
            weight_decay=group["weight_decay"],
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for state in self.state.values():
            for name in _MEANS:
                scaled = f"{name}_scale" in state
                if scaled and self.fp16_stats:
                    state[name] = state[name].half()
                elif scaled:
                    state[name] = _in_float32(state, name)
                    del state[f"{name}_scale"]
                elif self.fp16_stats and name in state:
                    _keep_in_float16(state, name, state[name])


_MEANS = ("exp_avg", "exp_avg_sq")
_LARGEST, _SMALLEST = 65504.0, 2.0**-24
"""Of float16."""


def _in_float32(state: State, name: str) -> Tensor:
    value: Tensor = state[name].float() * state[f"{name}_scale"]
    return value


def _keep_in_float16(state: State, name: str, value: Tensor) -> None:
    """Write a mean into the state, scaled so that its largest element is the largest of float16."""
    scale = 1e-8 + torch.linalg.vector_norm(value, math.inf) / _LARGEST
    scaled = value / scale
    if name == "exp_avg_sq":
        scaled.clamp_(min=_SMALLEST)  # a square that vanishes would make an enormous step
    state[name] = scaled.half()
    state[f"{name}_scale"] = scale
