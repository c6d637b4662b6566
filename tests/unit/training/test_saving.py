"""Saves that go on while training does: what is written, when, and what becomes of errors."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint
from seqkit.checkpoint.policy import CheckpointPolicy, SaveEvent
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.sections import CheckpointConfig
from seqkit.errors import CheckpointError
from seqkit.training import saving
from seqkit.training.saving import CheckpointSaver
from tests.unit.training.toy import assert_same_state, run, toy_config


class Gate:
    """Stands before `write_checkpoint`: writes wait until it is opened; counts how many there are at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.at_work = 0
        self.most_at_work = 0
        self.error: Exception | None = None
        self._write: Callable[..., None] = saving.write_checkpoint
        monkeypatch.setattr(saving, "write_checkpoint", self)

    def __call__(self, path: Path, state: CheckpointState, abandoned: Callable[[], bool] | None = None) -> None:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            while not self.open.wait(0.005):
                if abandoned is not None and abandoned():
                    raise RuntimeError("abandoned")
            if self.error is not None:
                raise self.error
            self._write(path, state, abandoned=abandoned)
        finally:
            self.at_work -= 1


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def _saver(folder: Path, *, asynchronous: bool = True, **options: Any) -> CheckpointSaver:
    return CheckpointSaver(CheckpointPolicy(CheckpointConfig(**options)), folder, asynchronous=asynchronous)


def _event(epoch: int) -> SaveEvent:
    return SaveEvent(epoch, 10 * epoch, end_of_epoch=True, value=None, best=None)


def _state(weight: torch.Tensor, num_updates: int = 10) -> Callable[[], CheckpointState]:
    return lambda: CheckpointState(config={}, model={"w": weight}, progress={"num_updates": num_updates})


def test_training_goes_on_and_changes_what_is_being_written(tmp_path: Path, gate: Gate) -> None:
    weight = torch.zeros(3)
    with _saver(tmp_path) as saver:
        assert saver.save(_event(1), _state(weight)) is None
        weight.add_(1)
        assert saver.finished() is None
        assert list(tmp_path.glob("*.pt")) == []
        gate.open.set()
        saved = saver.wait()
        assert saved is not None
        assert saved.written == ("checkpoint1.pt", "checkpoint_last.pt")
        assert saved.took >= saved.stalled >= 0
        assert saver.finished() is None
    assert read_checkpoint(tmp_path / "checkpoint_last.pt").model["w"].tolist() == [0, 0, 0]


def test_synchronous(tmp_path: Path) -> None:
    with _saver(tmp_path, asynchronous=False) as saver:
        saved = saver.save(_event(1), _state(torch.ones(1)))
        assert saved is not None
        assert saved.written == ("checkpoint1.pt", "checkpoint_last.pt")
        assert saved.stalled == saved.took
        assert saver.wait() is None


def test_nothing_is_deleted_before_the_write_has_landed(tmp_path: Path, gate: Gate) -> None:
    gate.open.set()
    with _saver(tmp_path, keep_last_epochs=1) as saver:
        saver.save(_event(1), _state(torch.ones(1)))
        saver.wait()
        gate.open.clear()
        saver.save(_event(2), _state(torch.ones(1)))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint1.pt", "checkpoint_last.pt"]
        gate.open.set()
        saved = saver.wait()
        assert saved is not None
        assert saved.deleted == ("checkpoint1.pt",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint2.pt", "checkpoint_last.pt"]


def test_a_failed_write_deletes_nothing_and_is_told(tmp_path: Path, gate: Gate) -> None:
    gate.open.set()
    with _saver(tmp_path, keep_last_epochs=1) as saver:
        saver.save(_event(1), _state(torch.ones(1)))
        saver.wait()
        gate.error = CheckpointError("no space left on the disk")
        saver.save(_event(2), _state(torch.ones(1)))
        with pytest.raises(CheckpointError, match="no space left"):
            saver.wait()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint1.pt", "checkpoint_last.pt"]
        gate.error = None
        saver.save(_event(3), _state(torch.ones(1)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint3.pt", "checkpoint_last.pt"]


def test_leaving_waits_for_the_write(tmp_path: Path, gate: Gate) -> None:
    with _saver(tmp_path) as saver:
        saver.save(_event(1), _state(torch.ones(1)))
        threading.Timer(0.05, gate.open.set).start()
    assert read_checkpoint(tmp_path / "checkpoint_last.pt").model["w"].tolist() == [1]


def test_an_error_of_training_is_not_hidden_by_one_of_writing(
    tmp_path: Path, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.error = CheckpointError("no space left on the disk")
    gate.open.set()
    with pytest.raises(ValueError, match="of training"), _saver(tmp_path) as saver:  # noqa: PT012
        saver.save(_event(1), _state(torch.ones(1)))
        raise ValueError("of training")
    assert "no space left on the disk" in caplog.text


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, gate: Gate) -> None:
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), _saver(tmp_path) as saver:  # noqa: PT012
        saver.save(_event(1), _state(torch.ones(1)))
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 10
    assert list(tmp_path.iterdir()) == []


def test_without_memory_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(saving, "available_memory", lambda: 100)
    with _saver(tmp_path) as saver, caplog.at_level(logging.WARNING):
        assert saver.save(_event(1), _state(torch.ones(100))) is not None
        assert saver.save(_event(2), _state(torch.ones(100))) is not None
        assert caplog.text.count("checkpoints are written before training goes on") == 1
        assert saver.save(_event(3), _state(torch.ones(10))) is None


@pytest.mark.parametrize("ema", [False, True])
def test_a_whole_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: bool) -> None:
    """Written at leisure, checkpoints hold what those written at once hold, and never two are under way."""
    states: dict[bool, list[CheckpointState]] = {}
    for asynchronous in (False, True):
        gate = Gate(monkeypatch)
        gate.open.set()
        write = gate._write
        gate._write = lambda *args, write=write, **options: (time.sleep(0.01), write(*args, **options))[1]  # type: ignore[misc]
        config = toy_config(
            tmp_path / str(asynchronous),
            checkpoint={
                "write_checkpoints_asynchronously": asynchronous,
                "save_interval_updates": 2,
                "keep_interval_updates": 2,
                "keep_last_epochs": 2,
            },
            ema={"store_ema": ema, "ema_decay": 0.9},
        )
        trainer, recorded, _ = run(config)
        assert gate.most_at_work == 1
        folder = trainer.parts.saver.folder
        states[asynchronous] = [read_checkpoint(path) for path in sorted(folder.iterdir())]
        assert [event.num_updates for event, _, _ in recorded.saves] == list(range(2, 31, 2))
        monkeypatch.undo()
    assert len(states[True]) == 6
    for one, other in zip(states[False], states[True], strict=True):
        assert_same_state(one, other)


def test_a_failed_write_ends_training_before_its_next_save(tmp_path: Path, gate: Gate) -> None:
    gate.open.set()
    gate.error = CheckpointError("no space left on the disk")
    config = toy_config(tmp_path)
    with pytest.raises(CheckpointError, match="no space left"):
        run(config)
    gate.error = None
    _, recorded, _ = run(config)
    assert len(recorded.updates) == 30
