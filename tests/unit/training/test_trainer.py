from __future__ import annotations

import json
import logging
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.io import read_checkpoint
from seqkit.errors import CheckpointError, ConfigError, DataError
from seqkit.training import saving
from seqkit.training.build import build_trainer
from seqkit.training.faults import DivergedError
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer, UpdateRecord
from tests.unit.training.toy import Recorder, ToyTask, run, toy_config


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    trainer, recorded, reason = run(toy_config(tmp_path))
    assert reason == "all epochs are done (optimization.max_epoch=3)"
    assert recorded.losses[-1] < 0.3 * recorded.losses[0]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "checkpoint1.pt",
        "checkpoint2.pt",
        "checkpoint3.pt",
        "checkpoint_best.pt",
        "checkpoint_last.pt",
    ]
    assert trainer.state.num_updates == len(recorded.updates) == 30


def test_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    _, one, _ = run(toy_config(tmp_path / "one"))
    _, two, _ = run(toy_config(tmp_path / "two"))
    _, other, _ = run(toy_config(tmp_path / "other", common={"seed": 4}))
    assert one.losses == two.losses
    assert one.losses != other.losses
    assert [update.seed for update in one.updates[:3]] == [3, 4, 5]


def test_workers_change_nothing(tmp_path: Path) -> None:
    _, one, _ = run(toy_config(tmp_path / "one", optimization={"max_epoch": 1}))
    _, two, _ = run(toy_config(tmp_path / "two", optimization={"max_epoch": 1}, dataset={"num_workers": 1}))
    assert one.losses == two.losses
    assert one.ids == two.ids


def test_an_update_of_several_batches_is_one_of_a_large_batch(tmp_path: Path) -> None:
    """Gradients are summed and divided by the summed sample size, not averaged over batches."""
    model = {"dropout": 0.0}
    sections = {"dataset": {"max_tokens": None, "batch_size": 25, "curriculum": 9}, "model": model}
    _, large, _ = run(toy_config(tmp_path / "large", optimization={"max_update": 1}, **sections))
    sections["dataset"] = {"max_tokens": None, "batch_size": 5, "curriculum": 9}
    _, small, _ = run(toy_config(tmp_path / "small", optimization={"max_update": 1, "update_freq": [5]}, **sections))
    assert [index for ids in small.ids[0] for index in ids] == [index for ids in large.ids[0] for index in ids]
    assert len(small.ids[0]) == 5
    assert small.updates[0].sample_size == large.updates[0].sample_size
    assert small.updates[0].grad_norm == pytest.approx(large.updates[0].grad_norm, rel=1e-5)


def test_clipping(tmp_path: Path) -> None:
    class Gradients(Observer):
        norms: list[float] = []  # noqa: RUF012

        def on_update(self, update: UpdateRecord) -> None:
            squares = [
                param.grad.square().sum() for param in trainer.parts.model.parameters() if param.grad is not None
            ]
            self.norms.append(math.sqrt(float(sum(squares))))

    config = toy_config(tmp_path, optimization={"clip_norm": 1.0, "max_update": 2})
    recorder = Recorder()
    trainer = build_trainer(config, observers=[recorder, gradients := Gradients()])
    trainer.train()
    assert recorder.updates[0].grad_norm > 1.5
    assert gradients.norms[0] == pytest.approx(1.0, rel=1e-4)


def test_update_freq_and_curriculum_by_epoch(tmp_path: Path) -> None:
    config = toy_config(tmp_path, optimization={"update_freq": [1, 4]}, dataset={"curriculum": 2})
    _, recorded, _ = run(config)
    by_epoch = {epoch: [update for update in recorded.updates if update.epoch == epoch] for epoch in (1, 2, 3)}
    assert [len(by_epoch[epoch]) for epoch in (1, 2, 3)] == [10, 3, 3]
    order = {epoch: [ids for update in by_epoch[epoch] for ids in update.batch_ids] for epoch in (1, 2, 3)}
    assert order[1] == order[2] != order[3]
    assert sorted(order[1]) == sorted(order[3])


@pytest.mark.parametrize(
    ("optimization", "updates", "reason"),
    [
        ({"max_update": 7}, 7, "7 updates are done (optimization.max_update=7)"),
        ({"max_epoch": 1}, 10, "all epochs are done (optimization.max_epoch=1)"),
        ({"stop_time_hours": 1e-9}, 1, "(optimization.stop_time_hours=1e-09)"),
        ({"stop_min_lr": 0.04}, 10, "has reached optimization.stop_min_lr=0.04"),
    ],
)
def test_stopping(tmp_path: Path, optimization: dict[str, Any], updates: int, reason: str) -> None:
    config = toy_config(tmp_path, optimization=optimization, lr_scheduler={"warmup_updates": 1})
    if "stop_min_lr" in optimization:
        config.lr_scheduler.warmup_updates = 5  # so that the first rate is below the limit only after an epoch
        config.lr_scheduler.warmup_init_lr = 0.041
    trainer, recorded, told = run(config)
    assert reason in told
    assert len(recorded.updates) == updates
    assert read_checkpoint(trainer.parts.saver.folder / "checkpoint_last.pt").progress["num_updates"] == updates


def test_early_stopping(tmp_path: Path) -> None:
    """The rate is 0, so no validation improves on the first."""
    config = toy_config(tmp_path, optimization={"lr": [0.0], "max_epoch": 9}, checkpoint={"patience": 2})
    _, recorded, reason = run(config)
    assert reason == "loss has not improved in the last 2 validations (checkpoint.patience=2)"
    assert recorded.updates[-1].epoch == 3


def test_patience_goes_on_over_a_resume(tmp_path: Path) -> None:
    config = toy_config(tmp_path, optimization={"lr": [0.0], "max_epoch": 9}, checkpoint={"patience": 2})
    run(config, stop_after=25)
    _, recorded, _ = run(config)
    assert recorded.updates[-1].num_updates == 30


def test_saves_and_validations_by_updates(tmp_path: Path) -> None:
    config = toy_config(
        tmp_path,
        optimization={"max_epoch": 1},
        checkpoint={"save_interval_updates": 4, "keep_interval_updates": 1},
        dataset={"validate_after_updates": 5, "validate_interval_updates": 3},
    )
    _, recorded, _ = run(config)
    assert [(event.num_updates, names[0]) for event, names, _ in recorded.saves] == [
        (8, "checkpoint_1_8.pt"),
        (10, "checkpoint1.pt"),
    ]
    assert [step for stream, _, step in recorded.lines if stream == "valid"] == [6, 8, 9, 10]


def test_several_validation_subsets(tmp_path: Path) -> None:
    config = toy_config(tmp_path, optimization={"max_epoch": 2}, dataset={"valid_subset": "valid1,valid"})
    _, recorded, _ = run(config)
    streams = [stream for stream, _, _ in recorded.lines]
    assert streams == ["valid1", "valid", "train"] * 2
    assert recorded.saves[0][0].value == recorded.lines[0][1]["loss"]
    told = [figures.get("best_loss") for stream, figures, _ in recorded.lines if stream != "train"]
    first = [figures["loss"] for stream, figures, _ in recorded.lines if stream == "valid1"]
    assert told == [None, None, min(first), None], "what is best is told of the subset that decides it"


def test_validation_counts_every_sentence(tmp_path: Path) -> None:
    dataset = {"required_batch_size_multiple": 8, "max_tokens": None, "batch_size": 8}
    config = toy_config(tmp_path, optimization={"max_epoch": 1}, dataset=dataset)
    _, recorded, _ = run(config)
    figures = next(figures for stream, figures, _ in recorded.lines if stream == "valid")
    assert figures["bsz"] == 4.5  # nine sentences in two batches


def test_max_valid_steps(tmp_path: Path) -> None:
    dataset = {"max_valid_steps": 1, "max_tokens": None, "batch_size": 8}
    _, recorded, _ = run(toy_config(tmp_path, optimization={"max_epoch": 1}, dataset=dataset))
    figures = next(figures for stream, figures, _ in recorded.lines if stream == "valid")
    assert figures["bsz"] == 8


def test_unknown_best_metric(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"best_checkpoint_metric=los is not a figure .*; did you mean 'loss'\?"):
        run(toy_config(tmp_path, checkpoint={"best_checkpoint_metric": "los"}))


def test_log_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    common = {"log_format": "json", "log_interval": 5, "log_file": str(log)}
    run(toy_config(tmp_path, common=common, optimization={"max_epoch": 1, "clip_norm": 5.0}))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    inner = ["epoch", "update", "loss", "wps", "ups", "wpb", "bsz", "num_updates", "lr", "gnorm", "clip", "train_wall"]
    assert list(lines[0]) == [*inner, "wall"]
    assert lines[0]["update"] == 0.5
    assert list(lines[2])[:3] == ["epoch", "valid_loss", "valid_wps"]
    assert lines[2]["valid_num_updates"] == "10"
    assert list(lines[3])[:2] == ["epoch", "train_loss"]
    assert lines[3]["train_num_updates"] == "10"


@pytest.mark.parametrize(("call", "update"), [(4, 4), (14, 12)])
def test_nan_loss_names_update_and_sentences(tmp_path: Path, call: int, update: int) -> None:
    """(The eleventh and twelfth losses are those of the first validation.)"""
    with pytest.raises(DivergedError) as error:
        run(toy_config(tmp_path / "nan", criterion={"explode_at": call}))
    _, whole, _ = run(toy_config(tmp_path / "whole"))
    ids = ", ".join(str(index) for index in whole.ids[update - 1][0])
    assert str(error.value).startswith(f"update {update}: the loss is nan in the batch of sentences [{ids}];")


def test_fp16_overflow_leaves_the_update_out(tmp_path: Path) -> None:
    config = toy_config(tmp_path, common={"fp16": True, "fp16_scale_window": 100}, criterion={"explode_at": 3})
    trainer, recorded, _ = run(config)
    assert trainer.state.num_updates == 29
    assert [update.num_updates for update in recorded.updates] == list(range(1, 30))
    assert trainer.parts.figures.state_dict()["train"]["meters"]
    loss_scales = [figures["loss_scale"] for stream, figures, _ in recorded.lines if stream == "train"]
    assert loss_scales == [64, 64, 64]


def test_fp16_gives_up_at_the_smallest_scale(tmp_path: Path) -> None:
    common = {"fp16": True, "min_loss_scale": 64.0}
    with pytest.raises(DivergedError, match=r"update 1: minimum loss scale reached: float16 gradients overflow"):
        run(toy_config(tmp_path, common=common, criterion={"explode_at": 1}))


def test_data_that_changes_with_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    original = ToyTask.load_dataset

    def load(self: ToyTask, split: str, *, epoch: int = 1, combine: bool = False) -> Any:
        loaded.append((split, epoch))
        dataset = original(self, split)
        if split == "train" and epoch == 2:
            dataset.rows, dataset._sizes = dataset.rows[:20], dataset._sizes[:20]
        return dataset

    monkeypatch.setattr(ToyTask, "load_dataset", load)
    monkeypatch.setattr(ToyTask, "has_sharded_data", lambda self, split: split == "train")
    _, whole, _ = run(toy_config(tmp_path / "whole"))
    assert loaded == [("valid", 1), ("train", 1), ("train", 2), ("train", 3)]
    assert [len([update for update in whole.updates if update.epoch == epoch]) for epoch in (1, 2, 3)] == [10, 4, 10]
    config = toy_config(tmp_path / "parts")
    _, first, _ = run(config, stop_after=12)
    _, second, _ = run(config)
    assert first.losses + second.losses == whole.losses


def test_empty_batches_add_nothing(tmp_path: Path) -> None:
    trainer = build_trainer(toy_config(tmp_path))
    iterator = trainer.parts.data.iterator
    batch = iterator.spare_batch
    alone = trainer.parts.step.run([batch], 0)
    norm = alone.grad_norm
    with_empty = trainer.parts.step.run([batch, {}], 0)
    assert with_empty.sample_size == alone.sample_size
    assert len(with_empty.logging) == 1
    assert with_empty.grad_norm == pytest.approx(norm, rel=0.2)  # weights have moved by one step
    nothing = trainer.parts.step.run([{}], 0)
    assert nothing.logging == []
    assert nothing.grad_norm == 0.0


def test_signal_finishes_the_update_and_saves(tmp_path: Path) -> None:
    class Interrupt(Observer):
        def on_update(self, update: UpdateRecord) -> None:
            if update.num_updates == 4:
                os.kill(os.getpid(), signal.SIGINT)

    with StopRequest() as stop:
        trainer = build_trainer(toy_config(tmp_path), observers=[Interrupt()], stop=stop)
        reason = trainer.train()
    assert stop.exit_code == 130
    assert reason.startswith("interrupted by SIGINT; saved ")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint_last.pt"]
    assert read_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt").progress["num_updates"] == 4


def test_interrupted_validation_is_done_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    original = ToyTask.valid_step

    def stopping_step(self: ToyTask, *arguments: Any) -> Any:
        stop.request()
        return original(self, *arguments)

    monkeypatch.setattr(ToyTask, "valid_step", stopping_step)
    config = toy_config(tmp_path, optimization={"max_epoch": 1})
    first = Recorder()
    build_trainer(config, observers=[first], stop=stop).train()
    assert (first.lines, first.saves) == ([], [])
    monkeypatch.undo()
    _, second, _ = run(config)
    assert second.updates == []
    assert [stream for stream, _, _ in second.lines] == ["valid", "train"]
    assert second.saves[0][1] == ["checkpoint1.pt", "checkpoint_best.pt", "checkpoint_last.pt"]


def test_no_save_writes_nothing(tmp_path: Path) -> None:
    config = toy_config(tmp_path, checkpoint={"no_save": True})
    run(config)
    _, _, reason = run(config, stop_after=2)
    assert "nothing was saved" in reason
    assert not (tmp_path / "checkpoints").exists()


def test_full_disk_leaves_training_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole, _ = run(toy_config(tmp_path / "whole"))
    config = toy_config(tmp_path)
    real = saving.write_checkpoint

    def full(path: Path, state: Any, **options: Any) -> None:
        if state.progress["num_updates"] == 20:
            raise CheckpointError("no space left on the disk")
        real(path, state, **options)

    monkeypatch.setattr(saving, "write_checkpoint", full)
    with pytest.raises(CheckpointError, match="no space left"):
        run(config)
    monkeypatch.undo()
    _, second, _ = run(config)
    assert second.losses == whole.losses[10:]


def test_unwritable_folder_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"checkpoint\.save_dir=.* cannot be written"):
        build_trainer(toy_config(tmp_path, checkpoint={"save_dir": str(tmp_path / "file" / "x")}))


def test_missing_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no split 'dev'"):
        build_trainer(toy_config(tmp_path, dataset={"valid_subset": "dev"}))


def test_what_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    config = toy_config(
        tmp_path,
        dataset={"max_tokens": None},
        distributed_training={"distributed_world_size": 2},
        checkpoint={"checkpoint_shard_count": 2},
    )
    config.optimizer = None
    with pytest.raises(ConfigError) as error:
        build_trainer(config)
    text = str(error.value)
    assert "4 problems" in text
    assert "no optimizer is chosen" in text
    assert "set dataset.max_tokens (tokens) or dataset.batch_size (sentences)" in text
    assert "distributed_training.distributed_world_size=2" in text
    assert "checkpoint.checkpoint_shard_count=2" in text


def test_options_for_several_processes_that_one_passes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    distributed = {"ddp_comm_hook": "fp16", "zero_sharding": "os", "use_sharded_state": True, "cpu_offload": True}
    with caplog.at_level(logging.WARNING):
        build_trainer(toy_config(tmp_path, distributed_training=distributed))
    for option in ("ddp_comm_hook=fp16", "zero_sharding=os", "use_sharded_state=true", "cpu_offload=true"):
        assert f"distributed_training.{option} has no effect in a single process" in caplog.text
    assert "optimizer=cpu_adam keeps the optimizer in main memory" in caplog.text
    caplog.clear()
    build_trainer(toy_config(tmp_path))
    assert caplog.text == ""


def test_an_epoch_without_updates_is_refused_rather_than_repeated_for_ever(tmp_path: Path) -> None:
    options = {"skip_remainder_batch": True, "max_epoch": 0, "max_update": 5}
    with pytest.raises(ConfigError, match="epoch 1 has no updates: it has 1 batches"):
        run(toy_config(tmp_path, task={"rows": 1}, optimization=options))
