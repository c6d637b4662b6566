from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.policy import (
    CheckpointPolicy,
    SaveEvent,
    best_checkpoints,
    checkpoint_number,
    epoch_checkpoints,
    saved_checkpoints,
    update_checkpoints,
)
from seqkit.config.sections import CheckpointConfig


class Folder:
    """Names in a folder under one policy."""

    def __init__(self, **options: Any) -> None:
        self.policy = CheckpointPolicy(CheckpointConfig(**options))
        self.names: set[str] = set()
        self.best: float | None = None

    def save(self, epoch: int, updates: int, value: float | None = None, *, end: bool = True) -> list[str]:
        if value is not None:
            self.best = self.policy.best_of(value, self.best)
        event = SaveEvent(epoch, updates, end, value, self.best)
        written = self.policy.files_to_write(event, self.names)
        self.names |= set(written)
        self.names -= set(self.policy.files_to_delete(event, self.names))
        return written


def test_names_at_an_epochs_end() -> None:
    folder = Folder()
    assert folder.save(1, 10, 3.0) == ["checkpoint1.pt", "checkpoint_best.pt", "checkpoint_last.pt"]
    assert folder.save(2, 20, 4.0) == ["checkpoint2.pt", "checkpoint_last.pt"]
    assert folder.save(3, 30, 3.0) == ["checkpoint3.pt", "checkpoint_best.pt", "checkpoint_last.pt"]
    assert folder.save(4, 40) == ["checkpoint4.pt", "checkpoint_last.pt"]


def test_names_in_mid_epoch() -> None:
    folder = Folder(save_interval_updates=5)
    assert folder.save(1, 5, end=False) == ["checkpoint_1_5.pt", "checkpoint_last.pt"]
    assert folder.save(1, 7, end=False) == ["checkpoint_last.pt"]
    assert folder.save(1, 10, end=True) == ["checkpoint1.pt", "checkpoint_last.pt"]


def test_maximizing() -> None:
    folder = Folder(maximize_best_checkpoint_metric=True, best_checkpoint_metric="bleu")
    assert "checkpoint_best.pt" in folder.save(1, 1, 20.0)
    assert "checkpoint_best.pt" in folder.save(2, 2, 21.0)
    assert "checkpoint_best.pt" not in folder.save(3, 3, 20.5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"no_epoch_checkpoints": True}, ["checkpoint_best.pt", "checkpoint_last.pt"]),
        ({"no_last_checkpoints": True}, ["checkpoint2.pt", "checkpoint_best.pt"]),
        ({"save_interval": 2}, ["checkpoint2.pt", "checkpoint_best.pt", "checkpoint_last.pt"]),
        ({"save_interval": 3}, ["checkpoint_best.pt", "checkpoint_last.pt"]),
        ({"no_save": True}, []),
        ({"checkpoint_suffix": "-a"}, ["checkpoint2-a.pt", "checkpoint_best-a.pt", "checkpoint_last-a.pt"]),
    ],
)
def test_options(options: dict[str, Any], expected: list[str]) -> None:
    assert Folder(**options).save(2, 20, 1.0) == expected


def test_keep_last_epochs() -> None:
    folder = Folder(keep_last_epochs=2, no_last_checkpoints=True)
    for epoch in range(1, 12):
        folder.save(epoch, 10 * epoch)
    assert folder.names == {"checkpoint10.pt", "checkpoint11.pt"}


def test_keep_interval_updates_deletes_in_mid_epoch_only() -> None:
    folder = Folder(save_interval_updates=5, keep_interval_updates=1, no_last_checkpoints=True)
    folder.save(1, 5, end=False)
    folder.save(1, 10, end=True)
    assert folder.names == {"checkpoint_1_5.pt", "checkpoint1.pt"}
    folder.save(2, 15, end=False)
    assert folder.names == {"checkpoint1.pt", "checkpoint_2_15.pt"}


def test_keep_interval_updates_pattern() -> None:
    options = {"keep_interval_updates": 1, "keep_interval_updates_pattern": 20}
    folder = Folder(save_interval_updates=10, no_last_checkpoints=True, **options)
    for updates in range(10, 70, 10):
        folder.save(1, updates, end=False)
    assert folder.names == {"checkpoint_1_20.pt", "checkpoint_1_40.pt", "checkpoint_1_50.pt", "checkpoint_1_60.pt"}


def test_keep_best_checkpoints() -> None:
    folder = Folder(keep_best_checkpoints=2, no_last_checkpoints=True, no_epoch_checkpoints=True)
    for epoch, value in enumerate([5.0, 4.0, 4.5, 6.0, 3.25], start=1):
        folder.save(epoch, epoch, value)
    kept = sorted(name for name in folder.names if name != "checkpoint_best.pt")
    assert [name[:-4] for name in kept] == ["checkpoint.best_loss_3.250", "checkpoint.best_loss_4.000"]
    assert all(name[-4] in "01" for name in kept)


def test_keep_best_checkpoints_when_maximizing() -> None:
    options = {"best_checkpoint_metric": "bleu", "maximize_best_checkpoint_metric": True, "keep_best_checkpoints": 1}
    folder = Folder(no_last_checkpoints=True, no_epoch_checkpoints=True, **options)
    for epoch, value in enumerate([9.5, 30.0, 10.0], start=1):
        folder.save(epoch, epoch, value)
    assert folder.names == {"checkpoint_best.pt", "checkpoint.best_bleu_30.0000.pt"}


def test_worse_than_the_best_of_an_earlier_folder_is_not_kept() -> None:
    folder = Folder(keep_best_checkpoints=2)
    folder.best = 3.0  # of the checkpoint that training went on from
    assert folder.save(1, 1, 4.0) == ["checkpoint1.pt", "checkpoint_last.pt"]
    assert folder.save(2, 2, 2.5)[:2] == ["checkpoint2.pt", "checkpoint_best.pt"]


def test_nan_is_never_best() -> None:
    folder = Folder(keep_best_checkpoints=1)
    assert folder.save(1, 1, math.nan) == ["checkpoint1.pt", "checkpoint_last.pt"]
    assert "checkpoint_best.pt" in folder.save(2, 2, 7.0)
    assert folder.best == 7.0
    assert "checkpoint_best.pt" not in folder.save(3, 3, math.nan)
    assert folder.best == 7.0


def test_finding_files(tmp_path: Path) -> None:
    for name in ("checkpoint2.pt", "checkpoint10.pt", "checkpoint_1_5.pt", "checkpoint_best.pt", "xcheckpoint3.pt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in epoch_checkpoints(tmp_path)] == ["checkpoint10.pt", "checkpoint2.pt"]
    assert [path.name for path in update_checkpoints(tmp_path)] == ["checkpoint_1_5.pt"]
    for name in ("loss_3.2501", "loss_12.0000", "bleu_-1.5002"):
        (tmp_path / f"checkpoint.best_{name}.pt").write_bytes(b"")
    assert {metric: [path.name for path in paths] for metric, paths in best_checkpoints(tmp_path).items()} == {
        "bleu": ["checkpoint.best_bleu_-1.5002.pt"],
        "loss": ["checkpoint.best_loss_12.0000.pt", "checkpoint.best_loss_3.2501.pt"],
    }
    (tmp_path / "checkpoint_last.pt").write_bytes(b"")
    (tmp_path / "checkpoint_average.pt").write_bytes(b"")
    assert sorted(path.name for path in saved_checkpoints(tmp_path)) == [
        "checkpoint.best_bleu_-1.5002.pt",
        "checkpoint.best_loss_12.0000.pt",
        "checkpoint.best_loss_3.2501.pt",
        "checkpoint10.pt",
        "checkpoint2.pt",
        "checkpoint_1_5.pt",
        "checkpoint_best.pt",
    ]
    assert checkpoint_number(Path("checkpoint10.pt")) == 10
    assert checkpoint_number(Path("checkpoint_3_250.pt")) == 250
