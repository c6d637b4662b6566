"""What a training process shares with the others: sums over all of them, and whether it is the one that writes.

A single process shares with nobody. Knows nothing of models or of what the sums mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class Communication(Protocol):
    """The processes that train one model together, seen from one of them."""

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        ...

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        ...

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        ...

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in place."""
        ...

    def sum_sample_size(self, sample_size: float | Tensor) -> float | Tensor:
        """The sum over the processes."""
        ...

    def gather_logging(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The log figures of all processes' batches."""
        ...


class SingleProcess:
    """One process on its own."""

    world_size = 1
    rank = 0
    is_main = True

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        pass

    def sum_sample_size(self, sample_size: float | Tensor) -> float | Tensor:
        return sample_size

    def gather_logging(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return outputs
