"""Files of fairseq's generations, made by hand: how they say what they hold."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError
from seqkit.interop.fairseq.checkpoint import convert
from seqkit.interop.open_checkpoint import open_checkpoint
from seqkit.interop.safe_load import safe_load

MODEL = {"decoder.version": torch.tensor([3.0]), "decoder.embed_tokens.weight": torch.ones(4, 2)}
CFG = {
    "common": {"seed": 5},
    "task": {"_name": "language_modeling", "data": "bin"},
    "model": {"_name": "transformer_lm", "decoder_layers": 2},
    "optimization": {"lr": [0.25]},
    "lr_scheduler": None,
}


def converted(**entries: Any) -> CheckpointState:
    return convert({"model": MODEL, **entries}, "old.pt")


@pytest.fixture
def meters() -> Iterator[ModuleType]:
    """A module as fairseq had it, for as long as a file is written."""
    package, module = ModuleType("fairseq"), ModuleType("fairseq.meters")
    for name in ("AverageMeter", "TimeMeter", "StopwatchMeter"):
        setattr(module, name, type(name, (), {"__module__": "fairseq.meters"}))
    sys.modules |= {"fairseq": package, "fairseq.meters": module}
    yield module
    for name in ("fairseq", "fairseq.meters"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("zipped", [True, False])
def test_configs_that_omegaconf_pickled(tmp_path: Path, zipped: bool) -> None:
    cfg = OmegaConf.create(CFG)
    OmegaConf.set_struct(cfg, True)
    torch.save({"args": None, "cfg": cfg, "model": MODEL}, tmp_path / "old.pt", _use_new_zipfile_serialization=zipped)
    config = open_checkpoint(tmp_path / "old.pt").config
    assert config["common"] == {"seed": 5}
    assert config["task"] == {"_name": "language_modeling", "data": "bin"}
    assert config["model"] == {"_name": "transformer_lm", "decoder_layers": 2}
    assert config["optimization"] == {"lr": [0.25]}


def test_namespaces_inside_a_config_that_omegaconf_pickled(tmp_path: Path) -> None:
    cfg = OmegaConf.create(CFG, flags={"allow_objects": True})
    cfg.model = argparse.Namespace(arch="transformer_lm_gpt", decoder_layers=1, save_dir="x", criterion="y")
    torch.save({"args": None, "cfg": cfg, "model": MODEL}, tmp_path / "old.pt")
    model = open_checkpoint(tmp_path / "old.pt").config["model"]
    assert (model["_name"], model["decoder_layers"], model["decoder_embed_dim"]) == ("transformer_lm", 1, 768)


def test_meters_of_before_0_9_are_no_obstacle(tmp_path: Path, meters: ModuleType) -> None:
    stopwatch, average = meters.StopwatchMeter(), meters.AverageMeter()
    stopwatch.__dict__.update(sum=12.5, n=3, start_time=None)
    average.__dict__.update(val=1.0, avg=1.0, sum=2.0, count=2)
    extra = {
        "train_meters": OrderedDict(train_loss=average, train_wall=stopwatch),
        "train_iterator": {"epoch": 3, "iterations_in_epoch": 4},
        "best": torch.tensor(2.5),
    }
    args = argparse.Namespace(arch="transformer_lm", task="language_modeling", lr=[0.1], data="bin")
    history = [{"num_updates": 7, "lr_scheduler_state": {"best": 2.5}, "best_loss": None}]
    content = {"args": args, "model": MODEL, "optimizer_history": history, "extra_state": extra}
    content["task_state"] = defaultdict(dict)
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("fairseq", "fairseq.meters"):
        del sys.modules[name]
    state = open_checkpoint(tmp_path / "old.pt")
    assert state.progress == {"num_updates": 7, "best": 2.5, "val_loss": None, "train_time": 12.5}
    assert state.iterator == {"epoch": 3, "iterations_in_epoch": 4}
    assert state.lr_scheduler == {"best": 2.5}
    assert state.metrics == {}


def test_objects_of_other_classes_of_fairseq_are_refused_and_named(tmp_path: Path, meters: ModuleType) -> None:
    other = type("Other", (), {"__module__": "fairseq.meters"})
    meters.Other = other  # type: ignore[attr-defined]
    torch.save({"args": None, "cfg": {}, "model": {}, "x": other()}, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"type 'fairseq\.meters\.Other', which is not data"):
        safe_load(tmp_path / "old.pt")


def test_the_first_generation_has_everything_at_the_top() -> None:
    weight = torch.ones(4, 2)
    optimizer = {"state": {0: {"momentum_buffer": weight}}, "param_groups": [{"params": [0], "lr": 0.1}]}
    state = converted(
        args=argparse.Namespace(arch="transformer_lm", task="language_modeling", max_positions=9, lr=0.25),
        best_loss=3.5,
        optimizer=optimizer,
        epoch=0,
        batch_offset=2,
        val_loss=4.5,
    )
    assert state.optimizer is not None
    assert state.optimizer["param_groups"][0]["param_names"] == ["decoder.embed_tokens.weight"]
    assert state.iterator == {"epoch": 1, "iterations_in_epoch": 2}  # epochs were counted from 0 once
    assert state.lr_scheduler == {"best": 3.5}
    assert state.progress["num_updates"] == 0
    assert state.progress["val_loss"] == 4.5
    assert state.config["optimization"]["lr"] == [0.25]
    assert state.config["task"]["max_target_positions"] == 9


def test_an_optimizer_inside_the_history() -> None:
    optimizer = {"state": {}, "param_groups": [{"params": [0], "lr": 0.1}]}
    history = [{"optimizer": {"state": {}}}, {"optimizer": optimizer, "num_updates": 4, "best_loss": 1.5}]
    state = converted(cfg=CFG, optimizer_history=history, extra_state={"epoch": 2, "val_loss": 1.0})
    assert state.optimizer is not None
    assert state.progress["num_updates"] == 4
    assert state.iterator == {"epoch": 2, "iterations_in_epoch": 0}
    assert state.lr_scheduler == {"best": 1.5}


def test_the_default_task_is_translation_and_data_may_be_several_folders() -> None:
    state = converted(args=argparse.Namespace(arch="transformer", data=["a", "b"], raw_text=True, remove_bpe="@@ "))
    assert state.config["task"] == {"_name": "translation", "data": "a:b", "dataset_impl": "raw"}
    assert state.config["common_eval"]["post_process"] == "@@ "


def test_a_pre_norm_model_without_final_norms_is_built_without() -> None:
    args = argparse.Namespace(arch="transformer", encoder_normalize_before=True, decoder_normalize_before=True)
    weights = {f"{side}.layers.0.fc1.weight": torch.ones(2, 2) for side in ("encoder", "decoder")}
    model = convert({"args": args, "model": weights}, "old.pt").config["model"]
    assert model["no_encoder_final_norm"] is True
    assert model["no_decoder_final_norm"] is True


def test_a_file_without_configuration() -> None:
    with pytest.raises(CheckpointError, match=r"old\.pt looks like a fairseq checkpoint but holds neither"):
        converted(args=None, cfg=None)
