"""Phases and operators of an update, and a profile amid a training."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from seqkit.errors import UserError
from seqkit.training.build import build_trainer
from seqkit.training.profiling import Profile, Span, StepProfiler, fetched, phase, summarize
from tests.unit.training.toy import run, toy_config


def test_phases_and_the_rest_add_up_to_the_updates() -> None:
    spans = [
        Span("phase: forward", 0, 400_000, 0, 0),
        Span("aten::mm", 100_000, 300_000, 200_000, 0),
        Span("phase: backward", 500_000, 1_300_000, 0, 0),
        Span("aten::mm", 600_000, 700_000, 100_000, 0),
        Span("aten::add", 650_000, 660_000, 10_000, 0),
    ]
    profile = summarize(spans, updates=2, seconds=2.0)
    assert profile.phases == pytest.approx({"forward": 0.4, "backward": 0.8})
    assert profile.device_phases == {}
    assert [(name, calls) for name, calls, _, _ in profile.operators] == [("aten::mm", 2), ("aten::add", 1)]
    table = profile.table().splitlines()
    assert table[0].split() == ["phase", "ms", "share"]
    assert table[1].split() == ["forward", "200.00", "20.0%"]
    assert table[3].split() == ["the", "rest", "400.00", "40.0%"]
    assert table[4].split() == ["an", "update", "1000.00", "100.0%"]
    assert table[6].split() == ["aten::mm", "1", "150.00", "15.0%"]


def test_kernels_belong_to_the_phase_in_which_they_were_started() -> None:
    spans = [
        Span("phase: forward", 0, 10, 0, 0),
        Span("aten::mm", 1, 2, 1, 3_000_000),
        Span("phase: backward", 20, 40, 0, 0),
        Span("MmBackward", 25, 26, 1, 5_000_000),
        Span("aten::zero_", 50, 51, 1, 1_000_000),
    ]
    profile = summarize(spans, updates=1, seconds=10.0)
    assert profile.device_phases == pytest.approx({"forward": 3.0, "backward": 5.0, "the rest": 1.0})
    assert [name for name, *_ in profile.operators] == ["MmBackward", "aten::mm", "aten::zero_"]
    table = profile.table()
    assert table.splitlines()[0].split() == ["phase", "ms", "share", "GPU", "ms"]
    assert "5000.00" in table


def test_a_table_of_nothing() -> None:
    assert "an update" in Profile(1, 1.0, {}, {}, []).table()


def test_the_wait_for_items_is_a_phase() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        assert list(fetched([1, 2])) == [1, 2]
        with phase("forward"):
            torch.ones(2) + 1
    names = [event.name for event in profiler.events()]
    assert names.count("phase: data") == 3, "the end is waited for, too"
    assert "phase: forward" in names


def test_a_profile_amid_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    plain, _, _ = run(toy_config(tmp_path / "plain", optimization={"max_epoch": 1}))
    settings = {"profile": True, "profile_after": 2, "profile_updates": 3}
    trainer, recorder, _ = run(toy_config(tmp_path / "a", common=settings, optimization={"max_epoch": 1}))
    assert len(recorder.updates) > 5
    for one, other in zip(plain.parts.model.parameters(), trainer.parts.model.parameters(), strict=True):
        assert torch.equal(one, other), "training goes on as if nothing had been"
    (table,) = [text for text in caplog.messages if text.startswith("where the time of updates 3 to 5 went:")]
    for name in ("data", "forward", "backward", "exchange and norm", "optimizer", "the rest", "an update", "aten::"):
        assert name in table
    trace = tmp_path / "a" / "checkpoints" / "trace_updates_3-5.json"
    assert any(event.get("name") == "phase: backward" for event in json.loads(trace.read_text())["traceEvents"])
    assert not list(trace.parent.glob(".trace*"))


def test_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "traces" / "mine"
    settings = {"profile": True, "profile_after": 1, "profile_updates": 1, "profile_dir": str(folder)}
    run(toy_config(tmp_path, common=settings, optimization={"max_update": 4}))
    assert [path.name for path in folder.iterdir()] == ["trace_updates_2-2.json"]


def test_a_run_too_short_for_a_profile_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(toy_config(tmp_path, common={"profile": True, "profile_after": 2}, optimization={"max_update": 4}))
    assert "this run had 4 updates, common.profile_after=2 and common.profile_updates=5 need 7" in caplog.text
    assert not list(tmp_path.rglob("trace*"))


def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = toy_config(
        tmp_path,
        common={
            "profile": True,
            "profile_after": 1,
            "profile_updates": 1,
            "profile_dir": str(tmp_path / "file" / "x"),
        },
    )
    trainer = build_trainer(config)
    assert any(isinstance(observer, StepProfiler) for observer in trainer.parts.observers)
    with pytest.raises(UserError, match=r"the trace of common\.profile cannot be written"):
        trainer.train()
