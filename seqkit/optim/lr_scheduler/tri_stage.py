"""Three stages: linear rise, constant, exponential fall (SpecAugment: Park et al., 2019).

Knows nothing of losses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.optim.lr_scheduler._rates import single_rate
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class TriStageConfig(Config):
    """Options of `TriStage`."""

    warmup_steps: int = option(0, "updates of the rise", low=0)
    hold_steps: int = option(0, "updates at the peak", low=0)
    decay_steps: int = option(0, "updates of the fall", low=0)
    phase_ratio: list[float] | None = option(
        None, "the three stages as shares of optimization.max_update, in place of *_steps", low=0.0, high=1.0
    )
    init_lr_scale: float = option(0.01, "first rate as a share of the peak", low=0.0)
    final_lr_scale: float = option(0.01, "last rate as a share of the peak", low=0.0)
    max_update: float = option(0.0, "updates of the whole run", low=0.0, follows="optimization.max_update")
    lr: list[float] = option([0.25], "the peak rate", follows="optimization.lr")


@register_lr_scheduler("tri_stage", config=TriStageConfig)
class TriStage(LRScheduler):
    """Linear from `init_lr_scale` * lr to lr, lr, exponential down to `final_lr_scale` * lr, and that from then on.

    Raises:
        ConfigError: the stages are not given, or their shares do not add up to 1.
    """

    def __init__(self, config: TriStageConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.peak = single_rate(config.lr, "tri_stage")
        self.start = config.init_lr_scale * self.peak
        self.end = config.final_lr_scale * self.peak
        if config.phase_ratio is not None:
            if len(config.phase_ratio) != 3 or not math.isclose(sum(config.phase_ratio), 1, rel_tol=1e-9):
                raise ConfigError(
                    f"lr_scheduler.phase_ratio={list(config.phase_ratio)} must be three shares that add up to 1"
                )
            if config.max_update <= 0:
                raise ConfigError("lr_scheduler.phase_ratio needs optimization.max_update above 0")
            stages = [int(config.max_update * ratio) for ratio in config.phase_ratio]
        else:
            stages = [config.warmup_steps, config.hold_steps, config.decay_steps]
            if sum(stages) <= 0:
                raise ConfigError(
                    "lr_scheduler=tri_stage needs lr_scheduler.warmup_steps, hold_steps and decay_steps, "
                    "or lr_scheduler.phase_ratio"
                )
        self.warmup_steps, self.hold_steps, self.decay_steps = stages
        if self.decay_steps > 0 and config.final_lr_scale <= 0:
            raise ConfigError("lr_scheduler.final_lr_scale must be above 0: an exponential fall never reaches 0")
        self.slope = (self.peak - self.start) / self.warmup_steps if self.warmup_steps else 0.0
        self.decay_factor = -math.log(config.final_lr_scale) / self.decay_steps if self.decay_steps else 0.0
        self.lr = self.start

    def step_update(self, num_updates: int) -> float:
        decayed = num_updates - self.warmup_steps - self.hold_steps
        if num_updates < self.warmup_steps:
            self.lr = self.start + self.slope * num_updates
        elif decayed < 0:
            self.lr = self.peak
        elif decayed <= self.decay_steps:
            self.lr = self.peak * math.exp(-self.decay_factor * decayed)
        else:
            self.lr = self.end
        return self.lr
