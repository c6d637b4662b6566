"""Training that fairseq began goes on here: the state of its fp16 optimizer, the loss scale, averaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from seqkit.checkpoint.state import CheckpointState
from seqkit.interop.fairseq.checkpoint import convert
from seqkit.training.build import build_trainer
from tests.unit.training.toy import Recorder, assert_same_state, run, toy_config


def as_fairseq_writes_it(state: CheckpointState) -> dict[str, Any]:
    """The same training in fairseq's layout: one vector of all parameters, the loss scale beside its state."""
    assert state.optimizer is not None
    entries = state.optimizer["state"]
    flat = {"step": entries[0]["step"]} | {
        key: torch.cat([entry[key].flatten() for entry in entries.values()]) for key in ("exp_avg", "exp_avg_sq")
    }
    group = {key: value for key, value in state.optimizer["param_groups"][0].items() if key != "param_names"}
    average = state.extra["ema"]
    return {
        "args": None,
        "cfg": state.config,
        "model": state.model,
        "criterion": {},
        "optimizer_history": [{"num_updates": state.progress["num_updates"], "lr_scheduler_state": state.lr_scheduler}],
        "last_optimizer_state": {
            "state": {0: flat},
            "param_groups": [group | {"params": [0]}],
            "loss_scale": state.extra["loss_scaler"]["loss_scale"],
        },
        "extra_state": {
            "train_iterator": state.iterator,
            "best": state.progress["best"],
            "ema": {name: tensor.half() for name, tensor in average.items()},
            "ema_fp32_params": average,
        },
    }


def test_the_fp16_state_of_fairseq_goes_on(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "common": {"fp16": True, "fp16_scale_window": 1000, "fp16_init_scale": 64},
        "ema": {"store_ema": True, "ema_fp32": True, "ema_decay": 0.9},
    }
    whole, recorded, _ = run(toy_config(tmp_path / "whole", **sections))
    config = toy_config(tmp_path / "parts", **sections)
    first, _, _ = run(config, stop_after=7)
    raw = as_fairseq_writes_it(first.checkpoint_state())

    recorder = Recorder()
    second = build_trainer(config, read=lambda path: convert(raw, str(path)), observers=[recorder])
    assert second.state.num_updates == 7
    second.train()
    assert recorder.losses == recorded.losses[7:]
    state, expected = second.checkpoint_state(), whole.checkpoint_state()
    state.extra["loss_scaler"] = expected.extra["loss_scaler"]  # fairseq keeps no count beside the scale
    assert_same_state(state, expected)
    assert second.parts.step._precision.scaler.loss_scale == 64
