"""The aggregator: named meters in the order in which they are logged.

One aggregator is one stream of figures (`train`, `train_inner`, a validation subset). It is handed to whoever
logs; there is no global one. Knows nothing of losses, tasks or log formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from seqkit.metrics.meters import (
    METERS,
    AverageMeter,
    Meter,
    StopwatchMeter,
    SumMeter,
    TimeMeter,
    Value,
    rounded,
)

MeterT = TypeVar("MeterT", bound=Meter)

Derived = Callable[["Aggregator"], float]


class Aggregator:
    """Figures of one stream, by name.

    A figure is made by the first `log_*` call that names it; `priority` and `round` of later calls are not looked
    at. Figures are reported by ascending priority, those of equal priority in the order they came. Names that begin
    with an underscore are kept but not reported.
    """

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._derived: dict[str, Derived] = {}
        self._priority: dict[str, tuple[int, int]] = {}

    def log_scalar(
        self, key: str, value: Value | None, weight: Value = 1, priority: int = 10, round: int | None = None
    ) -> None:
        """Average `value` into figure `key`.

        Args:
            key: name of the figure.
            value: a number or a scalar tensor (left on its device); `None` only makes the figure known.
            weight: weight of the value in the average; 0 shows the value until one with a weight comes.
            priority: smaller is reported earlier.
            round: decimals in the report.
        """
        self._meter(key, AverageMeter, priority, round).update(value, weight)

    def log_scalar_sum(self, key: str, value: Value | None, priority: int = 10, round: int | None = None) -> None:
        """Add `value` to figure `key`, which is reported as a sum."""
        self._meter(key, SumMeter, priority, round).update(value)

    def log_derived(self, key: str, fn: Derived, priority: int = 20) -> None:
        """Report `fn(aggregator)` as figure `key`; it is computed anew each time it is asked for."""
        if key not in self:
            self._derived[key] = fn
            self._set_priority(key, priority)

    def log_speed(self, key: str, value: Value, priority: int = 30, round: int | None = None) -> None:
        """Count `value` events into the speed `key` (events per second).

        The first call only starts the clock: its events happened before it.
        """
        if key in self:
            self._meter(key, TimeMeter, priority, round).update(value)
        else:
            self._meter(key, TimeMeter, priority, round).reset()

    def log_start_time(self, key: str, priority: int = 40, round: int | None = None) -> None:
        """Start the stopwatch `key` (seconds)."""
        self._meter(key, StopwatchMeter, priority, round).start()

    def log_stop_time(self, key: str, weight: Value = 0) -> None:
        """Stop the stopwatch `key`; with a `weight`, seconds are reported per unit of it.

        A key that was never started is passed over.
        """
        meter = self._meters.get(key)
        if isinstance(meter, StopwatchMeter):
            meter.stop(weight)

    def add_meter(self, key: str, meter: Meter, priority: int = 10) -> None:
        """Put a meter of one's own under `key`.

        Raises:
            KeyError: there is a figure of that name.
        """
        if key in self:
            raise KeyError(f"there is a figure {key!r} already")
        self._meters[key] = meter
        self._set_priority(key, priority)

    def get_meter(self, key: str) -> Meter | None:
        """The meter called `key`, or `None`."""
        return self._meters.get(key)

    def __getitem__(self, key: str) -> Any:
        """The meter called `key` (an `AverageMeter` where `log_scalar` made it, and so on)."""
        return self._meters[key]

    def __contains__(self, key: object) -> bool:
        return key in self._priority

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._priority)

    def keys(self) -> list[str]:
        """All names in the order of the report, those with a leading underscore too."""
        return sorted(self._priority, key=self._priority.__getitem__)

    def smoothed_value(self, key: str) -> float | None:
        """One figure, rounded as it is reported."""
        if key in self._derived:
            return self._derived[key](self)
        return self._meters[key].smoothed_value

    def smoothed_values(self) -> dict[str, float | None]:
        """All figures in the order of the report, rounded; names with a leading underscore are left out."""
        return {key: self.smoothed_value(key) for key in self.keys() if not key.startswith("_")}

    def reset(self) -> None:
        """Forget all values; the figures' names, order and rounding stay."""
        for meter in self._meters.values():
            meter.reset()

    def state_dict(self) -> dict[str, Any]:
        """Plain containers from which the averages go on.

        Derived figures are not in it: they come back with the next `log_derived`.
        """
        return {
            "meters": [
                {
                    "key": key,
                    "priority": self._priority[key][0],
                    "kind": type(self._meters[key]).__name__,
                    "state": self._meters[key].state_dict(),
                }
                for key in self.keys()
                if key in self._meters
            ]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` described; figures of before are forgotten."""
        self._meters.clear()
        self._derived.clear()
        self._priority.clear()
        for entry in state["meters"]:
            meter = METERS[entry["kind"]]()
            meter.load_state_dict(entry["state"])
            self.add_meter(entry["key"], meter, entry["priority"])

    def _meter(self, key: str, kind: type[MeterT], priority: int, round: int | None) -> MeterT:
        if key not in self:
            self.add_meter(key, kind(round=round), priority)
        meter = self._meters.get(key)
        if not isinstance(meter, kind):
            held = "a derived figure" if meter is None else f"a {type(meter).__name__}"
            raise TypeError(f"figure {key!r} is {held}, not a {kind.__name__}")
        return meter

    def _set_priority(self, key: str, priority: int) -> None:
        self._priority[key] = (priority, len(self._priority))


def perplexity(loss: float | None, round: int = 2, base: float = 2) -> float:
    """`base ** loss`, rounded; infinity where that overflows, 0 where there is no loss."""
    if loss is None:
        return 0.0
    try:
        return rounded(base**loss, round)
    except OverflowError:
        return math.inf
