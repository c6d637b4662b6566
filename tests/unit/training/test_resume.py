"""A resumed run is the same run, bit for bit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.errors import CheckpointError
from tests.unit.training.toy import Recorder, assert_same_state, run, toy_config

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "plain": {},
    "accumulation": {"optimization": {"update_freq": [3, 2], "clip_norm": 0.5}},
    "bf16": {"common": {"bf16": True}},
    "memory_efficient_bf16": {"common": {"memory_efficient_bf16": True}},
    "fp16": {"common": {"fp16": True, "fp16_scale_window": 3, "fp16_init_scale": 4096}},
    "amp": {"common": {"amp": True}},
    "ema": {"ema": {"store_ema": True, "ema_decay": 0.9, "ema_update_freq": 2}},
    "sgd": {"optimizer": {"_name": "sgd", "momentum": 0.9}, "optimization": {"lr": [0.001]}},
    "muon": {"optimizer": {"_name": "muon"}, "ema": {"store_ema": True}, "common": {"bf16": True}},
    "composite": {
        "optimizer": {
            "_name": "composite",
            "groups": {
                "default": {"optimizer": "adam", "lr_scheduler": {"_name": "inverse_sqrt", "warmup_updates": 3}},
                "hidden": {
                    "parameters": ["hidden.*"],
                    "lr_float": 0.01,
                    "optimizer": {"_name": "nag", "momentum": 0.9},
                    "lr_scheduler": {"_name": "fixed"},
                },
            },
        },
        "lr_scheduler": {"_name": "pass_through"},
    },
    "plateau": {"lr_scheduler": {"_name": "reduce_lr_on_plateau", "lr_threshold": 0.5}},
    "cut_anew": {"dataset": {"update_epoch_batch_itr": True}},
}


def _config(folder: Path, setting: str) -> Any:
    sections = {name: dict(values) for name, values in SETTINGS[setting].items()}
    config = toy_config(folder, **sections)
    if setting == "plateau":
        config.lr_scheduler.warmup_updates = 0
    return config


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("stop_after", ["mid-epoch", "end of epoch"])
def test_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path: Path, setting: str, stop_after: str) -> None:
    whole, recorded, _ = run(_config(tmp_path / "whole", setting))
    last_of_first = max(update.num_updates for update in recorded.updates if update.epoch == 1)
    at = last_of_first if stop_after == "end of epoch" else last_of_first + 2

    config = _config(tmp_path / "parts", setting)
    _, first, reason = run(config, stop_after=at)
    assert "interrupted" in reason
    assert len(first.updates) == at
    resumed, second, _ = run(config)

    assert first.ids + second.ids == recorded.ids
    assert first.losses + second.losses == recorded.losses
    assert [update.grad_norm for update in first.updates + second.updates] == [
        update.grad_norm for update in recorded.updates
    ]
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())
    names = [names for _, names, _ in first.saves + second.saves]
    assert names == [names for _, names, _ in recorded.saves]


def _lines(recorder: Recorder, stream: str) -> list[dict[str, Any]]:
    timed = {"wps", "ups", "train_wall", "wall"}
    return [
        {key: value for key, value in figures.items() if key not in timed}
        for name, figures, _ in recorder.lines
        if name == stream
    ]


def test_averages_of_the_epoch_go_on(tmp_path: Path) -> None:
    sections = {"common": {"log_interval": 4}}
    _, recorded, _ = run(toy_config(tmp_path / "whole", **sections))
    config = toy_config(tmp_path / "parts", **sections)
    _, first, _ = run(config, stop_after=6)
    _, second, _ = run(config)
    for stream in ("train_inner", "train", "valid"):
        assert _lines(first, stream) + _lines(second, stream) == _lines(recorded, stream)


def test_resume_from_an_epochs_checkpoint(tmp_path: Path) -> None:
    whole, recorded, _ = run(toy_config(tmp_path))
    again = toy_config(tmp_path / "again", checkpoint={"restore_file": str(tmp_path / "checkpoints/checkpoint1.pt")})
    resumed, second, _ = run(again)
    assert second.losses == recorded.losses[len(recorded.losses) // 3 :]
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())


def test_restore_file_is_looked_for_in_save_dir(tmp_path: Path) -> None:
    run(toy_config(tmp_path))
    _, recorded, _ = run(toy_config(tmp_path, checkpoint={"restore_file": "checkpoint2.pt"}))
    assert recorded.updates[0].num_updates == 21


def test_resets(tmp_path: Path) -> None:
    run(toy_config(tmp_path))
    resets = {"reset_optimizer": True, "reset_lr_scheduler": True, "reset_dataloader": True, "reset_meters": True}
    path = str(tmp_path / "checkpoints/checkpoint2.pt")
    _, recorded, _ = run(toy_config(tmp_path / "new", checkpoint={"restore_file": path, **resets}))
    assert recorded.updates[0].num_updates == 1
    assert recorded.updates[0].lr == 0.0
    assert len(recorded.updates) == 30


def test_reset_dataloader_alone_keeps_the_optimizer(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    run(config, stop_after=14)
    _, recorded, _ = run(toy_config(tmp_path, checkpoint={"reset_dataloader": True}))
    assert recorded.updates[0].num_updates == 15
    assert recorded.updates[0].epoch == 1


def test_resets_decide_what_is_best_so_far(tmp_path: Path) -> None:
    run(toy_config(tmp_path))
    path = str(tmp_path / "checkpoints/checkpoint_last.pt")
    for resets, kept in (({}, True), ({"reset_meters": True}, False), ({"reset_optimizer": True}, False)):
        checkpoint = {"restore_file": path, **resets}
        config = toy_config(tmp_path / str(resets), checkpoint=checkpoint, optimization={"lr": [0.0], "max_epoch": 4})
        _, recorded, _ = run(config)
        valid = _lines(recorded, "valid")
        assert ("best_loss" in valid[0]) == kept


def test_finetuning_takes_weights_only(tmp_path: Path) -> None:
    trained, _, _ = run(toy_config(tmp_path / "first"))
    path = str(tmp_path / "first/checkpoints/checkpoint_last.pt")
    config = toy_config(tmp_path / "second", checkpoint={"finetune_from_model": path}, ema={"store_ema": True})
    stopped, recorded, _ = run(config, stop_after=1)
    assert recorded.updates[0].num_updates == 1
    assert recorded.updates[0].epoch == 1
    # The first update's rate is 0, so the weights are still those of the checkpoint.
    for name, weight in trained.checkpoint_state().model.items():
        assert torch.equal(stopped.checkpoint_state().model[name], weight)


def test_started_again_a_finetuning_goes_on(tmp_path: Path) -> None:
    run(toy_config(tmp_path / "first"))
    path = str(tmp_path / "first/checkpoints/checkpoint_last.pt")
    config = toy_config(tmp_path / "second", checkpoint={"finetune_from_model": path})
    run(config, stop_after=7)
    _, recorded, _ = run(config)
    assert recorded.updates[0].num_updates == 8


def test_optimizer_overrides(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    run(config, stop_after=5)
    config.checkpoint.optimizer_overrides = {"weight_decay": 0.25}
    trainer, _, _ = run(config, stop_after=6)
    assert trainer.parts.optimizer.param_groups[0]["weight_decay"] == 0.25


def test_optimizer_state_is_matched_by_name(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    _, first, _ = run(config, stop_after=5)
    path = tmp_path / "checkpoints/checkpoint_last.pt"
    state = read_checkpoint(path)
    assert state.optimizer is not None
    group = state.optimizer["param_groups"][0]
    group["param_names"] = group["param_names"][::-1]
    group["params"] = group["params"][::-1]
    write_checkpoint(path, state)
    _, second, _ = run(config)
    _, whole, _ = run(toy_config(tmp_path / "whole"))
    assert first.losses + second.losses == whole.losses


def test_without_saved_optimizer_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = toy_config(tmp_path, checkpoint={"no_save_optimizer_state": True})
    run(config, stop_after=5)
    with caplog.at_level(logging.WARNING):
        _, recorded, _ = run(config)
    assert "holds no optimizer state" in caplog.text
    assert recorded.updates[0].num_updates == 1


def test_another_vocabulary(tmp_path: Path) -> None:
    run(toy_config(tmp_path), stop_after=1)
    with pytest.raises(CheckpointError) as error:
        run(toy_config(tmp_path, task={"vocabulary": 16}))
    text = str(error.value)
    assert "checkpoint_last.pt do not fit the model" in text
    assert "embed_tokens.weight: [12, 8] in the checkpoint, [16, 8] in the model" in text
    assert "12 entries there, 16 here" in text


def test_another_vocabulary_of_the_same_size(tmp_path: Path) -> None:
    run(toy_config(tmp_path), stop_after=1)
    (place,) = tmp_path.rglob("checkpoint_last.pt")
    state = read_checkpoint(place)
    assert state.task["dictionaries"]["target"]
    state.task["dictionaries"]["target"] = "0"
    write_checkpoint(place, state)
    with pytest.raises(CheckpointError, match=r"with other words, .* than those of the target dictionary \(12 "):
        run(toy_config(tmp_path))


def test_another_model(tmp_path: Path) -> None:
    run(toy_config(tmp_path), stop_after=1)
    with pytest.raises(CheckpointError, match="The model is another one"):
        run(toy_config(tmp_path, model={"width": 4}))


def test_another_optimizer(tmp_path: Path) -> None:
    run(toy_config(tmp_path), stop_after=1)
    config = toy_config(tmp_path, optimizer={"_name": "sgd"})
    with pytest.raises(CheckpointError, match=r"optimizer=adam, now it is optimizer=sgd; set checkpoint\.reset_optim"):
        run(config)


def test_a_checkpoint_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"restore_file=nowhere\.pt does not exist"):
        run(toy_config(tmp_path, checkpoint={"restore_file": "nowhere.pt"}))
