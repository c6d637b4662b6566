"""Which files one save writes and deletes, with fairseq's names.

    checkpoint_last.pt                          after every save
    checkpoint_best.pt                          the best validation so far
    checkpoint<epoch>.pt                        at an epoch's end
    checkpoint_<epoch>_<updates>.pt             in mid-epoch, every `save_interval_updates`
    checkpoint.best_<metric>_<value><digit>.pt  the `keep_best_checkpoints` best; the digit tells equal values apart

Names only: knows nothing of what is in the files, nor of how they are written.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqkit.config.sections import CheckpointConfig


@dataclass(frozen=True)
class SaveEvent:
    """The moment of a save.

    Attributes:
        epoch: from 1.
        num_updates: updates done since the beginning of training.
        end_of_epoch: whether this is the last update of the epoch.
        value: the validation figure `best_checkpoint_metric`, None where nothing was validated.
        best: the best such figure so far, this one included.
    """

    epoch: int
    num_updates: int
    end_of_epoch: bool
    value: float | None
    best: float | None


class CheckpointPolicy:
    """Decides, from a `CheckpointConfig` and the names already in the folder."""

    def __init__(self, config: CheckpointConfig) -> None:
        self._config = config
        self._suffix = config.checkpoint_suffix
        suffix = re.escape(self._suffix)
        metric = re.escape(config.best_checkpoint_metric)
        self._epoch_name = re.compile(rf"checkpoint(\d+){suffix}\.pt")
        self._update_name = re.compile(rf"checkpoint_\d+_(\d+){suffix}\.pt")
        self._best_name = re.compile(rf"checkpoint\.best_{metric}_(-?\d+\.?\d*){suffix}\.pt")

    @property
    def last_name(self) -> str:
        """Name of the checkpoint that training goes on from."""
        return f"checkpoint_last{self._suffix}.pt"

    @property
    def best_name(self) -> str:
        """Name of the checkpoint with the best validation."""
        return f"checkpoint_best{self._suffix}.pt"

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether a figure is strictly better than another, or the first there is. NaN is never better."""
        if math.isnan(value):
            return False
        if than is None or math.isnan(than):
            return True
        return value > than if self._config.maximize_best_checkpoint_metric else value < than

    def best_of(self, value: float, other: float | None) -> float:
        """The better of two figures."""
        return value if other is None or self.is_better(value, other) else other

    def files_to_write(self, event: SaveEvent, present: Iterable[str]) -> list[str]:
        """Names to write, all with the same content, the first the most specific one."""
        config = self._config
        if config.no_save:
            return []
        names = []
        if event.end_of_epoch and not config.no_epoch_checkpoints and event.epoch % config.save_interval == 0:
            names.append(f"checkpoint{event.epoch}{self._suffix}.pt")
        interval = config.save_interval_updates
        if not event.end_of_epoch and interval > 0 and event.num_updates % interval == 0:
            names.append(f"checkpoint_{event.epoch}_{event.num_updates}{self._suffix}.pt")
        if event.value is not None:
            if self._at_least_as_good(event.value, event.best):
                names.append(self.best_name)
            worst = self._worst_kept(present)
            as_this = event.best if worst is None else worst
            if config.keep_best_checkpoints > 0 and self._at_least_as_good(event.value, as_this):
                names.append(self._kept_best_name(event, event.value))
        if not config.no_last_checkpoints:
            names.append(self.last_name)
        return names

    def last_only(self) -> list[str]:
        """The name to write when training is interrupted: that of the last checkpoint, if any may be written."""
        config = self._config
        return [] if config.no_save or config.no_last_checkpoints else [self.last_name]

    def files_to_delete(self, event: SaveEvent, present: Iterable[str]) -> list[str]:
        """Names that are no longer kept, judged by what is present after the write."""
        config = self._config
        names = list(present)
        doomed: list[str] = []
        if config.no_save:
            return doomed
        if not event.end_of_epoch and config.keep_interval_updates > 0:
            pattern = config.keep_interval_updates_pattern
            by_update = _numbered(names, self._update_name)
            removable = [name for number, name in by_update if pattern == -1 or int(number) % pattern != 0]
            doomed += removable[config.keep_interval_updates :]
        if config.keep_last_epochs > 0:
            doomed += [name for _, name in _numbered(names, self._epoch_name)][config.keep_last_epochs :]
        if config.keep_best_checkpoints > 0:
            kept = self._kept_best(names)
            doomed += [name for _, name in kept][config.keep_best_checkpoints :]
        return doomed

    def _kept_best(self, names: Iterable[str]) -> list[tuple[float, str]]:
        """The `checkpoint.best_*` files, best first."""
        found = _numbered(names, self._best_name)
        return found if self._config.maximize_best_checkpoint_metric else found[::-1]

    def _worst_kept(self, names: Iterable[str]) -> float | None:
        kept = self._kept_best(names)
        return kept[-1][0] if kept else None

    def _at_least_as_good(self, value: float, as_this: float | None) -> bool:
        if math.isnan(value):
            return False
        if as_this is None or math.isnan(as_this):
            return True
        return value >= as_this if self._config.maximize_best_checkpoint_metric else value <= as_this

    def _kept_best_name(self, event: SaveEvent, value: float) -> str:
        # fairseq draws the digit after seeding numpy with this hash; numbers hash alike in every Python process.
        seed = int(hash((event.epoch, event.num_updates, value)) % 1e6)
        digit = np.random.RandomState(seed).randint(0, self._config.keep_best_checkpoints)
        return f"checkpoint.best_{self._config.best_checkpoint_metric}_{value:.3f}{digit}{self._suffix}.pt"


def suffixed(path: str | Path, suffix: str) -> Path:
    """The path with `checkpoint.checkpoint_suffix` before its `.pt`."""
    place = Path(path)
    return place.with_name(f"{place.stem}{suffix}.pt") if suffix and place.suffix == ".pt" else place


def epoch_checkpoints(folder: str | Path) -> list[Path]:
    """The `checkpoint<epoch>.pt` files of a folder, newest epoch first."""
    return _paths(folder, re.compile(r"checkpoint(\d+)\.pt"))


def update_checkpoints(folder: str | Path) -> list[Path]:
    """The `checkpoint_<epoch>_<updates>.pt` files of a folder, newest first."""
    return _paths(folder, re.compile(r"checkpoint_\d+_(\d+)\.pt"))


def best_checkpoints(folder: str | Path) -> dict[str, list[Path]]:
    """The `checkpoint.best_<metric>_<value><digit>.pt` files of a folder by metric, largest value first."""
    pattern = re.compile(r"checkpoint\.best_(.+)_-?\d+\.?\d*\.pt")
    metrics = {match[1] for match in map(pattern.fullmatch, os.listdir(folder)) if match}
    return {
        metric: _paths(folder, re.compile(rf"checkpoint\.best_{re.escape(metric)}_(-?\d+\.?\d*)\.pt"))
        for metric in sorted(metrics)
    }


def saved_checkpoints(folder: str | Path, suffix: str = "") -> list[Path]:
    """All checkpoints of a folder that a training saves, in no order, but for `checkpoint_last`."""
    name = re.compile(rf"checkpoint(\d+|_\d+_\d+|_best|\.best_.+_-?[\d.]+){re.escape(suffix)}\.pt")
    return [item for item in Path(folder).iterdir() if name.fullmatch(item.name)]


def checkpoint_number(path: Path) -> int:
    """The epoch or the update that an epoch's or an update's checkpoint is named after."""
    return int(path.stem.removeprefix("checkpoint").rsplit("_", 1)[-1])


def _paths(folder: str | Path, pattern: re.Pattern[str]) -> list[Path]:
    place = Path(folder)
    return [place / name for _, name in _numbered((item.name for item in place.iterdir()), pattern)]


def _numbered(names: Iterable[str], pattern: re.Pattern[str]) -> list[tuple[float, str]]:
    """The names that match wholly, with the number in them, largest first."""
    found = []
    for name in sorted(names):
        match = pattern.fullmatch(name)
        if match:
            found.append((float(match.group(1)), name))
    return sorted(found, reverse=True)
