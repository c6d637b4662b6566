"""Adafactor: Adam's second moment kept as one row and one column for each matrix (Shazeer and Stern, 2018).

Sees parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.optim._fused import BulkOptimizer, State, advance, first_rate, two_numbers
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class AdafactorConfig(Config):
    """Options of `Adafactor`."""

    adafactor_eps: list[float] = option(
        [1e-30, 1e-3], "added to the squared gradient; smallest parameter scale", low=0.0
    )
    clip_threshold: float = option(1.0, "largest root mean square of an update", low=0.0)
    decay_rate: float = option(-0.8, "the squares' mean decays by 1 - t^decay_rate at step t", high=0.0)
    beta1: float | None = option(None, "decay of the updates' mean; unset: none is kept", low=0.0, high=1.0)
    weight_decay: float = option(
        0.0,
        "share of a parameter taken away at each step, times the learning rate",
        low=0.0,
        flags=("--weight-decay", "--wd"),
    )
    scale_parameter: bool = option(False, "learning rate times the parameter's root mean square")
    compound_scale: bool = option(
        False,
        "scale_parameter as fairseq has it: a parameter's scaled rate is the base of the next parameter's, so that all "
        "but the first few hardly move",
    )
    relative_step: bool = option(False, "learning rate 1/sqrt(step), at most 0.01; optimization.lr is not used")
    warmup_init: bool = option(False, "relative_step starts at 1e-6 * step")
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("adafactor", config=AdafactorConfig)
class Adafactor(BulkOptimizer):
    """Adafactor: memory for the second moment is linear in a matrix' sides, not in its size.

    Args:
        params: parameters or groups of them.
        lr: learning rate; `None` with `relative_step`.
        eps: added to the squared gradient; the smallest parameter scale.
        clip_threshold: largest root mean square of an update.
        decay_rate: the squares' mean decays by 1 - t^decay_rate.
        beta1: decay of the updates' mean; `None`: none is kept.
        weight_decay: decoupled weight decay.
        scale_parameter: learning rate times the parameter's root mean square.
        relative_step: the rate is min(0.01, 1/sqrt(t)), or min(1e-6 * t, 1/sqrt(t)) with `warmup_init`.
        compound_scale: write the scaled rate back into the group after each parameter, as fairseq does.

    Raises:
        ConfigError: `warmup_init` without `relative_step`.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
        compound_scale: bool = False,
    ) -> None:
        if warmup_init and not relative_step:
            raise ConfigError("optimizer.warmup_init=true needs optimizer.relative_step=true")
        if lr is None and not relative_step:
            raise ConfigError("adafactor needs a learning rate unless optimizer.relative_step=true")
        defaults = {
            "lr": 0.0 if lr is None else lr,
            "eps": eps,
            "clip_threshold": clip_threshold,
            "decay_rate": decay_rate,
            "beta1": beta1,
            "weight_decay": weight_decay,
            "scale_parameter": scale_parameter,
            "relative_step": relative_step,
            "warmup_init": warmup_init,
            "compound_scale": compound_scale,
        }
        super().__init__(params, defaults)

    @classmethod
    def build(cls, config: AdafactorConfig, params: Parameters) -> Adafactor:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=None if config.relative_step else first_rate(config.lr),
            eps=two_numbers(config.adafactor_eps, "adafactor_eps"),
            clip_threshold=config.clip_threshold,
            decay_rate=config.decay_rate,
            beta1=config.beta1,
            weight_decay=config.weight_decay,
            scale_parameter=config.scale_parameter,
            relative_step=config.relative_step,
            warmup_init=config.warmup_init,
            compound_scale=config.compound_scale,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        state: State = {"step": 0, "RMS": 0.0}
        if group["beta1"] is not None:
            state["exp_avg"] = torch.zeros_like(param)
        if param.dim() >= 2:
            state["exp_avg_sq_row"] = param.new_zeros(param.shape[:-1])
            state["exp_avg_sq_col"] = param.new_zeros(param.shape[:-2] + param.shape[-1:])
        else:
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        step = advance(states)
        keep = 1 - step ** group["decay_rate"]
        for param, grad, state in zip(params, grads, states, strict=True):
            state["RMS"] = _rms(param)
            lr = self._rate(group, step, state["RMS"])
            if group["compound_scale"]:
                group["lr"] = float(lr)
            update = _second_moment_root(grad * grad + group["eps"][0], keep, state).mul_(grad)
            update.div_((_rms(update) / group["clip_threshold"]).clamp_(min=1.0)).mul_(lr)
            if group["beta1"] is not None:
                update = state["exp_avg"].mul_(group["beta1"]).add_(update, alpha=1 - group["beta1"])
            if group["weight_decay"] != 0:
                param.sub_(param * (group["weight_decay"] * lr))
            param.sub_(update)

    @staticmethod
    def _rate(group: dict[str, Any], step: int, scale: Tensor) -> float | Tensor:
        lr = float(group["lr"])
        if group["relative_step"]:
            lr = min(1e-6 * step if group["warmup_init"] else 1e-2, 1 / math.sqrt(step))
        return lr * scale.clamp(min=group["eps"][1]) if group["scale_parameter"] else lr


def _rms(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm / math.sqrt(tensor.numel())


def _second_moment_root(square: Tensor, keep: float, state: State) -> Tensor:
    """1 / sqrt of the squares' running mean: kept whole, or as the outer product of a row's and a column's means."""
    if "exp_avg_sq" in state:
        mean: Tensor = state["exp_avg_sq"].mul_(keep).add_(square, alpha=1 - keep)
        return mean.rsqrt()
    rows: Tensor = state["exp_avg_sq_row"].mul_(keep).add_(square.mean(dim=-1), alpha=1 - keep)
    columns: Tensor = state["exp_avg_sq_col"].mul_(keep).add_(square.mean(dim=-2), alpha=1 - keep)
    row_factor = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt_().unsqueeze(-1)
    return row_factor * columns.unsqueeze(-2).rsqrt()
