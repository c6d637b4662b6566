"""Validation: the criterion's figures, and the task's own, over whole subsets.

Knows nothing of optimizers, updates or checkpoints. Every sentence of a subset counts, the last batch's too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from seqkit.criterions.base import Criterion, Logging
from seqkit.data.iterators import EpochBatchIterator
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model
from seqkit.tasks.base import Task
from seqkit.training.device import move_to_device
from seqkit.training.precision import Precision


class Validator:
    """Runs a model over validation subsets.

    Args:
        iterators: the batches of each subset, by its name.
        fixed_seed: the random generators are set to it before each run; None leaves them.
        max_steps: only so many batches of each subset; None for all.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        criterion: Criterion,
        precision: Precision,
        iterators: dict[str, EpochBatchIterator],
        *,
        device: torch.device,
        fixed_seed: int | None = None,
        max_steps: int | None = None,
    ) -> None:
        self._task = task
        self._model = model
        self._criterion = criterion
        self._precision = precision
        self.iterators = iterators
        self._device = device
        self._fixed_seed = fixed_seed
        self._max_steps = max_steps

    @property
    def subsets(self) -> list[str]:
        """Names of the subsets, in order; the first one's figures decide what is best."""
        return list(self.iterators)

    def begin(self) -> None:
        """Put model and random generators into the state for validation."""
        if self._fixed_seed is not None:
            torch.manual_seed(self._fixed_seed)
        self._model.eval()
        self._criterion.eval()
        self._task.begin_validation(self._model)

    def batches(self, subset: str) -> Any:
        """The batches of a subset, in order: an iterable with a length."""
        iterator = self.iterators[subset].next_epoch_itr(shuffle=False)
        return iterator if self._max_steps is None else _First(iterator, self._max_steps)

    @torch.no_grad()
    def outputs(self, batches: Iterable[Any]) -> Iterable[Logging]:
        """The figures of each batch that is not empty, one by one."""
        for sample in batches:
            if not sample:
                continue
            sample = move_to_device(sample, self._device, self._precision.input_dtype)
            with self._precision.autocast():
                output = self._task.valid_step(sample, self._model, self._criterion)
            yield output.logging

    def figures(self, batches: Iterable[Any], stop: Callable[[], bool] | None = None) -> Aggregator | None:
        """Figures batch by batch, as training logs them: words and sentences per batch are averages.

        Args:
            stop: asked after each batch; True breaks off, and there are no figures (None).
        """
        log = Aggregator()
        for logging in self.outputs(batches):
            self._task.reduce_metrics([logging], self._criterion, log)
            if stop is not None and stop():
                return None
        return log

    def total(self, batches: Iterable[Any]) -> Aggregator:
        """Figures of all batches taken as one, as `seqkit-validate` reports them."""
        log = Aggregator()
        self._task.reduce_metrics(list(self.outputs(batches)), self._criterion, log)
        return log


class _First:
    """The first items of an iterable."""

    def __init__(self, items: Any, most: int) -> None:
        self._items = items
        self._most = min(most, len(items))

    def __len__(self) -> int:
        return self._most

    def __iter__(self) -> Any:
        for taken, item in enumerate(self._items, start=1):
            yield item
            if taken >= self._most:
                return
