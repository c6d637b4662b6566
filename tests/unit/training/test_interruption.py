"""Interrupted again and again, a run is still the same run, bit for bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.io import read_checkpoint
from seqkit.training.build import build_trainer
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer, UpdateRecord
from tests.unit.training.toy import Recorder, ToyTask, assert_same_state, run, toy_config

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "accumulation": {"optimization": {"update_freq": [3, 2], "clip_norm": 0.5}},
    "fp16": {"common": {"fp16": True, "fp16_scale_window": 3, "fp16_init_scale": 2**24}},
    "ema": {"ema": {"store_ema": True, "ema_decay": 0.9, "ema_update_freq": 2}},
    "all": {
        "optimization": {"update_freq": [2]},
        "common": {"fp16": True, "fp16_scale_window": 2, "fp16_init_scale": 4096},
        "ema": {"store_ema": True, "ema_fp32": True},
        "dataset": {"num_workers": 1},
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("gaps", [(1, 1), (3, 1), (4, 4)], ids=str)
def test_several_interruptions(tmp_path: Path, setting: str, gaps: tuple[int, ...]) -> None:
    sections = SETTINGS[setting]
    whole, recorded, _ = run(toy_config(tmp_path / "whole", **sections))
    config = toy_config(tmp_path / "parts", **sections)
    parts, at = [], 0
    for gap in gaps:
        at += gap
        _, part, reason = run(config, stop_after=at)
        assert "interrupted" in reason
        parts.append(part)
    resumed, last, _ = run(config)
    parts.append(last)
    assert [loss for part in parts for loss in part.losses] == recorded.losses
    assert [ids for part in parts for ids in part.ids] == recorded.ids
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())


def test_interrupted_after_every_update(tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {"optimization": {"max_epoch": 2, "update_freq": [2]}}
    whole, recorded, _ = run(toy_config(tmp_path / "whole", **sections))
    config = toy_config(tmp_path / "parts", **sections)
    losses: list[float] = []
    saves: list[list[str]] = []
    for update in range(1, len(recorded.updates) + 1):
        _, part, reason = run(config, stop_after=update)
        assert "interrupted" in reason
        losses += part.losses
        saves += [names for _, names, _ in part.saves]
    resumed, last, _ = run(config)
    assert not last.updates
    assert losses == recorded.losses
    assert saves + [names for _, names, _ in last.saves] == [names for _, names, _ in recorded.saves]
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())


def test_interrupted_again_before_what_was_pending_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run is stopped in the validation that the first one left to it."""
    whole, recorded, _ = run(toy_config(tmp_path / "whole"))
    config = toy_config(tmp_path / "parts")
    _, first, _ = run(config, stop_after=10)
    assert not first.lines
    stop, original = StopRequest(), ToyTask.valid_step

    def stopping(self: ToyTask, *arguments: Any) -> Any:
        stop.request(signal.SIGUSR1)
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ToyTask, "valid_step", stopping)
        second = Recorder()
        reason = build_trainer(config, observers=[second], stop=stop).train()
    assert reason.startswith("interrupted by SIGUSR1; saved ")
    assert (second.updates, second.lines, second.saves) == ([], [], [])
    resumed, third, _ = run(config)
    assert first.losses + third.losses == recorded.losses
    assert [names for _, names, _ in third.saves] == [names for _, names, _ in recorded.saves]
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())


@pytest.mark.parametrize("number", StopRequest.SIGNALS)
def test_each_signal_finishes_the_update_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    class Interrupt(Observer):
        def on_update(self, update: UpdateRecord) -> None:
            if update.num_updates == 4:
                os.kill(os.getpid(), number)

    with StopRequest() as stop:
        trainer = build_trainer(toy_config(tmp_path), observers=[Interrupt()], stop=stop)
        reason = trainer.train()
    assert stop.exit_code == 128 + number
    assert reason.startswith(f"interrupted by {number.name}; saved ")
    assert read_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt").progress["num_updates"] == 4
