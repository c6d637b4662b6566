"""What every criterion promises. Sees only `models/base.py`.

Axes: B batch, T target length, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from seqkit.config.base import Config
from seqkit.data.sample import Sample
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model
from seqkit.registry import registry

register_criterion = registry("criterion").register

Logging = Mapping[str, Any]


class LossOutput(NamedTuple):
    """A criterion's result for one batch.

    Attributes:
        loss: summed (not averaged) loss in nats, a scalar that can be differentiated.
        sample_size: what gradients are divided by, summed over the update's batches and ranks.
        logging: sums to be added up over batches and ranks; values are numbers or scalar tensors on the
            device (never moved to the host here).
    """

    loss: Tensor
    sample_size: int | Tensor
    logging: dict[str, Any]


class Criterion(nn.Module, ABC):
    """Base of all losses.

    Args:
        config: the component's own config dataclass.
        pad: index of the padding symbol, which is never scored.
    """

    def __init__(self, config: Config, pad: int) -> None:
        super().__init__()
        self.config = config
        self.pad = pad

    @classmethod
    def build(cls, config: Any, task: Any) -> Criterion:
        """Make the criterion for a task."""
        return cls(config, task.target_dictionary.pad())

    @abstractmethod
    def forward(self, model: Model, sample: Sample, *, reduce: bool = True) -> LossOutput:
        """Loss of one batch. With `reduce=False`, `loss` has one entry per target position (flattened B·T)."""

    @abstractmethod
    def reduce_metrics(self, outputs: Sequence[Logging], log: Aggregator) -> None:
        """Add up the `logging` of several batches and write the figures into `log` (losses in base 2)."""

    @property
    def logging_can_be_summed(self) -> bool:
        """Whether `logging` of several ranks may be added up key by key before `reduce_metrics`."""
        return True


def build_criterion(config: Config, task: Any) -> Criterion:
    """Build the criterion that `config._name` names."""
    criterion: Criterion = registry("criterion").get(str(config._name)).cls.build(config, task)
    return criterion
