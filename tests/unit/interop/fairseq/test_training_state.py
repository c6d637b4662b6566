from __future__ import annotations

import pytest
import torch

from seqkit.checkpoint.weights import reorder_optimizer_state
from seqkit.errors import CheckpointError
from seqkit.interop.fairseq.training_state import (
    convert_average,
    convert_metrics,
    convert_optimizer,
    convert_train_time,
    without_parameters,
)
from seqkit.metrics.aggregator import Aggregator
from seqkit.optim.adam import Adam


def test_averages_go_on() -> None:
    meter = {"val": torch.tensor(3.0), "sum": torch.tensor(12.0), "count": 4, "round": 3}
    recorded = {
        "default": [(10, "loss", "AverageMeter", meter)],
        "train": [(10, "loss", "AverageMeter", meter), (20, "odd", "MeterOfSomeFork", {})],
    }
    states = convert_metrics(recorded)
    assert list(states) == ["train"]
    log = Aggregator()
    log.load_state_dict(states["train"])
    log.log_scalar("loss", 7.0, weight=1, round=3)
    assert log.smoothed_values() == {"loss": 3.8}


def _optimizer(shapes: list[tuple[int, ...]]) -> dict[str, object]:
    state = {number: {"step": 1, "exp_avg": torch.zeros(shape)} for number, shape in enumerate(shapes)}
    return {"state": state, "param_groups": [{"lr": 1.0, "params": list(range(len(shapes)))}]}


def test_parameters_are_named_in_the_order_of_the_model() -> None:
    tied = torch.zeros(3, 2)
    model = {
        "encoder.version": torch.ones(1),
        "embed.weight": tied,
        "layer.bias": torch.zeros(4),
        "norm.running_mean": torch.zeros(4),
        "output.weight": tied,
    }
    named, _ = convert_optimizer(_optimizer([(3, 2), (4,)]), model, {})
    assert named["param_groups"][0]["param_names"] == ["embed.weight", "layer.bias"]


def test_what_was_tied_on_a_gpu_is_one_parameter_again() -> None:
    """fairseq copied tensors to the CPU one by one, so that a file has each name's own copy."""
    tied = torch.arange(6.0).view(3, 2)
    model = {"encoder.weight": tied, "norm.weight": torch.ones(2), "norm2.weight": torch.ones(2)}
    model |= {"decoder.weight": tied.clone(), "other.weight": tied + 1, "output.weight": tied.clone()}
    named, _ = convert_optimizer(_optimizer([(3, 2), (2,), (2,), (3, 2)]), model, {})
    assert named["param_groups"][0]["param_names"] == ["encoder.weight", "norm.weight", "norm2.weight", "other.weight"]


def test_second_copies_have_numbers_and_no_names() -> None:
    copies = {f"encoder.layers.{layer}.fc1_weight": torch.zeros(2, 2) for layer in range(2)}
    model = {**copies, "encoder.layers.0.fc1.weight": torch.ones(2, 2), "encoder.layers.0.fc1.bias": torch.ones(2)}
    state = _optimizer([(2, 2), (2, 2), (2, 2), (2,)])
    named, _ = convert_optimizer(state, model, {})
    assert named["param_groups"][0]["param_names"] == ["encoder.layers.0.fc1.weight", "encoder.layers.0.fc1.bias"]
    assert [tuple(part["exp_avg"].shape) for part in named["state"].values()] == [(2, 2), (2,)]
    vector = {"state": {0: {"exp_avg": torch.arange(14.0)}}, "param_groups": [{"lr": 1.0, "params": [0]}]}
    cut, _ = convert_optimizer(vector, model, {})
    assert cut["state"][1]["exp_avg"].tolist() == [12.0, 13.0]


def test_parameters_that_are_left_out_lose_their_state() -> None:
    model = {name: torch.ones(2) for name in ("first", "unused", "last")}
    named, _ = convert_optimizer(_optimizer([(2,), (2,), (2,)]), model, {})
    rest = without_parameters(named, {"unused"})
    assert rest["param_groups"] == [{"lr": 1.0, "params": [0, 1], "param_names": ["first", "last"]}]
    assert list(rest["state"]) == [0, 1]


def test_packed_projections_share_their_state_out() -> None:
    model = {
        "decoder.layers.0.self_attn.in_proj_weight": torch.zeros(6, 2),
        "decoder.layers.0.self_attn.in_proj_bias": torch.zeros(6),
        "decoder.layers.0.layer_norms.1.weight": torch.zeros(2),
    }
    recorded = _optimizer([(6, 2), (6,), (2,)])
    recorded["state"][0]["exp_avg"] = torch.arange(12.0).view(6, 2)  # type: ignore[index]
    recorded["state"][1]["exp_avg"] = torch.arange(6.0)  # type: ignore[index]
    named, _ = convert_optimizer(recorded, model, {})
    prefix = "decoder.layers.0."
    assert [name.removeprefix(prefix) for name in named["param_groups"][0]["param_names"]] == [
        "self_attn.q_proj.weight",
        "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",
        "self_attn.q_proj.bias",
        "self_attn.k_proj.bias",
        "self_attn.v_proj.bias",
        "encoder_attn_layer_norm.weight",
    ]
    assert [state["exp_avg"].flatten().tolist() for state in named["state"].values()] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [0, 1],
        [2, 3],
        [4, 5],
        [0, 0],
    ]
    assert [state["step"] for state in named["state"].values()] == [1] * 7


def test_parameters_that_nothing_is_kept_of_lose_their_number() -> None:
    model = {"layers.0.conv.conv_bias": torch.zeros(2), "layers.0.conv.weight_linear.weight": torch.zeros(3, 2)}
    recorded = _optimizer([(2,), (3, 2)])
    del recorded["state"][0]  # type: ignore[attr-defined]
    named, _ = convert_optimizer(recorded, model, {})
    assert named["param_groups"][0]["param_names"] == ["layers.0.conv.weight_linear.weight"]
    assert set(named["state"]) == {0}


@pytest.mark.parametrize("shapes", [[(6,)], [(3,), (2,)]])
def test_state_of_other_parameters_is_refused_by_training(shapes: list[tuple[int, ...]]) -> None:
    model = {"a": torch.zeros(2), "b": torch.zeros(3)}
    named, _ = convert_optimizer(_optimizer(shapes), model, {})
    with pytest.raises(CheckpointError, match=r"for other parameters \(a, b, parameter 0 of the file.*reset_optimizer"):
        reorder_optimizer_state(named, ["a", "b"], "old.pt")


def test_state_kept_for_a_packed_projection_as_a_whole_is_refused_by_training() -> None:
    """Adafactor's rows and columns."""
    model = {"attn.in_proj_weight": torch.zeros(6, 2)}
    recorded = {
        "state": {0: {"step": 1, "exp_avg_sq_row": torch.zeros(6), "exp_avg_sq_col": torch.zeros(2)}},
        "param_groups": [{"params": [0]}],
    }
    named, _ = convert_optimizer(recorded, model, {})
    with pytest.raises(CheckpointError, match="reset_optimizer"):
        reorder_optimizer_state(named, ["attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight"], "old.pt")


def test_seconds_trained_are_in_an_old_stopwatch() -> None:
    assert convert_train_time({"previous_training_time": torch.tensor(3.5)}) == 3.5
    assert convert_train_time({"train_meters": {"train_wall": {"sum": 12.5, "n": 3}}}) == 12.5
    assert convert_train_time({"train_meters": {"train_wall": None}}) == 0.0
    assert convert_train_time({}) == 0.0


def _weights() -> dict[str, torch.Tensor]:
    tied = torch.zeros(3, 2)
    return {"embed.weight": tied, "norm.version": torch.ones(1), "layer.bias": torch.zeros(4), "out.weight": tied}


def test_a_vector_of_all_parameters_is_cut_into_them() -> None:
    """fairseq's fp16 training keeps the float32 copies of all parameters, and their state, in one vector."""
    vector = torch.arange(15.0)
    flat = {
        "state": {0: {"step": 7, "exp_avg": vector, "exp_avg_sq": vector + 100}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
        "loss_scale": 16,
    }
    criterion = {"scale": torch.zeros(5)}
    optimizer, extra = convert_optimizer(flat, _weights(), criterion)
    assert extra == {"loss_scaler": {"loss_scale": 16.0}}
    assert optimizer["param_groups"] == [
        {"lr": 0.1, "params": [0, 1, 2], "param_names": ["embed.weight", "layer.bias", "criterion.scale"]}
    ]
    assert [state["step"] for state in optimizer["state"].values()] == [7, 7, 7]
    assert torch.equal(optimizer["state"][0]["exp_avg"], torch.arange(6.0).view(3, 2))
    assert torch.equal(optimizer["state"][1]["exp_avg_sq"], torch.arange(106.0, 110.0))
    assert torch.equal(optimizer["state"][2]["exp_avg"], torch.arange(10.0, 15.0))


def test_a_vector_of_other_parameters_is_refused_by_training() -> None:
    flat = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"params": [0]}]}
    optimizer, extra = convert_optimizer(flat, _weights(), {})
    assert extra == {}
    with pytest.raises(CheckpointError, match="reset_optimizer"):
        reorder_optimizer_state(optimizer, ["embed.weight", "layer.bias"], "old.pt")


def test_the_cut_state_goes_on_in_an_optimizer() -> None:
    model = torch.nn.Linear(3, 2)
    vector = torch.nn.Parameter(torch.cat([param.detach().flatten() for param in model.parameters()]))
    flat_adam = Adam([vector], lr=0.1)
    vector.grad = torch.arange(8.0)
    flat_adam.step()
    recorded = {**flat_adam.state_dict(), "loss_scale": 4.0}
    optimizer, _ = convert_optimizer(recorded, dict(model.state_dict()), {})
    adam = Adam(model.named_parameters(), lr=0.1)
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(vector.detach(), model.parameters())
    adam.load_state_dict(optimizer)
    vector.grad = torch.arange(8.0) - 3
    model.weight.grad, model.bias.grad = vector.grad[:6].view(2, 3), vector.grad[6:]
    flat_adam.step()
    adam.step()
    assert torch.equal(torch.cat([param.detach().flatten() for param in model.parameters()]), vector.detach())


def test_a_composite_optimizers_states_become_groups() -> None:
    part = {"state": {0: {"step": 1, "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
    other = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.2, "params": [0]}]}
    optimizer, extra = convert_optimizer({"default": part, "decoder": other, "loss_scale": 2.0}, {}, {})
    assert extra == {"loss_scaler": {"loss_scale": 2.0}}
    assert [(group["group_name"], group["params"]) for group in optimizer["param_groups"]] == [
        ("default", [0, 1]),
        ("decoder", [2]),
    ]
    assert set(optimizer["state"]) == {0, 2}
    assert set(optimizer["state"][2]) == {"momentum_buffer"}


def test_a_count_of_steps_for_all_goes_to_each() -> None:
    state = {number: {"exp_avg": torch.zeros(shape)} for number, shape in enumerate([(3, 2), (4,)])}
    fused = {"state": state, "param_groups": [{"step": 9, "params": [0, 1]}]}
    optimizer, _ = convert_optimizer(fused, _weights(), {})
    assert [value["step"] for value in optimizer["state"].values()] == [9, 9]


def test_averaged_weights_are_taken_in_their_full_precision() -> None:
    extra_state = {
        "ema": {"layer.bias": torch.zeros(2, dtype=torch.float16), "norm.running_mean": torch.ones(1)},
        "ema_fp32_params": {"layer.bias": torch.full((2,), 0.1), "left.over": torch.zeros(1)},
    }
    average = convert_average(extra_state, lambda state: {f"new.{name}": value for name, value in state.items()})
    assert set(average) == {"new.layer.bias", "new.norm.running_mean"}
    assert torch.equal(average["new.layer.bias"], torch.full((2,), 0.1))
    assert convert_average({}, dict) == {}
