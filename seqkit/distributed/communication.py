"""What a training process shares with the others: sums over all of them, and whether it is the one that writes.

A single process shares with nobody. Knows nothing of models or of what the sums mean.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from torch import Tensor


class UpdateSums(NamedTuple):
    """What all processes know after an update's exchange.

    Attributes:
        logging: the log figures of all processes' batches; where they can be summed, in one mapping.
        sample_size: the sum over the processes.
        exhausted: whether memory did not suffice in any of them.
    """

    logging: list[dict[str, Any]]
    sample_size: float | Tensor
    exhausted: bool


class Communication(Protocol):
    """The processes that train one model together, seen from one of them.

    What is called on one of them must be called on all, in the same order.

    Attributes:
        notice: a number that this process has to tell; the next `share_update` takes it along.
        heard: the largest notice of all processes at the last `share_update`.
    """

    notice: int
    heard: int

    @property
    def process_group(self) -> Any:
        """torch's handle of them, for its own functions; None: the one that it takes by itself."""
        ...

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

    def share_update(
        self,
        logging: list[dict[str, Any]],
        sample_size: float | Tensor,
        grad_norm: Tensor,
        *,
        exhausted: bool,
        can_be_summed: bool = True,
    ) -> UpdateSums:
        """The one exchange of an update beside that of the gradients.

        Args:
            logging: the log figures of this process's batches.
            sample_size: of this process's batches.
            grad_norm: norm of the gradient as this process has it after the exchange; it must be the same in all.
            exhausted: whether this process's memory did not suffice.
            can_be_summed: whether figures may be added up key by key.

        Raises:
            InconsistentGradientsError: processes have different gradients.
        """
        ...

    def share_steps(
        self, steps: Sequence[Sequence[Mapping[str, Any]]], *, can_be_summed: bool = True
    ) -> list[list[Mapping[str, Any]]]:
        """The log figures of all processes, step by step; where they can be summed, one mapping for each step."""
        ...

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes give: how what happens to one is known to all."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        ...

    def gather_texts(self, text: str) -> list[str]:
        """What each process has to say, by rank; for reports that are rare."""
        ...

    def from_main(self, value: Any) -> Any:
        """The main process's value: tensors (on the CPU) and plain containers."""
        ...

    def step(self, doing: str) -> None:
        """This process gets on: it now does this. Who does not say so for long is taken to stall."""
        ...

    def waiting(self, doing: str) -> AbstractContextManager[None]:
        """Context in which this process waits for the others."""
        ...

    def saving(self) -> AbstractContextManager[Any]:
        """Context, for any thread, in which a checkpoint is written: a failure elsewhere does not cut it short."""
        ...

    def barrier(self, doing: str) -> None:
        """Wait until all processes are here."""
        ...

    def aside(self) -> Communication:
        """The same processes, connected once more, for a thread beside the main one in each of them."""
        ...


class SingleProcess:
    """One process on its own."""

    process_group = None
    world_size = 1
    rank = 0
    is_main = True

    def __init__(self) -> None:
        self.notice = 0
        self.heard = 0

    def share_update(
        self,
        logging: list[dict[str, Any]],
        sample_size: float | Tensor,
        grad_norm: Tensor,
        *,
        exhausted: bool,
        can_be_summed: bool = True,
    ) -> UpdateSums:
        self.heard = self.notice
        return UpdateSums(logging, sample_size, exhausted)

    def share_steps(
        self, steps: Sequence[Sequence[Mapping[str, Any]]], *, can_be_summed: bool = True
    ) -> list[list[Mapping[str, Any]]]:
        return [list(step) for step in steps]

    def largest(self, number: int) -> int:
        return number

    def any(self, flag: bool) -> bool:
        return flag

    def gather_texts(self, text: str) -> list[str]:
        return [text]

    def from_main(self, value: Any) -> Any:
        return value

    def step(self, doing: str) -> None:
        pass

    def waiting(self, doing: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def saving(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def barrier(self, doing: str) -> None:
        pass

    def aside(self) -> SingleProcess:
        return self
