"""Meters: small accumulators behind every logged figure (averages, sums, speeds, stopwatches).

Values may be tensors on any device; they are summed there and brought to the host only when a figure is
read, so logging an update does not stall the accelerator. Knows nothing of losses, tasks or log formats.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any, TypeAlias

from torch import Tensor

Value: TypeAlias = float | int | Tensor


def as_number(value: Value) -> float:
    """A value as a Python number; reads a one-element tensor from its device."""
    return value.item() if isinstance(value, Tensor) else value


def rounded(value: Value, digits: int | None) -> float:
    """`value` as a Python number, rounded to `digits` decimals (`None`: not rounded)."""
    number = as_number(value)
    return number if digits is None else round(number, digits)


def _precise(value: Value) -> Value:
    """Sums over a whole epoch are kept in double precision (where the device has it)."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.is_floating_point() and value.device.type != "mps":
            return value.double()
    return value


def _add(total: Value, value: Value) -> Value:
    if isinstance(total, Tensor) and isinstance(value, Tensor) and total.device != value.device:
        total = total.to(value.device)
    return total + value


class Meter(ABC):
    """Base of all meters.

    Args:
        round: decimals of `smoothed_value`; `None` leaves it unrounded.
    """

    def __init__(self, round: int | None = None) -> None:
        self.round = round
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Forget everything."""

    @property
    @abstractmethod
    def smoothed_value(self) -> float | None:
        """The figure to log; `None` where nothing has been seen."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Plain numbers from which the meter goes on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned."""


class AverageMeter(Meter):
    """Weighted average of the values seen: sum(value * weight) / sum(weight).

    Attributes:
        val: the last value. Values of weight 0 change it alone, and it is the average until a weight comes.
        sum, count: weighted sum and total weight.
    """

    val: Value | None
    sum: Value
    count: Value

    def reset(self) -> None:
        self.val = None
        self.sum = 0
        self.count = 0

    def update(self, value: Value | None, weight: Value = 1) -> None:
        """Add `value` with `weight` (a number or a scalar tensor); `None` adds nothing."""
        if value is None:
            return
        self.val = value.detach() if isinstance(value, Tensor) else value
        # A weight on the device is not read to decide whether it is zero: 0 * value adds nothing to a finite sum.
        if isinstance(weight, Tensor) or weight > 0:
            weight = _precise(weight)
            self.sum = _add(self.sum, _precise(value) * weight)
            self.count = _add(self.count, weight)

    @property
    def avg(self) -> float | None:
        """The average as a Python number; the last value where the total weight is 0; `None` before any value."""
        count = as_number(self.count)
        if count > 0:
            return as_number(self.sum) / count
        return None if self.val is None else as_number(self.val)

    @property
    def smoothed_value(self) -> float | None:
        average = self.avg
        return None if average is None else rounded(average, self.round)

    def state_dict(self) -> dict[str, Any]:
        return {
            "val": None if self.val is None else as_number(self.val),
            "sum": as_number(self.sum),
            "count": as_number(self.count),
            "round": self.round,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.val = state["val"]
        self.sum = state["sum"]
        self.count = state["count"]
        self.round = state.get("round")


class SumMeter(Meter):
    """Plain sum of the values seen."""

    sum: Value

    def reset(self) -> None:
        self.sum = 0

    def update(self, value: Value | None) -> None:
        """Add `value`; `None` adds nothing."""
        if value is not None:
            self.sum = _add(self.sum, _precise(value))

    @property
    def smoothed_value(self) -> float:
        return rounded(self.sum, self.round)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": as_number(self.sum), "round": self.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sum = state["sum"]
        self.round = state.get("round")


class TimeMeter(Meter):
    """Events per second since the last reset.

    Args:
        init: seconds already spent when the meter starts (of an earlier run).
        n: events already seen.
        round: decimals of the figure.
    """

    def __init__(self, init: float = 0, n: Value = 0, round: int | None = None) -> None:
        self.round = round
        self.reset(init, n)

    def reset(self, init: float = 0, n: Value = 0) -> None:
        self.init = init
        self.start = time.perf_counter()
        self.n: Value = n
        self.i = 0

    def update(self, value: Value = 1) -> None:
        """`value` more events have happened."""
        self.n = _add(self.n, _precise(value))
        self.i += 1

    @property
    def elapsed_time(self) -> float:
        """Seconds since the reset, with the `init` seconds of earlier runs."""
        return self.init + (time.perf_counter() - self.start)

    @property
    def avg(self) -> float:
        """Events per second."""
        return as_number(self.n) / self.elapsed_time

    @property
    def smoothed_value(self) -> float:
        return rounded(self.avg, self.round)

    def state_dict(self) -> dict[str, Any]:
        return {"init": self.elapsed_time, "n": as_number(self.n), "round": self.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # A state with a start belongs to a clock that no longer runs: its count cannot be set against a time.
        self.reset(init=state["init"], n=0 if "start" in state else state["n"])
        self.round = state.get("round")


class StopwatchMeter(Meter):
    """Seconds between `start` and `stop`: their sum, and their average per event."""

    sum: float
    n: Value
    start_time: float | None

    def __init__(self, round: int | None = None) -> None:
        self.round = round
        self.sum = 0
        self.n = 0
        self.start_time = None

    def start(self) -> None:
        """Start the watch."""
        self.start_time = time.perf_counter()

    def stop(self, n: Value = 1) -> None:
        """Stop the watch: the seconds since `start` were for `n` events. Without a start, nothing happens."""
        if self.start_time is not None:
            self.sum += time.perf_counter() - self.start_time
            self.n = _add(self.n, _precise(n))

    def reset(self) -> None:
        self.sum = 0
        self.n = 0
        self.start()

    @property
    def avg(self) -> float:
        """Seconds per event; the sum where no events were counted."""
        n = as_number(self.n)
        return self.sum / n if n > 0 else self.sum

    @property
    def elapsed_time(self) -> float:
        """Seconds since the last start."""
        return 0.0 if self.start_time is None else time.perf_counter() - self.start_time

    @property
    def smoothed_value(self) -> float:
        return rounded(self.avg if self.sum > 0 else self.elapsed_time, self.round)

    def state_dict(self) -> dict[str, Any]:
        return {"sum": self.sum, "n": as_number(self.n), "round": self.round}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sum = state["sum"]
        self.n = state["n"]
        self.start_time = None
        self.round = state.get("round")


METERS: dict[str, type[Meter]] = {
    meter.__name__: meter for meter in (AverageMeter, SumMeter, TimeMeter, StopwatchMeter)
}
"""Meter classes by the name under which a state dict keeps them."""
