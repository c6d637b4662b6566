"""Validation: the criterion's figures, and the task's own, over whole subsets.

Knows nothing of optimizers, updates or checkpoints. Every sentence of a subset counts, the last batch's too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from seqkit.criterions.base import Criterion, Logging
from seqkit.data.iterators import EpochBatchIterator
from seqkit.distributed.communication import Communication, SingleProcess
from seqkit.distributed.out_of_memory import is_out_of_memory
from seqkit.metrics.aggregator import Aggregator
from seqkit.metrics.meters import TimeMeter
from seqkit.models.base import Model
from seqkit.tasks.base import Task
from seqkit.training.faults import MemoryExhaustedError, describe_batch
from seqkit.training.precision import Precision


class Validator:
    """Runs a model over validation subsets.

    Args:
        iterators: this process's batches of each subset, by its name.
        fixed_seed: the random generators are set to it before each run; None leaves them.
        max_steps: only so many batches of each subset; None for all.
        communication: the processes that share the work; figures are those of all of them.
        whole_weights: context in which this process has all of the model's weights, where they are spread.
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
        communication: Communication | None = None,
        whole_weights: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._task = task
        self._model = model
        self._criterion = criterion
        self._precision = precision
        self.iterators = iterators
        self._device = device
        self._fixed_seed = fixed_seed
        self._max_steps = max_steps
        self._communication = SingleProcess() if communication is None else communication
        self._whole_weights = whole_weights

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
    def outputs(self, batches: Iterable[Any]) -> Iterator[Logging | None]:
        """The figures of each batch, one by one; None for an empty one."""
        with self._whole_weights():
            for sample in batches:
                self._communication.step("validation")
                if not sample:
                    yield None
                    continue
                yield self._score(sample)

    def _score(self, sample: Any) -> Logging:
        """A batch's figures; where memory does not suffice, once more after all that is cached was given back.

        Raises:
            MemoryExhaustedError: it does not suffice then either.
        """
        for _ in range(2):
            try:
                moved = self._precision.move(sample, self._device)
                with self._precision.autocast():
                    return self._task.valid_step(moved, self._model, self._criterion).logging
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                moved = None
            # Not inside the handler: the error holds what the batch has allocated.
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        raise MemoryExhaustedError(
            f"validation: memory did not suffice for the batch of {describe_batch(sample)}, not even with all that was "
            "cached given back; set a smaller dataset.max_tokens_valid or dataset.batch_size_valid"
        )

    def figures(self, batches: Iterable[Any], stop: Callable[[], bool] | None = None) -> Aggregator | None:
        """Figures batch by batch, as training logs them: words and sentences per batch are averages.

        Of several processes, the batches at the same place count as one.

        Args:
            stop: asked after each batch; True in any process breaks off, and there are no figures (None).
        """
        if self._communication.world_size > 1:
            return self._shared_figures(batches, stop)
        log = Aggregator()
        for logging in self.outputs(batches):
            if logging is not None:
                self._task.reduce_metrics([logging], self._criterion, log)
            if stop is not None and stop():
                return None
        return log

    def _shared_figures(self, batches: Iterable[Any], stop: Callable[[], bool] | None) -> Aggregator | None:
        """The processes exchange their figures at the end, all at once."""
        steps: list[list[Logging]] = []
        broken_off, began = False, 0.0
        for logging in self.outputs(batches):
            steps.append([] if logging is None else [logging])
            began = began or time.perf_counter()
            broken_off = stop is not None and stop()
            if broken_off:
                break
        if self._communication.any(broken_off):
            return None
        log = Aggregator()
        for outputs in self._share(steps):
            if outputs:
                self._task.reduce_metrics(outputs, self._criterion, log)
        for meter in map(log.get_meter, log.keys()):
            if isinstance(meter, TimeMeter):
                meter.start = began  # what is counted now happened since then
        return log

    def total(self, batches: Iterable[Any]) -> Aggregator:
        """Figures of all batches taken as one, as `seqkit-validate` reports them."""
        outputs = [logging for logging in self.outputs(batches) if logging is not None]
        log = Aggregator()
        self._task.reduce_metrics(self._share([outputs])[0], self._criterion, log)
        return log

    def _share(self, steps: list[list[Logging]]) -> list[list[Logging]]:
        return self._communication.share_steps(steps, can_be_summed=self._criterion.logging_can_be_summed)


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
