"""Number formats of whole trainings, and what the options of precision do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqkit.config.sections import CommonConfig
from seqkit.optim.adam import Adam
from seqkit.training import precision as precision_module
from seqkit.training.build import build_trainer
from seqkit.training.faults import DivergedError
from seqkit.training.precision import MasterWeights, build_precision, evaluation_precision, set_tf32
from tests.unit.training.toy import Recorder, run, toy_config

CPU = torch.device("cpu")
NAMES = {
    "bf16": "bf16",
    "fp16": "fp16",
    "memory_efficient_bf16": "memory-efficient bf16",
    "memory_efficient_fp16": "memory-efficient fp16",
    "amp": "amp (bf16)",
}


@pytest.mark.parametrize("option", NAMES)
def test_training_in_half_precision_follows_that_in_float32(tmp_path: Path, option: str) -> None:
    sections: dict[str, Any] = {"model": {"dropout": 0.0}, "optimization": {"clip_norm": 1.0, "max_update": 12}}
    _, full, _ = run(toy_config(tmp_path / "full", **sections))
    trainer, half, _ = run(toy_config(tmp_path / "half", common={option: True}, **sections))
    assert trainer.parts.step._precision.name == NAMES[option]
    assert half.losses != full.losses
    assert half.losses == pytest.approx(full.losses, rel=0.03)
    checkpoint = trainer.checkpoint_state()
    kept = {
        tensor.dtype for state in checkpoint.optimizer["state"].values() for tensor in state.values() if _is(tensor)
    }
    assert kept == {torch.float32}


def _is(value: Any) -> bool:
    return isinstance(value, Tensor)


def test_the_smallest_loss_scale_is_explained(tmp_path: Path) -> None:
    common = {"fp16": True, "fp16_init_scale": 4, "min_loss_scale": 2.0}
    config = toy_config(tmp_path, common=common, criterion={"explode_at": 3})
    with pytest.raises(DivergedError) as error:
        build_trainer(config, observers=[Recorder()]).train()
    text = str(error.value)
    assert text.startswith("update 3: minimum loss scale reached: float16 gradients overflow even at a loss scale of 4")
    for advice in ("Lower the learning rate", "optimization.clip_norm", "longer warm-up", "common.bf16"):
        assert advice in text


def _marked() -> nn.Linear:
    model = nn.Linear(3, 2)
    model.weight.param_group = "decoder"  # type: ignore[assignment]
    return model


def test_copies_keep_the_marks_of_parameters() -> None:
    model = _marked()
    precision = build_precision(CommonConfig(bf16=True), [model], list(model.parameters()), CPU, update_freq=[1])
    assert [vars(param) for param in precision.params] == [{"param_group": "decoder"}, {}]


@pytest.mark.parametrize("half", [False, True])
def test_offloaded_optimizer_makes_the_same_steps(half: bool) -> None:
    dtype = torch.bfloat16 if half else None
    torch.manual_seed(0)
    models = [_marked(), _marked()]
    models[1].load_state_dict(models[0].state_dict())
    ways = [
        MasterWeights(list(model.parameters()), name="x", input_dtype=dtype, offload=offload)
        for model, offload in zip(models, (False, True), strict=True)
    ]
    assert vars(ways[1].params[0]) == {"param_group": "decoder"}
    for model, precision in zip(models, ways, strict=True):
        model.to(dtype or torch.float32)
        optimizer = Adam(precision.params, lr=0.1)
        for step in range(3):
            precision.zero_grad()
            inputs = torch.full((2, 3), float(step), dtype=dtype)
            precision.backward(model(inputs).float().square().sum())
            assert all(gradient.dtype == torch.float32 for gradient in precision.gradients())
            assert model.weight.grad is None
            optimizer.step()
            precision.finish_step()
    assert torch.equal(models[0].weight, models[1].weight)
    assert models[0].weight.dtype == (dtype or torch.float32)
    assert torch.equal(ways[0].master_of(models[0].weight), ways[1].master_of(models[1].weight))


def test_a_parameter_without_gradient_has_none_in_its_copy() -> None:
    model = nn.Linear(2, 1)
    precision = MasterWeights(list(model.parameters()), name="x", input_dtype=torch.bfloat16)
    assert precision.gradients() == []
    model.weight.grad = torch.ones_like(model.weight)
    assert len(precision.gradients()) == 1


def test_offloading_says_nothing_on_a_cpu() -> None:
    model = nn.Linear(2, 2)
    precision = build_precision(CommonConfig(), [model], list(model.parameters()), CPU, update_freq=[1], offload=True)
    assert precision.params[0] is model.weight
    assert precision.name == "fp32"


def test_cpu_adam_trains(tmp_path: Path) -> None:
    _, plain, _ = run(toy_config(tmp_path / "plain"))
    _, recorded, _ = run(toy_config(tmp_path / "cpu", optimizer={"_name": "cpu_adam"}))
    assert recorded.losses == plain.losses


def test_inputs_are_converted_before_or_after_they_move(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[torch.device, torch.dtype]] = []

    def record(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
        moves.append((device, dtype))
        return value

    monkeypatch.setattr(precision_module, "move_to_device", record)
    meta = torch.device("meta")
    for first in (False, True):
        common = CommonConfig(bf16=True, on_cpu_convert_precision=first)
        evaluation_precision(common, [nn.Linear(1, 1)], meta).move({}, meta)
    assert moves == [(meta, torch.bfloat16), (CPU, torch.bfloat16), (meta, torch.bfloat16)]


@pytest.mark.parametrize(("tf32", "expected"), [(True, "high"), (False, "highest")])
def test_tf32_is_for_gpus(monkeypatch: pytest.MonkeyPatch, tf32: bool, expected: str) -> None:
    told: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", told.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    common = CommonConfig(tf32=tf32)
    set_tf32(common, CPU)
    assert told == []
    set_tf32(common, torch.device("cuda"))
    assert told == [expected]
    assert torch.backends.cudnn.allow_tf32 is tf32


def test_rates_of_groups_are_logged(tmp_path: Path) -> None:
    groups = {
        "default": {"optimizer": "adam", "lr_scheduler": "fixed"},
        "slow": {"parameters": ["hidden.*"], "lr_float": 0.01, "optimizer": "adamw", "lr_scheduler": "fixed"},
    }
    config = toy_config(
        tmp_path,
        optimizer={"_name": "composite", "groups": groups},
        lr_scheduler={"_name": "pass_through"},
        optimization={"max_update": 4},
        common={"log_interval": 2},
    )
    _, recorded, _ = run(config)
    line = next(figures for stream, figures, _ in recorded.lines if stream == "train_inner")
    assert (line["lr"], line["lr_default"], line["lr_slow"]) == (0.05, 0.05, 0.01)
