"""What a fairseq checkpoint keeps for going on with training: averages of figures and weights, the optimizer's state.

Knows nothing of configuration or of how the file was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from seqkit.metrics.meters import METERS

_STREAMS = ("train", "train_inner")


def convert_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """`extra_state["metrics"]` as the `Aggregator` states of a `CheckpointState`. Figures of kinds unknown here go."""
    return {
        stream: {
            "meters": [
                {"key": key, "priority": priority, "kind": kind, "state": _numbers(state)}
                for priority, key, kind, state in metrics[stream]
                if kind in METERS
            ]
        }
        for stream in _STREAMS
        if stream in metrics
    }


def _numbers(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.item() if isinstance(value, Tensor) else value for key, value in state.items()}


def convert_optimizer(
    optimizer: Mapping[str, Any], model: Mapping[str, Tensor], criterion: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`last_optimizer_state` as `torch.optim.Optimizer.state_dict()` gives it, with the parameters' names in it.

    What fairseq's fp16 training put into one vector is cut into parameters again; the states of a composite optimizer
    become groups of one; a count of steps kept once for all parameters goes to each.

    Args:
        optimizer: as in the file.
        model, criterion: their states as in the file.

    Returns:
        the optimizer's state, and what belongs elsewhere: `loss_scaler`, where there was a loss scale.
    """
    extra = {"loss_scaler": {"loss_scale": float(optimizer["loss_scale"])}} if "loss_scale" in optimizer else {}
    state = {key: value for key, value in optimizer.items() if key != "loss_scale"}
    if "param_groups" not in state:
        return _join_groups(state), extra
    weights = {name: model[name] for name in _distinct(model)}
    weights |= {f"criterion.{name}": criterion[name] for name in _distinct(criterion)}
    return name_parameters(_count_in_each(_cut_vector(state, weights)), weights), extra


def convert_average(
    extra_state: Mapping[str, Any], upgrade: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The averaged weights (EMA) of `extra_state`, the float32 ones where it has them; empty without any.

    Args:
        upgrade: turns names of fairseq's models into today's.
    """
    average = dict(extra_state.get("ema") or {})
    average |= {name: tensor for name, tensor in (extra_state.get("ema_fp32_params") or {}).items() if name in average}
    return upgrade(average) if average else {}


def _join_groups(states: Mapping[str, Any]) -> dict[str, Any]:
    """The states of the optimizers that a composite one consists of, as one state with a group for each."""
    joined: dict[int, Any] = {}
    groups: list[dict[str, Any]] = []
    count = 0
    for name, part in states.items():
        if not isinstance(part, Mapping) or "param_groups" not in part:
            continue
        number_of: dict[Any, int] = {}
        for group in part["param_groups"]:
            for old in group["params"]:
                number_of.setdefault(old, count + len(number_of))
            groups.append({**group, "params": [number_of[old] for old in group["params"]], "group_name": str(name)})
        joined |= {number_of[old]: value for old, value in part["state"].items() if old in number_of}
        count += len(number_of)
    return _count_in_each({"state": joined, "param_groups": groups})


def _cut_vector(optimizer: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """State of one vector that holds all parameters, one after another, as state of the parameters (views of it)."""
    groups = optimizer["param_groups"]
    sizes = [tensor.numel() for tensor in weights.values()]
    if len(groups) != 1 or len(groups[0]["params"]) != 1 or len(sizes) < 2:
        return optimizer
    state = optimizer["state"].get(groups[0]["params"][0], {})
    vectors = {key: value for key, value in state.items() if isinstance(value, Tensor) and value.dim() == 1}
    if not vectors or any(vector.numel() != sum(sizes) for vector in vectors.values()):
        return optimizer
    numbers = list(range(len(sizes)))
    cut: dict[int, dict[str, Any]] = {
        number: {key: value for key, value in state.items() if key not in vectors} for number in numbers
    }
    for key, vector in vectors.items():
        for number, part, tensor in zip(numbers, torch.split(vector, sizes), weights.values(), strict=True):
            cut[number][key] = part.view(tensor.shape)
    return {**optimizer, "state": cut, "param_groups": [{**groups[0], "params": numbers}]}


def _count_in_each(optimizer: dict[str, Any]) -> dict[str, Any]:
    """A group's count of steps, as fused optimizers keep it, written into the state of each of its parameters."""
    state = dict(optimizer["state"])
    for group in optimizer["param_groups"]:
        for number in group["params"] if "step" in group else ():
            if number in state:
                state[number] = {"step": group["step"], **state[number]}
    return {**optimizer, "state": state}


def name_parameters(optimizer: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write the parameters' names into an optimizer's state, so that it can be matched by name, not by position.

    fairseq numbers parameters in the order of the model's state; a tensor with several names has one number. Where
    names and numbers cannot be matched (frozen parameters), the state is returned as it is.

    Args:
        optimizer: its state, parameter by parameter.
        weights: the model's parameters, each once, and after them the criterion's.
    """
    groups = optimizer.get("param_groups") or []
    if len(groups) != 1 or len(groups[0]["params"]) != len(weights):
        return optimizer
    for weight, number in zip(weights.values(), groups[0]["params"], strict=True):
        for value in optimizer["state"].get(number, {}).values():
            if isinstance(value, Tensor) and value.dim() == weight.dim() > 0 and value.shape != weight.shape:
                return optimizer
    return {**optimizer, "param_groups": [{**groups[0], "param_names": list(weights)}]}


def _distinct(state: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters, each tensor under its first name. (What holds no parameters is told by its name.)"""
    seen: set[tuple[int, int, tuple[int, ...]]] = set()
    names = []
    for name, tensor in state.items():
        last = name.rsplit(".", 1)[-1]
        if last in ("version", "_float_tensor", "running_mean", "running_var", "num_batches_tracked"):
            continue
        place = (tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tuple(tensor.shape))
        if place not in seen:
            seen.add(place)
            names.append(name)
    return names
