"""What every task promises: which data, which batches, which generator, which metrics.

A task holds dictionaries and datasets; it builds the model and the criterion; it says how one batch is trained
on and validated. Knows nothing of precision, data parallelism, checkpoints or commands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config
from seqkit.criterions.base import Criterion, Logging, LossOutput, build_criterion
from seqkit.data.dictionary import Dictionary
from seqkit.data.iterators import EpochBatchIterator
from seqkit.data.sequence_dataset import SequenceDataset
from seqkit.errors import CheckpointError, DataError
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model, build_model
from seqkit.registry import registry

register_task = registry("task").register


class Task(ABC):
    """Base of all tasks. Made by `build_task(config)`."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.datasets: dict[str, SequenceDataset] = {}

    @classmethod
    @abstractmethod
    def build(cls, config: Any) -> Task:
        """Read the dictionaries and make the task."""

    @property
    @abstractmethod
    def source_dictionary(self) -> Dictionary | None:
        """Dictionary of the input, if the input is text."""

    @property
    @abstractmethod
    def target_dictionary(self) -> Dictionary:
        """Dictionary of the output."""

    @abstractmethod
    def load_dataset(self, split: str, *, epoch: int = 1, combine: bool = False) -> SequenceDataset:
        """Load `split` into `self.datasets` and return it. `combine`: also `split1`, `split2`, …"""

    def dataset(self, split: str) -> SequenceDataset:
        """A split that was loaded before."""
        if split not in self.datasets:
            raise DataError(f"the split {split!r} is not loaded; loaded: {sorted(self.datasets) or 'none'}")
        return self.datasets[split]

    def has_sharded_data(self, split: str) -> bool:
        """Whether `split` differs from epoch to epoch, so that it is loaded again before each.

        Its iterator is then made anew for each epoch, with `update_epoch_batch_itr=True`.
        """
        return False

    def data_folders(self) -> list[Path]:
        """The folders that splits are read from; none where the task's data are elsewhere."""
        return []

    def max_positions(self) -> Any:
        """The longest input of the task's own options: a number, a pair, or None for no bound."""
        return None

    def generation_start(self, sample: Any) -> tuple[Tensor | None, int | None]:
        """What outputs for a batch begin with: (B, P) tokens padded on the right, and the symbol before them.

        None stands for nothing, and for the generator's own symbol.
        """
        return None, None

    def build_model(self, config: Config) -> Model:
        """Build the model for this task's dictionaries."""
        return build_model(config, self)

    def build_criterion(self, config: Config) -> Criterion:
        """Build the criterion for this task's dictionaries."""
        return build_criterion(config, self)

    def batch_iterator(self, dataset: SequenceDataset, **settings: Any) -> EpochBatchIterator:
        """An `EpochBatchIterator` over a dataset; `settings` are that class's keyword arguments."""
        return EpochBatchIterator(dataset, **settings)

    def begin_epoch(self, epoch: int, model: Model) -> None:
        """Called before each training epoch."""

    def train_loss(self, sample: Any, model: Model, criterion: Criterion) -> LossOutput:
        """Loss of one training batch (the trainer does backward)."""
        return criterion(model, sample)  # type: ignore[no-any-return]

    @torch.no_grad()
    def valid_step(self, sample: Any, model: Model, criterion: Criterion) -> LossOutput:
        """Loss of one validation batch; `logging` may carry further sums that `reduce_metrics` reads."""
        return criterion(model, sample)  # type: ignore[no-any-return]

    def begin_validation(self, model: Model) -> None:
        """Called before each validation run, e.g. to make the generator for BLEU."""

    def reduce_metrics(self, outputs: Sequence[Logging], criterion: Criterion, log: Aggregator) -> None:
        """Write figures of several batches into `log`: words and sentences per batch, then the criterion's."""
        if any("ntokens" in output for output in outputs):
            ntokens = sum(output.get("ntokens", 0) for output in outputs)
            log.log_scalar("wpb", ntokens, priority=180, round=1)
            log.log_speed("wps", ntokens, priority=90, round=1)
        if any("nsentences" in output for output in outputs):
            nsentences = sum(output.get("nsentences", 0) for output in outputs)
            log.log_scalar("bsz", nsentences, priority=190, round=1)
        criterion.reduce_metrics(outputs, log)

    def state_dict(self) -> dict[str, Any]:
        """Task state that goes into checkpoints (plain containers and tensors): digests of the dictionaries."""
        return {"dictionaries": {side: dictionary.digest() for side, dictionary in self._dictionaries().items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""

    def check_dictionaries(self, state: Mapping[str, Any], where: str) -> None:
        """Compare the dictionaries with those that a checkpoint was made with.

        Args:
            state: the checkpoint's task state; one that says nothing of dictionaries fits any.
            where: the checkpoint's name, for the message.

        Raises:
            CheckpointError: they have other symbols, or the same in another order.
        """
        digests = state.get("dictionaries", {})
        other = [
            f"the {side} dictionary ({len(dictionary)} symbols)"
            for side, dictionary in self._dictionaries().items()
            if digests.get(side, dictionary.digest()) != dictionary.digest()
        ]
        if other:
            raise CheckpointError(
                f"{where} was trained with other words, or with these in another order, than those of "
                f"{' and '.join(other)}; give task.data the data folder that it was trained on, or binarize the data "
                "with its dictionary (seqkit-preprocess --srcdict)"
            )

    def _dictionaries(self) -> dict[str, Dictionary]:
        source, target = self.source_dictionary, self.target_dictionary
        return {"target": target} if source is None else {"source": source, "target": target}


def build_task(config: Config) -> Task:
    """Build the task that `config._name` names."""
    task: Task = registry("task").get(str(config._name)).cls.build(config)
    return task
