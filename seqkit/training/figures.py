"""The figures of training's log lines: the stream of the epoch (`train`) and that of the last updates (`train_inner`).

Knows names, order and rounding of what training itself logs; the task and the criterion log theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from seqkit.criterions.base import Criterion
from seqkit.errors import ConfigError, did_you_mean
from seqkit.metrics.aggregator import Aggregator
from seqkit.metrics.tee import Tee
from seqkit.tasks.base import Task
from seqkit.training.precision import Precision
from seqkit.training.step import UpdateResult

_GIBIBYTE = 1024**3


class TrainingFigures:
    """Collects what is logged of each update.

    Args:
        task, criterion: write their figures of an update's batches.
        precision: its loss scale is logged, where it has one.
        clip_norm: where it is above 0, the share of clipped updates is logged, in percent.
        device: where it is a GPU, its free memory is logged.
    """

    def __init__(
        self, task: Task, criterion: Criterion, precision: Precision, *, clip_norm: float, device: torch.device
    ) -> None:
        self.epoch = Aggregator()
        self.inner = Aggregator()
        self._both = Tee([self.epoch, self.inner])
        self._task = task
        self._criterion = criterion
        self._precision = precision
        self._clip_norm = clip_norm
        self._device = device

    def begin_update(self) -> None:
        """An update begins."""
        self._both.log_start_time("train_wall", priority=800, round=0)

    def end_update(self) -> None:
        """An update has ended, with or without a step."""
        if self._precision.scaler is not None:
            self._both.log_scalar("loss_scale", self._precision.scaler.loss_scale, priority=700, round=4, weight=0)
        self._both.log_stop_time("train_wall")

    def log_skips(self, skipped: int) -> None:
        """So many updates have been left out so far."""
        self._both.log_scalar("skipped", skipped, weight=0, priority=750)

    def log_rate(self, num_updates: int, lr: float, group_rates: Mapping[str, float]) -> None:
        """So many updates are done and this rate is in force for the next; `group_rates`: those of single groups."""
        self._both.log_scalar("num_updates", num_updates, weight=0, priority=200)
        self._both.log_scalar("lr", lr, weight=0, priority=300)
        for group, rate in group_rates.items():
            self._both.log_scalar(f"lr_{group}", rate, weight=0, priority=300)

    def log_update(self, result: UpdateResult, ema_decay: float | None = None) -> None:
        """The figures of an update that was done."""
        log = self._both
        log.log_speed("ups", 1.0, priority=100, round=2)
        log.log_scalar("gnorm", result.grad_norm, priority=400, round=3)
        if self._clip_norm > 0:
            log.log_scalar("clip", 100 if result.grad_norm > self._clip_norm else 0, priority=500, round=1)
        if ema_decay is not None:
            log.log_scalar("ema_decay", ema_decay, priority=10000, round=5, weight=0)
        if self._device.type == "cuda":
            used = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            total = torch.cuda.get_device_properties(self._device).total_memory
            log.log_scalar("gb_free", (total - used) / _GIBIBYTE, priority=1500, round=1, weight=0)
        if result.logging:
            self._task.reduce_metrics(result.logging, self._criterion, log)

    def take_inner(self, *, wall: float) -> dict[str, Any]:
        """The figures since the last call, rounded; `wall` is seconds since the run began."""
        return self._take(self.inner, wall)

    def take_epoch(self, *, wall: float) -> dict[str, Any]:
        """The figures of the epoch, rounded."""
        return self._take(self.epoch, wall)

    def _take(self, log: Aggregator, wall: float) -> dict[str, Any]:
        figures: dict[str, Any] = log.smoothed_values()
        log.reset()
        return figures | {"wall": round(wall)}

    def state_dict(self) -> dict[str, Any]:
        """What averages need to go on."""
        return {"train": self.epoch.state_dict(), "train_inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        for name, log in (("train", self.epoch), ("train_inner", self.inner)):
            if name in state:
                log.load_state_dict(state[name])


def require_figure(figures: Mapping[str, Any], metric: str, subset: str) -> None:
    """Make sure that validation gives the figure that decides which checkpoint is best.

    Raises:
        ConfigError: it does not; the message lists those that there are.
    """
    if metric not in figures:
        raise ConfigError(
            f"checkpoint.best_checkpoint_metric={metric} is not a figure of validation on {subset!r}"
            f"{did_you_mean(metric, figures)}; there are: {', '.join(figures)}"
        )
