"""Adam on the CPU for a model on a GPU: its state and the master weights are in the CPU's memory.

Knows nothing of how weights and gradients travel: `training/precision.py` keeps the master weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seqkit.config.base import Config, option
from seqkit.optim._fused import first_rate, two_decays
from seqkit.optim.adam import Adam
from seqkit.optim.base import Parameters, register_optimizer


@dataclass
class CPUAdamConfig(Config):
    """Options of `CPUAdam`."""

    adam_betas: list[float] = option(
        [0.9, 0.999], "decay per step of the gradient's mean and of its square's mean", low=0.0, high=1.0
    )
    adam_eps: float = option(1e-8, "added to the root of the squares' mean, before its bias is corrected", low=0.0)
    weight_decay: float = option(0.0, "share of a parameter taken away at each step, times the learning rate", low=0.0)
    fp16_adam_stats: bool = option(False, "keep the means in float16, which halves their memory")
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("cpu_adam", config=CPUAdamConfig)
class CPUAdam(Adam):
    """`Adam` (Kingma and Ba, 2015) for models that fill their GPU, as in ZeRO-Offload (Ren et al., 2021).

    Of 16 bytes that float32 training takes for each weight, 8 (4 with `bf16`) stay on the GPU. An update takes longer:
    gradients travel to the CPU and weights back. On a CPU it is `adam`.
    """

    offloads: ClassVar[bool] = True

    @classmethod
    def build(cls, config: CPUAdamConfig, params: Parameters) -> CPUAdam:  # type: ignore[override]
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            betas=two_decays(config.adam_betas, "adam_betas"),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
            fp16_stats=config.fp16_adam_stats,
        )
