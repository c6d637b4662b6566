"""Progress reporters: an iterable wrapped so that one sees how far it is and what its figures are.

Four formats: `tqdm` (a bar on a terminal), `simple` (lines), `json` (one JSON object a line), `none`. Lines go to
the logger named after their stream (`train_inner`, `train`, `valid`) and, on demand, to a file. Figures come as a
name-to-number mapping; nothing here knows what they mean, and nothing sets up logging.
"""

from __future__ import annotations

import json
import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor
from tqdm import tqdm

from seqkit.errors import ConfigError, UserError, did_you_mean
from seqkit.metrics.meters import AverageMeter, StopwatchMeter, TimeMeter
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
        tensorboard: TensorBoardLog | None,
        owns_tensorboard: bool,
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
        self._tensorboard = tensorboard
        self._owns_tensorboard = owns_tensorboard
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
            self._log(stats, tag)

    def print(self, stats: Stats, tag: str | None = None, step: int | None = None) -> None:
        self._write(stats, tag, step)
        self._print(stats, tag)

    def close(self) -> None:
        if self._tensorboard is not None and self._owns_tensorboard:
            self._tensorboard.close()

    def __enter__(self) -> _Reporter[ItemT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _log(self, stats: Stats, tag: str | None) -> None:
        """Show figures in mid-way."""

    @abstractmethod
    def _print(self, stats: Stats, tag: str | None) -> None:
        """Show figures at the end."""

    def _write(self, stats: Stats, tag: str | None, step: int | None) -> None:
        if self._tensorboard is not None and tag is not None:
            self._tensorboard.write(stats, tag, step)

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

    def _midway_line(self, stats: Stats) -> str:
        figures = ", ".join(f"{key}={format_figure(value)}" for key, value in stats.items())
        total = "?" if self.total is None else self.total
        return f"{self.prefix}:  {(self.i or 0) + 1:5d} / {total} {figures}"

    def _summary_line(self, stats: Stats, tag: str | None) -> None:
        figures = " | ".join(f"{key} {format_figure(value)}" for key, value in stats.items())
        self._line(f"{self.prefix} | {figures}", tag)


class NoneReporter(_Reporter[ItemT]):
    """Shows nothing (TensorBoard is still written)."""

    def _log(self, stats: Stats, tag: str | None) -> None:
        pass

    def _print(self, stats: Stats, tag: str | None) -> None:
        pass


class SimpleReporter(_Reporter[ItemT]):
    """`epoch 001:     10 / 35 loss=6.6, ppl=97` in mid-way, `epoch 001 | loss 6.6 | ppl 97` at the end."""

    def _log(self, stats: Stats, tag: str | None) -> None:
        self._line(self._midway_line(stats), tag)

    def _print(self, stats: Stats, tag: str | None) -> None:
        self._summary_line(stats, tag)


class JsonReporter(_Reporter[ItemT]):
    """One JSON object a line: `epoch` (integer), `update` (epochs done, with fraction), then the figures as strings.

    At the end the figures' names begin with the stream (`train_loss`) and there is no `update`.
    """

    def _log(self, stats: Stats, tag: str | None) -> None:
        head: dict[str, Any] = {} if self.epoch is None else {"epoch": self.epoch}
        if self.epoch is not None and self.total:
            head["update"] = round(self.epoch - 1 + ((self.i or 0) + 1) / self.total, 3)
        self._line(json.dumps(head | {key: format_figure(value) for key, value in stats.items()}), tag)

    def _print(self, stats: Stats, tag: str | None) -> None:
        head: dict[str, Any] = {} if self.epoch is None else {"epoch": self.epoch}
        stream = "" if tag is None else f"{tag}_"
        self._line(json.dumps(head | {stream + key: format_figure(value) for key, value in stats.items()}), tag)


class TqdmReporter(_Reporter[ItemT]):
    """A bar on standard error with the figures behind it; the summary at the end is a line."""

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
        )
        try:
            for position, item in enumerate(self._bar, start=self.n):
                self.i = position
                yield item
        finally:
            self._bar.close()

    def _log(self, stats: Stats, tag: str | None) -> None:
        if self._bar is not None:
            self._bar.set_postfix({key: format_figure(value) for key, value in stats.items()}, refresh=False)
        self._append(self._midway_line(stats) + "\n")

    def _print(self, stats: Stats, tag: str | None) -> None:
        if self._bar is not None:
            self._bar.clear()
        self._summary_line(stats, tag)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        super().close()


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
    owned = isinstance(tensorboard_logdir, str | Path) and bool(str(tensorboard_logdir))
    tensorboard: TensorBoardLog | None
    if isinstance(tensorboard_logdir, TensorBoardLog):
        tensorboard = tensorboard_logdir
    else:
        tensorboard = TensorBoardLog(tensorboard_logdir) if tensorboard_logdir else None
    return _REPORTERS[name](
        iterable,
        log_interval=log_interval,
        log_file=log_file,
        epoch=epoch,
        prefix=prefix,
        total=total,
        tensorboard=tensorboard,
        owns_tensorboard=owned,
    )
