"""Progress reporters: an iterable wrapped so that one sees how far it is and what its figures are.

Four formats: `tqdm` (a bar on a terminal), `simple` (lines), `json` (one JSON object a line), `none`. Lines go to
the logger named after their stream (`train_inner`, `train`, `valid`) and, on demand, to a file; figures also go to the
`FigureLog`s (TensorBoard, Weights & Biases). Figures come as a name-to-number mapping; of their meaning, only the bar
knows a little: which few of them it has room for. Nothing here sets up logging.
"""

from __future__ import annotations

import json
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor
from tqdm import tqdm

from seqkit.errors import ConfigError, UserError, did_you_mean
from seqkit.metrics.meters import AverageMeter, StopwatchMeter, TimeMeter, as_number
from seqkit.metrics.run_clock import RunClock
from seqkit.metrics.tensorboard import TensorBoardLog

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)
Stats = Mapping[str, Any]

LOG_FORMATS = ("json", "none", "simple", "tqdm")


class ProgressReporter(Protocol[ItemT_co]):
    """What training loops see of a reporter."""

    def __iter__(self) -> Iterator[ItemT_co]:
        """The items, while the bar moves."""
        ...

    def __len__(self) -> int:
        """All items of the epoch, those before a resumed position too."""
        ...

    def log(self, stats: Stats, tag: str | None = None, step: int | None = None) -> None:
        """Report figures in mid-way: shown every `log_interval` steps."""
        ...

    def print(self, stats: Stats, tag: str | None = None, step: int | None = None) -> None:
        """Report figures at the end."""
        ...

    def close(self) -> None:
        """Let go of the bar and of the writers that the reporter opened itself."""
        ...


class FigureLog(Protocol):
    """Keeps figures elsewhere: a folder for TensorBoard, a run of Weights & Biases."""

    def write(self, stats: Stats, stream: str, step: int | None = None) -> None:
        """Take the figures of a stream as of `step` (default: the figure `num_updates`)."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


@runtime_checkable
class _Positioned(Protocol):
    """An iterator that knows how many of its items were taken before (a resumed epoch)."""

    n: int


def format_figure(value: Any) -> str:
    """A figure as the log shows it: six significant digits, no point in whole numbers (`6`, `0.71`, `1e-05`)."""
    if isinstance(value, AverageMeter):
        return "-" if value.avg is None else f"{value.avg:.3f}"
    if isinstance(value, TimeMeter):
        return f"{round(value.avg):g}"
    if isinstance(value, StopwatchMeter):
        return f"{round(value.sum):g}"
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, int | float):
        return f"{value:g}"
    return str(value).strip()


class _Reporter(ABC, Generic[ItemT]):
    """What the formats share: position, prefix, where lines go."""

    def __init__(
        self,
        iterable: Iterable[ItemT],
        *,
        log_interval: int | None,
        log_file: str | Path | None,
        epoch: int | None,
        prefix: str | None,
        total: int | None,
        logs: Sequence[FigureLog],
        owned_logs: Sequence[FigureLog],
        run: RunClock | None,
    ) -> None:
        self.iterable = iterable
        self.n = iterable.n if isinstance(iterable, _Positioned) else 0
        self.i: int | None = None
        self.epoch = epoch
        self.log_interval = log_interval
        self.total = total if total is not None else len(iterable) if isinstance(iterable, Sized) else None
        parts = [] if epoch is None else [f"epoch {epoch:03d}"]
        if prefix is not None:
            parts.append(prefix)
        self.prefix = " | ".join(parts)
        self._logs = [*logs, *owned_logs]
        self._owned_logs = owned_logs
        self._run = run
        self._log_file = None if not log_file else Path(log_file)
        self._append("")

    def __iter__(self) -> Iterator[ItemT]:
        for position, item in enumerate(self.iterable, start=self.n):
            self.i = position
            yield item

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("the length of this iterable is not known; give total=")
        return self.total

    def log(self, stats: Stats, tag: str | None = None, step: int | None = None) -> None:
        self._write(stats, tag, step)
        step = step or self.i or 0
        if step > 0 and self.log_interval is not None and self.log_interval > 0 and step % self.log_interval == 0:
            self._log(stats, tag, step)

    def print(self, stats: Stats, tag: str | None = None, step: int | None = None) -> None:
        self._write(stats, tag, step)
        self._print(stats, tag)

    def close(self) -> None:
        for log in self._owned_logs:
            log.close()

    def __enter__(self) -> _Reporter[ItemT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _log(self, stats: Stats, tag: str | None, step: int) -> None:
        """Show figures in mid-way."""

    @abstractmethod
    def _print(self, stats: Stats, tag: str | None) -> None:
        """Show figures at the end."""

    def _write(self, stats: Stats, tag: str | None, step: int | None) -> None:
        if tag is not None:
            for log in self._logs:
                log.write(stats, tag, step)

    def _line(self, text: str, tag: str | None) -> None:
        logging.getLogger(tag or __name__).info(text)
        self._append(text + "\n")

    def _append(self, text: str) -> None:
        """Opened for each line, so that a run that is killed leaves whole lines and no open file behind."""
        if self._log_file is None:
            return
        try:
            with open(self._log_file, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"common.log_file={self._log_file} cannot be written: {error.strerror}") from error

    @property
    def _epochs(self) -> float:
        """Epochs done, with fraction."""
        return (self.epoch or 1) - 1 + ((self.i or 0) + 1) / (self.total or 1)

    def _midway_line(self, stats: Stats) -> str:
        figures = ", ".join(f"{key}={format_figure(value)}" for key, value in stats.items())
        total = "?" if self.total is None else self.total
        return f"{self.prefix}:  {(self.i or 0) + 1:5d} / {total} {figures}"

    def _summary_line(self, stats: Stats, tag: str | None) -> None:
        figures = " | ".join(f"{key} {format_figure(value)}" for key, value in stats.items())
        self._line(f"{self.prefix} | {figures}", tag)


class NoneReporter(_Reporter[ItemT]):
    """Shows nothing (`FigureLog`s are still written)."""

    def _log(self, stats: Stats, tag: str | None, step: int) -> None:
        pass

    def _print(self, stats: Stats, tag: str | None) -> None:
        pass


class SimpleReporter(_Reporter[ItemT]):
    """`epoch 001:     10 / 35 loss=6.6, ppl=97` in mid-way, `epoch 001 | loss 6.6 | ppl 97` at the end."""

    def _log(self, stats: Stats, tag: str | None, step: int) -> None:
        self._line(self._midway_line(stats), tag)

    def _print(self, stats: Stats, tag: str | None) -> None:
        self._summary_line(stats, tag)


class JsonReporter(_Reporter[ItemT]):
    """One JSON object a line: `epoch` (integer), `update` (epochs done, with fraction), then the figures as strings.

    At the end the figures' names begin with the stream (`train_loss`) and there is no `update`.
    """

    def _log(self, stats: Stats, tag: str | None, step: int) -> None:
        head: dict[str, Any] = {} if self.epoch is None else {"epoch": self.epoch}
        if self.epoch is not None and self.total:
            head["update"] = round(self._epochs, 3)
        self._line(json.dumps(head | {key: format_figure(value) for key, value in stats.items()}), tag)

    def _print(self, stats: Stats, tag: str | None) -> None:
        head: dict[str, Any] = {} if self.epoch is None else {"epoch": self.epoch}
        stream = "" if tag is None else f"{tag}_"
        self._line(json.dumps(head | {stream + key: format_figure(value) for key, value in stats.items()}), tag)


_BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}"
_SHOWN_ON_BAR: dict[str, Callable[[float], str]] = {
    "loss": lambda value: f"loss {value:.3f}",
    "ppl": lambda value: f"ppl {value:.4g}",
    "wps": lambda value: f"{value / 1000:.1f}k w/s" if value >= 10_000 else f"{value:.0f} w/s",
    "lr": lambda value: f"lr {value:.2g}",
    "gnorm": lambda value: f"gnorm {value:.3g}",
}
"""What a line of 100 columns has room for; the lines at an epoch's end have everything."""


class TqdmReporter(_Reporter[ItemT]):
    """A bar on standard error, the most telling figures behind it; the summary at the end is a line.

    `left 01:10 / 2:03:04` is the time to the end of the epoch, and of the run where that is known.
    """

    _bar: tqdm[ItemT] | None = None

    def __iter__(self) -> Iterator[ItemT]:
        self._bar = tqdm(
            self.iterable,
            desc=self.prefix or None,
            total=self.total,
            initial=self.n,
            leave=False,
            file=sys.stderr,
            dynamic_ncols=True,
            bar_format=f"{_BAR} left {{remaining}}",
        )
        try:
            for position, item in enumerate(self._bar, start=self.n):
                self.i = position
                yield item
        finally:
            self._bar.close()

    def _log(self, stats: Stats, tag: str | None, step: int) -> None:
        if self._bar is not None:
            left = None if self._run is None else self._run.left(step, self._epochs)
            whole = "" if left is None else f" / {_duration(left)}"
            self._bar.bar_format = f"{_BAR} {_few_figures(stats)} left {{remaining}}{whole}"
        self._append(self._midway_line(stats) + "\n")

    def _print(self, stats: Stats, tag: str | None) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._summary_line(stats, tag)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        super().close()


def _few_figures(stats: Stats) -> str:
    """`loss 4.321 ppl 20 8123 w/s lr 0.0005 gnorm 1.2`: those of them that there are."""
    shown = []
    for key, text in _SHOWN_ON_BAR.items():
        value = stats.get(key)
        number = value.avg if isinstance(value, AverageMeter | TimeMeter) else value
        if isinstance(number, int | float | Tensor):
            shown.append(text(as_number(number)))
    return " ".join(shown)


def _duration(seconds: float) -> str:
    """`12:34`, `1:23:45`, `3d04h`."""
    days, rest = divmod(round(seconds), 86400)
    return f"{days}d{rest // 3600:02d}h" if days else tqdm.format_interval(rest)


_REPORTERS: dict[str, type[_Reporter[Any]]] = {
    "json": JsonReporter,
    "none": NoneReporter,
    "simple": SimpleReporter,
    "tqdm": TqdmReporter,
}


def make_progress(
    iterable: Iterable[ItemT],
    *,
    log_format: str | None = None,
    log_interval: int | None = 100,
    log_file: str | Path | None = None,
    epoch: int | None = None,
    prefix: str | None = None,
    tensorboard_logdir: str | Path | TensorBoardLog | None = None,
    total: int | None = None,
    default_log_format: str = "tqdm",
    logs: Sequence[FigureLog] = (),
    run: RunClock | None = None,
) -> _Reporter[ItemT]:
    """Wrap `iterable` in a reporter.

    Args:
        iterable: what to go through; its length (or `total`) is the epoch's, its attribute `n` the items taken before.
        log_format: `json`, `none`, `simple` or `tqdm`; `None` takes `default_log_format`. A bar is drawn only on a
            terminal: where standard error is none, `tqdm` becomes `simple`.
        log_interval: steps from one mid-way line to the next; `None` or 0: no such lines.
        log_file: a file to which the lines are appended as well, without time and logger name.
        epoch: number of the epoch, from 1.
        prefix: words before the figures of each line.
        tensorboard_logdir: a folder (its writers live as long as the reporter), or a `TensorBoardLog` that
            outlives it.
        logs: where figures go besides; they outlive the reporter.
        run: tells the bar when the whole run will end.

    Raises:
        ConfigError: there is no such format.
        MissingExtraError: TensorBoard is asked for and tensorboardX is not installed.
    """
    name = default_log_format if log_format is None else log_format
    if name not in _REPORTERS:
        hint = did_you_mean(name, LOG_FORMATS)
        raise ConfigError(f"common.log_format={name} is not a log format; there are {', '.join(LOG_FORMATS)}{hint}")
    if name == "tqdm" and not sys.stderr.isatty():
        name = "simple"
    owned: list[FigureLog] = []
    if isinstance(tensorboard_logdir, TensorBoardLog):
        logs = [tensorboard_logdir, *logs]
    elif tensorboard_logdir:
        owned = [TensorBoardLog(tensorboard_logdir)]
    return _REPORTERS[name](
        iterable,
        log_interval=log_interval,
        log_file=log_file,
        epoch=epoch,
        prefix=prefix,
        total=total,
        logs=logs,
        owned_logs=owned,
        run=run,
    )
