"""The curves in a run's JSON log: every figure of every stream, by updates, epochs and time.

Reads the lines of `common.log_format=json`, whether from `common.log_file` or with time and logger name before them
as a command prints them; other lines are passed over. Knows nothing of drawing.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import DataError, did_you_mean

TRAIN_INNER, TRAIN = "train_inner", "train"
AXES = ("updates", "epoch", "wall")

Numbers = NDArray[np.float64]


@dataclass
class Curve:
    """One figure of one stream.

    Attributes:
        updates: updates done at each point, increasing.
        epochs: epochs done, with fraction.
        wall: seconds of training, those of runs before an interruption too.
        values: the figure.
    """

    updates: Numbers
    epochs: Numbers
    wall: Numbers
    values: Numbers

    def along(self, axis: str) -> Numbers:
        """Where the points are on an axis of `AXES`."""
        return {"updates": self.updates, "epoch": self.epochs, "wall": self.wall}[axis]

    def smoothed(self, weight: float) -> Numbers:
        """Exponential moving average of the values, each point counting `weight` of the average before it.

        Unbiased at the beginning (the first values do not count double). What is not finite is passed over.
        """
        result = np.empty_like(self.values)
        total = share = 0.0
        for place, value in enumerate(self.values.tolist()):
            if math.isfinite(value):
                total = weight * total + (1 - weight) * value
                share = weight * share + (1 - weight)
            result[place] = total / share if share else value
        return result


@dataclass
class RunCurves:
    """All curves of one run.

    Attributes:
        name: what to call the run.
        streams: curves by stream (`train_inner`, `train`, `valid`, …) and figure (`loss`, `ppl`, …).
    """

    name: str
    streams: dict[str, dict[str, Curve]] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """The names of all figures."""
        return list(dict.fromkeys(key for curves in self.streams.values() for key in curves))

    def select(self, key: str) -> dict[str, Curve]:
        """The curves of a figure by stream; of training, the finer of its two streams."""
        found = {stream: curves[key] for stream, curves in self.streams.items() if key in curves}
        if TRAIN_INNER in found and TRAIN in found:
            del found[TRAIN if len(found[TRAIN_INNER].values) > 1 else TRAIN_INNER]
        return found


def read_run(path: str | Path, name: str | None = None) -> RunCurves:
    """Read a log file.

    Where the log goes on after an interruption, points of updates that were done again are those of the later run.

    Args:
        path: the log.
        name: what to call the run; by default the file's name, or its folder's where that says more.

    Raises:
        DataError: it cannot be read, or holds no JSON lines of training.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            points = _points(file)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not points:
        raise DataError(
            f"{path} holds no JSON lines of training; give the file of common.log_file, or the output, of a run with "
            "common.log_format=json"
        )
    run = RunCurves(name or _name(path))
    for stream in dict.fromkeys(point.stream for point in points):
        run.streams[stream] = _curves([point for point in points if point.stream == stream])
    return run


def unknown_key(key: str, runs: Iterable[RunCurves]) -> DataError:
    """The error for a figure that no run has."""
    known = list(dict.fromkeys(known for run in runs for known in run.keys))
    return DataError(f"no log has a figure {key!r}{did_you_mean(key, known)}; there are: {', '.join(known)}")


@dataclass
class _Point:
    stream: str
    updates: float
    epochs: float
    wall: float
    figures: dict[str, float]


_STREAM_END = re.compile(r"^(?P<stream>.+?)_num_updates$")


def _points(lines: Iterable[str]) -> list[_Point]:
    points: list[_Point] = []
    wall_before = 0.0
    for line in lines:
        row = _row(line)
        if row is None:
            continue
        point = _point(row)
        if point is None:
            continue
        if points and point.updates < points[-1].updates:
            # The run was interrupted and went on from an earlier update, with a clock of its own.
            points = [other for other in points if other.updates < point.updates]
        last = points[-1] if points else None
        if math.isnan(point.wall):
            point.wall = last.wall if last is not None else 0.0
        else:
            if last is not None and point.wall + wall_before < last.wall:
                wall_before = last.wall
            point.wall += wall_before
        points.append(point)
    _place_validations(points)
    return points


def _row(line: str) -> dict[str, object] | None:
    brace = line.find("{")
    if brace < 0:
        return None
    try:
        row = json.loads(line[brace:])
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def _point(row: dict[str, object]) -> _Point | None:
    stream = TRAIN_INNER if "num_updates" in row else None
    if stream is None:
        stream = next((match["stream"] for key in row if (match := _STREAM_END.match(key))), None)
    if stream is None:
        return None
    prefix = "" if stream == TRAIN_INNER else f"{stream}_"
    figures = {
        key[len(prefix) :]: number
        for key, value in row.items()
        if key.startswith(prefix) and key not in ("epoch", "update") and (number := _number(value)) is not None
    }
    updates = figures.pop("num_updates", None)
    if updates is None:
        return None
    epochs = _number(row.get("update"))
    if epochs is None:
        epochs = _number(row.get("epoch"))
    return _Point(stream, updates, math.nan if epochs is None else epochs, figures.pop("wall", math.nan), figures)


def _number(value: object) -> float | None:
    if not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _place_validations(points: list[_Point]) -> None:
    """A validation in mid-epoch says only in which epoch it was: the lines of training around it say where."""
    inner = [point for point in points if point.stream == TRAIN_INNER and not math.isnan(point.epochs)]
    if not inner:
        return
    updates = [point.updates for point in inner]
    epochs = [point.epochs for point in inner]
    for point in points:
        if point.stream not in (TRAIN_INNER, TRAIN):
            after = bisect_left(updates, point.updates)
            if after < len(updates):
                point.epochs = min(point.epochs, float(np.interp(point.updates, updates, epochs)))


def _curves(points: list[_Point]) -> dict[str, Curve]:
    """The curves of one stream."""
    keys = dict.fromkeys(key for point in points for key in point.figures)
    curves = {}
    for key in keys:
        having = [point for point in points if key in point.figures]
        curves[key] = Curve(
            updates=np.array([point.updates for point in having]),
            epochs=np.array([point.epochs for point in having]),
            wall=np.array([point.wall for point in having]),
            values=np.array([point.figures[key] for point in having]),
        )
    return curves


def _name(path: Path) -> str:
    plain = path.stem in ("train", "log", "run", "output", "stdout", "stderr")
    parent = path.absolute().parent.name
    return parent if plain and parent else path.stem
