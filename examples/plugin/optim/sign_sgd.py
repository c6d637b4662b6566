"""The optimizer `sign_sgd` (Bernstein et al., 2018) and the schedule `half_life`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from seqkit.config.base import Config, option
from seqkit.optim.base import Parameters, register_optimizer
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class SignSGDConfig(Config):
    """Options of `SignSGD`."""

    sign_momentum: float = option(0.9, "share of the last direction that is kept", low=0.0, high=1.0)
    lr: list[float] = option([0.001], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("sign_sgd", config=SignSGDConfig)
class SignSGD(torch.optim.Optimizer):
    """Steps of one size: m <- b m + (1 - b) g;  p <- p - lr sign(m)."""

    def __init__(self, params: Parameters, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @classmethod
    def build(cls, config: SignSGDConfig, params: Parameters) -> SignSGD:
        return cls(params, lr=config.lr[0], momentum=config.sign_momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    state = self.state[param]
                    if not state:
                        state["exp_avg"] = torch.zeros_like(param)
                    state["exp_avg"].lerp_(param.grad, 1 - group["momentum"])
                    param.sub_(state["exp_avg"].sign(), alpha=group["lr"])
        return loss


@dataclass
class HalfLifeConfig(Config):
    """Options of `HalfLife`."""

    half_life: int = option(1000, "updates in which the rate is halved", low=1)
    lr: list[float] = option([0.001], "the first rate", follows="optimization.lr")


@register_lr_scheduler("half_life", config=HalfLifeConfig)
class HalfLife(LRScheduler):
    """lr 2^(-n / half_life) after n updates."""

    def step_update(self, num_updates: int) -> float:
        self.lr = self.config.lr[0] * 2.0 ** (-num_updates / self.config.half_life)
        return self.lr
