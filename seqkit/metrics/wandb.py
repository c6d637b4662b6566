"""Weights & Biases: the figures of all streams in one run, each under its stream's name (`train_inner/loss`).

Knows nothing of training; figures come as a name-to-number mapping.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from seqkit.errors import require_extra
from seqkit.metrics.meters import AverageMeter, as_number


class WandbLog:
    """One run of a Weights & Biases project.

    Keys, account and mode come from the environment as everywhere with wandb (`WANDB_API_KEY`, `WANDB_MODE`, …).

    Args:
        project: the project.
        name: the run's name, where the environment variable `WANDB_NAME` gives none.
        config: what the run was started with, by section.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, project: str, name: str, config: Mapping[str, Any] | None = None) -> None:
        wandb = require_extra("wandb", extra="wandb", purpose="common.wandb_project")
        name = os.environ.get("WANDB_NAME") or name
        self._run: Any = wandb.init(project=project, name=name, config=dict(config or {}))

    def write(self, stats: Mapping[str, Any], stream: str, step: int | None = None) -> None:
        """Send the numbers of `stats` as of `step` (default: the figure `num_updates`)."""
        if step is None:
            step = int(as_number(stats["num_updates"]))
        numbers = {
            f"{stream}/{key}": as_number(number)
            for key, value in stats.items()
            if key != "num_updates" and (number := value.val if isinstance(value, AverageMeter) else value) is not None
        }
        self._run.log(numbers, step=step)

    def close(self) -> None:
        """End the run: what is still on its way is sent."""
        if self._run is not None:
            self._run.finish()
            self._run = None

    def __enter__(self) -> WandbLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
