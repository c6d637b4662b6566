"""Where a step's time goes: named phases of an update, and a profile of a few updates amid training.

Knows nothing of what the phases do. Times are those of this process.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.autograd.profiler import record_function

from seqkit.config.root import RootConfig
from seqkit.errors import UserError
from seqkit.metrics.text_table import text_table
from seqkit.training.observer import Observer, UpdateRecord

if TYPE_CHECKING:
    from torch.profiler import profile

logger = logging.getLogger(__name__)

T = TypeVar("T")

DATA, MOVE, FORWARD, BACKWARD = "data", "to the device", "forward", "backward"
EXCHANGE, CLIP, OPTIMIZER = "exchange and norm", "clip", "optimizer"
"""The phases of an update, in order: waiting for a batch, copying it to the device, and so on."""

_MARK = "phase: "
_OPERATORS = 15
_FOREIGN_MARKS = ("enumerate(DataLoader)", "Optimizer.", "ProfilerStep")
"""Marks of torch's own around whole phases."""


def phase(name: str) -> AbstractContextManager[Any]:
    """What runs inside belongs to the phase `name`. Costs a microsecond where nobody profiles."""
    return record_function(_MARK + name)


def fetched(items: Iterable[T]) -> Iterator[T]:
    """The same items, with the wait for each of them as the phase `data`."""
    iterator = iter(items)
    while True:
        with phase(DATA):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item


@dataclass(frozen=True)
class Span:
    """One operator's or phase's run, in microseconds of one clock.

    Attributes:
        name: as the profiler has it.
        start, end: on the host.
        host: time on the host outside of operators that it called.
        device: time on the device of the kernels that it started itself.
    """

    name: str
    start: float
    end: float
    host: float
    device: float


@dataclass(frozen=True)
class Profile:
    """A profile of some updates.

    Attributes:
        updates: how many.
        seconds: wall time of all of them.
        phases: seconds of each phase on the host, in order of their beginning.
        device_phases: seconds of the kernels started in each phase; empty without a GPU.
        operators: name, calls, seconds on the host, seconds on the device; the costliest first.
    """

    updates: int
    seconds: float
    phases: dict[str, float]
    device_phases: dict[str, float]
    operators: list[tuple[str, int, float, float]]

    def table(self) -> str:
        """Phases and operators, milliseconds of one update."""
        return f"{self._phase_table()}\n{self._operator_table()}"

    def _phase_table(self) -> str:
        step = self.seconds / self.updates
        on_device = sum(self.device_phases.values()) > 0
        rows = []
        rest = self.seconds - sum(self.phases.values())
        for name, seconds in [*self.phases.items(), ("the rest", rest)]:
            row = [name, _milliseconds(seconds / self.updates), f"{100 * seconds / self.seconds:.1f}%"]
            rows.append([*row, _milliseconds(self.device_phases.get(name, 0.0) / self.updates)] if on_device else row)
        last = ["an update", _milliseconds(step), "100.0%"]
        rows.append([*last, _milliseconds(sum(self.device_phases.values()) / self.updates)] if on_device else last)
        return text_table(["phase", "ms", "share", *(["GPU ms"] if on_device else [])], rows)

    def _operator_table(self) -> str:
        on_device = any(device for _, _, _, device in self.operators)
        rows = []
        for name, calls, host, device in self.operators[:_OPERATORS]:
            row = [_shortened(name), f"{calls / self.updates:.0f}", _milliseconds(host / self.updates)]
            share = (device if on_device else host) / self.seconds
            row += [_milliseconds(device / self.updates)] if on_device else []
            rows.append([*row, f"{100 * share:.1f}%"])
        return text_table(["operator", "calls", "ms", *(["GPU ms"] if on_device else []), "share"], rows)


def summarize(spans: Iterable[Span], updates: int, seconds: float) -> Profile:
    """Add up what a profiler saw of so many updates that took so many seconds."""
    spans = sorted(spans, key=lambda span: span.start)
    phases = [span for span in spans if span.name.startswith(_MARK)]
    on_host: dict[str, float] = defaultdict(float)
    on_device: dict[str, float] = defaultdict(float)
    operators: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for span in phases:
        on_host[span.name.removeprefix(_MARK)] += (span.end - span.start) * 1e-6
    for span, name in _with_phase([span for span in spans if not span.name.startswith(_MARK)], phases):
        # Backward's kernels are started by a thread of its own while the host waits: the clock tells whose they are.
        on_device[name] += span.device * 1e-6
        total = operators[span.name]
        total[0] += 1
        total[1] += span.host * 1e-6
        total[2] += span.device * 1e-6
    ranked = sorted(
        ((name, int(calls), host, device) for name, (calls, host, device) in operators.items()),
        key=lambda row: (row[3], row[2]),
        reverse=True,
    )
    used = sum(on_device.values()) > 0
    return Profile(updates, seconds, dict(on_host), dict(on_device) if used else {}, ranked)


def _with_phase(spans: Iterable[Span], phases: list[Span]) -> Iterator[tuple[Span, str]]:
    """Each span with the name of the phase in which it began; both come in order of their beginning."""
    current = 0
    for span in spans:
        while current + 1 < len(phases) and phases[current + 1].start <= span.start:
            current += 1
        inside = phases and phases[current].start <= span.start <= phases[current].end
        yield span, phases[current].name.removeprefix(_MARK) if inside else "the rest"


class StepProfiler(Observer):
    """Profiles a few updates of a run, logs the tables and writes a trace; training goes on as if nothing had been.

    Args:
        folder: where the trace goes (`chrome://tracing` and Perfetto open it).
        device: what is trained on.
        after: updates of this run before the profile begins, so that it shows none of the start.
        updates: how many updates are profiled.
    """

    def __init__(self, folder: str | Path, device: torch.device, *, after: int, updates: int) -> None:
        self._folder = Path(folder)
        self._device = device
        self._after = after
        self._updates = updates
        self._seen = 0
        self._profiler: profile | None = None
        self._started = 0.0

    def on_update(self, update: UpdateRecord) -> None:
        """Begin or end the profile where it is time."""
        self._seen += 1
        if self._profiler is not None and self._seen == self._after + self._updates:
            self._finish(update.num_updates)
        elif self._seen == self._after:
            self._begin()

    def on_end(self) -> None:
        """Training ends: a profile that is going on is dropped."""
        if self._profiler is not None:
            self._stop()
        if self._seen < self._after + self._updates:
            logger.warning(
                "no profile was made: this run had %d updates, common.profile_after=%d and common.profile_updates=%d "
                "need %d",
                self._seen,
                self._after,
                self._updates,
                self._after + self._updates,
            )

    def _begin(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        kinds = [ProfilerActivity.CPU]
        if self._device.type == "cuda":
            kinds.append(ProfilerActivity.CUDA)
        self._profiler = profile(activities=kinds)
        self._profiler.start()
        self._wait()
        self._started = time.perf_counter()

    def _stop(self) -> profile:
        assert self._profiler is not None
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        return profiler

    def _finish(self, num_updates: int) -> None:
        self._wait()
        seconds = time.perf_counter() - self._started
        profiler = self._stop()
        found = summarize(_spans(profiler), self._updates, seconds)
        first = num_updates - self._updates + 1
        logger.info("where the time of updates %d to %d went:\n%s", first, num_updates, found.table())
        trace = self._folder / f"trace_updates_{first}-{num_updates}.json"
        logger.info("the trace is in %s (open it with https://ui.perfetto.dev)", _write(profiler, trace))

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _write(profiler: profile, trace: Path) -> Path:
    temporary = trace.with_name(f".{trace.name}.{os.getpid()}.json")  # the writer wants this ending
    try:
        trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(temporary))
        os.replace(temporary, trace)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(f"the trace of common.profile cannot be written to {trace}: {error}") from error
    return trace


def _spans(profiler: profile) -> Iterator[Span]:
    for event in profiler.events() or []:  # type: ignore[no-untyped-call]
        if event.device_type.name == "CPU" and not event.name.startswith(_FOREIGN_MARKS):
            span = event.time_range
            yield Span(event.name, span.start, span.end, event.self_cpu_time_total, _own_kernels(event))


def _own_kernels(event: Any) -> float:
    return float(sum(kernel.duration for kernel in event.kernels))


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def _shortened(name: str, most: int = 48) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def step_profiler(config: RootConfig, device: torch.device) -> StepProfiler:
    """The profiler that `common.profile` asks for."""
    common = config.common
    return StepProfiler(
        common.profile_dir or config.checkpoint.save_dir,
        device,
        after=common.profile_after,
        updates=common.profile_updates,
    )
