"""Where figures go beside the log."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seqkit.errors import MissingExtraError
from seqkit.training.build import build_trainer
from tests.unit.training.toy import run, toy_config


class FakeRun:
    """A run of Weights & Biases without a network."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.lines.append((step, numbers))

    def finish(self) -> None:
        self.finished += 1


def test_both_get_every_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboardX")
    runs: list[FakeRun] = []
    fake = ModuleType("wandb")
    fake.init = lambda **settings: runs.append(FakeRun(settings)) or runs[-1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    common = {"wandb_project": "p", "tensorboard_logdir": str(tmp_path / "tb"), "log_interval": 4}
    run(toy_config(tmp_path, common=common, optimization={"max_epoch": 1}))
    assert sorted(path.name for path in (tmp_path / "tb").iterdir()) == ["train", "train_inner", "valid"]
    assert runs[0].settings["project"] == "p"
    assert runs[0].settings["name"] == "checkpoints"
    assert runs[0].settings["config"]["optimization"]["max_epoch"] == 1
    assert {key.partition("/")[0] for _, numbers in runs[0].lines for key in numbers} == {
        "train",
        "train_inner",
        "valid",
    }
    steps = [step for step, _ in runs[0].lines]
    assert steps == sorted(steps), "wandb drops what comes for an earlier step"
    assert runs[0].finished == 1


def test_a_missing_package_is_told_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"common\.wandb_project needs the package 'wandb'"):
        build_trainer(toy_config(tmp_path, common={"wandb_project": "p"}))
    assert not list(tmp_path.iterdir())


def test_json_lines_have_fairseqs_keys_in_its_order(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    common = {"log_format": "json", "log_interval": 4, "log_file": str(log)}
    run(toy_config(tmp_path, common=common, optimization={"max_epoch": 2, "clip_norm": 1.0}))
    rows = [json.loads(line) for line in log.read_text().splitlines() if line]
    figures = ["loss", "wps", "ups", "wpb", "bsz", "num_updates", "lr", "gnorm", "clip", "train_wall", "wall"]
    inner = [row for row in rows if "update" in row]
    assert {tuple(row) for row in inner} == {("epoch", "update", *figures)}
    trained = [row for row in rows if "train_loss" in row]
    assert [tuple(row) for row in trained] == [("epoch", *(f"train_{key}" for key in figures))] * 2
    validated = [row for row in rows if "valid_loss" in row]
    of_validation = [f"valid_{key}" for key in ("loss", "wps", "wpb", "bsz", "num_updates")]
    assert list(validated[0]) == ["epoch", *of_validation]
    assert list(validated[1]) == ["epoch", *of_validation, "valid_best_loss"]
