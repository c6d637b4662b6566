"""Looking on while training runs: an `Observer` is told of every update, log line, validation and save.

For notebooks, tests and experiment trackers. Observers cannot change anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqkit.checkpoint.policy import SaveEvent
from seqkit.criterions.base import Logging


@dataclass(frozen=True)
class UpdateRecord:
    """One update, unrounded.

    Attributes:
        epoch: from 1.
        num_updates: updates done, this one included.
        seed: what the random generators were set to before it.
        samples: its batches.
        logging: the criterion's figures for each batch (sums, nats).
        sample_size: what the gradients were divided by.
        grad_norm: before clipping, after the division.
        lr: the rate in force during the update.
        lr_after: the rate in force for the next one.
    """

    epoch: int
    num_updates: int
    seed: int
    samples: Sequence[Any]
    logging: Sequence[Logging]
    sample_size: float
    grad_norm: float
    lr: float
    lr_after: float

    @property
    def batch_ids(self) -> list[list[int]]:
        """Dataset indices of the sentences in each batch."""
        return [sample["id"].tolist() for sample in self.samples if sample]

    def total(self, key: str) -> float:
        """One of the criterion's figures, summed over the batches."""
        return sum(float(output[key]) for output in self.logging)


class Observer:
    """Base of all observers; override what you want to see."""

    def on_update(self, update: UpdateRecord) -> None:
        """An update is done."""

    def on_log(self, stream: str, figures: Mapping[str, Any], num_updates: int) -> None:
        """Figures are reported (`train_inner`, `train`, or the name of a validation subset), rounded, base 2."""

    def on_save(self, event: SaveEvent, written: Sequence[str], deleted: Sequence[str]) -> None:
        """Checkpoints were written and deleted; the first name written is the most specific."""

    def on_end(self) -> None:
        """Training has ended, for whatever reason."""
