"""One log call that reaches several aggregators, such as the stream of a whole epoch and that of the last updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqkit.metrics.aggregator import Aggregator, Derived
from seqkit.metrics.meters import Meter, Value


class Tee(Aggregator):
    """Hands every `log_*` call on to `targets`. It keeps no figures itself; those asked for are the first target's."""

    def __init__(self, targets: Sequence[Aggregator]) -> None:
        super().__init__()
        self.targets = list(targets)

    def log_scalar(
        self, key: str, value: Value | None, weight: Value = 1, priority: int = 10, round: int | None = None
    ) -> None:
        for target in self.targets:
            target.log_scalar(key, value, weight, priority, round)

    def log_scalar_sum(self, key: str, value: Value | None, priority: int = 10, round: int | None = None) -> None:
        for target in self.targets:
            target.log_scalar_sum(key, value, priority, round)

    def log_derived(self, key: str, fn: Derived, priority: int = 20) -> None:
        for target in self.targets:
            target.log_derived(key, fn, priority)

    def log_speed(self, key: str, value: Value, priority: int = 30, round: int | None = None) -> None:
        for target in self.targets:
            target.log_speed(key, value, priority, round)

    def log_start_time(self, key: str, priority: int = 40, round: int | None = None) -> None:
        for target in self.targets:
            target.log_start_time(key, priority, round)

    def log_stop_time(self, key: str, weight: Value = 0) -> None:
        for target in self.targets:
            target.log_stop_time(key, weight)

    def get_meter(self, key: str) -> Meter | None:
        return self.targets[0].get_meter(key)

    def __getitem__(self, key: str) -> Any:
        return self.targets[0][key]

    def __contains__(self, key: object) -> bool:
        return key in self.targets[0]

    def keys(self) -> list[str]:
        return self.targets[0].keys()

    def smoothed_value(self, key: str) -> float | None:
        return self.targets[0].smoothed_value(key)
