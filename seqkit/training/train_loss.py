"""The loss of one training batch as a module: model and criterion together, which is what data parallelism wraps.

Knows nothing of gradients, precision or processes.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from seqkit.criterions.base import Criterion, LossOutput
from seqkit.models.base import Model
from seqkit.tasks.base import Task


class TrainLoss(nn.Module):
    """`task.train_loss` as a module.

    The criterion sees the model itself, whatever is wrapped around this module.
    """

    def __init__(self, task: Task, model: Model, criterion: Criterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self._task = task

    def forward(self, sample: Any) -> LossOutput:
        """Loss of one batch."""
        return self._task.train_loss(sample, self.model, self.criterion)
