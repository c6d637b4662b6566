"""What a fairseq checkpoint keeps for going on with training: averages of figures and weights, the optimizer's state.

Knows nothing of configuration or of how the file was read.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

import torch
from torch import Tensor

from seqkit.interop.fairseq.state_dict import is_copy, is_parameter, names_today
from seqkit.metrics.meters import METERS

_STREAMS = ("train", "train_inner")
_SAMPLE = 8
"""Numbers by which matrices that may be the same are told apart at once."""


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


def convert_train_time(extra_state: Mapping[str, Any]) -> float:
    """Seconds trained so far. fairseq before 0.9 kept them in a stopwatch among its meters (`train_meters`)."""
    if "previous_training_time" in extra_state:
        return float(extra_state["previous_training_time"])
    stopwatch = (extra_state.get("train_meters") or {}).get("train_wall")
    return float(stopwatch.get("sum") or 0.0) if isinstance(stopwatch, Mapping) else 0.0


def number(value: Any) -> Any:
    """A figure as a plain number, where it was kept in a tensor."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def _numbers(state: Mapping[str, Any]) -> dict[str, Any]:
    return {key: number(value) for key, value in state.items()}


def convert_optimizer(
    optimizer: Mapping[str, Any], model: Mapping[str, Tensor], criterion: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`last_optimizer_state` as `torch.optim.Optimizer.state_dict()` gives it, with the parameters' names in it.

    What fairseq's fp16 training put into one vector is cut into parameters again, and so is the state of packed
    projections; the states of a composite optimizer become groups of one; a count of steps kept once for all
    parameters goes to each. State that is not of the model's parameters keeps numbers for names, so that training
    refuses it.

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
    trained = {name: tensor for name, tensor in model.items() if is_parameter(name)}
    trained |= {f"criterion.{name}": tensor for name, tensor in criterion.items() if is_parameter(name)}
    for weights in (_distinct(trained), _distinct(trained, by_value=True)):
        named = name_parameters(_count_in_each(_cut_vector(state, weights)), weights)
        if named is not None:
            return named, extra
    groups = [
        {**group, "param_names": [f"parameter {number} of the file" for number in group["params"]]}
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}, extra


def without_parameters(optimizer: dict[str, Any], names: Container[str]) -> dict[str, Any]:
    """An optimizer's state without the parameters of some names, where it knows its parameters by their names."""
    states: dict[int, Any] = {}
    groups: list[dict[str, Any]] = []
    count = 0
    for group in optimizer.get("param_groups", []):
        pairs = zip(group["params"], group.get("param_names", map(str, group["params"])), strict=True)
        kept = [(number, name) for number, name in pairs if name not in names]
        for place, (number, _) in enumerate(kept, start=count):
            if number in optimizer["state"]:
                states[place] = optimizer["state"][number]
        named = {"param_names": [name for _, name in kept]} if "param_names" in group else {}
        groups.append({**group, "params": list(range(count, count + len(kept))), **named})
        count += len(kept)
    return {**optimizer, "state": states, "param_groups": groups}


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


def name_parameters(optimizer: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Write today's names of the parameters into an optimizer's state, so that it can be matched by name.

    fairseq numbers parameters in the order of the model's state; a tensor with several names has one number.

    Args:
        optimizer: its state, parameter by parameter.
        weights: the parameters, each once, by their names in the file: the model's, and after them the criterion's.

    Returns:
        the state; None where names and numbers cannot be matched.
    """
    groups = optimizer.get("param_groups") or []
    if len(groups) != 1 or len(groups[0]["params"]) != len(weights):
        return None
    states: dict[int, dict[str, Any]] = {}
    names: list[str] = []
    for (name, weight), number in zip(weights.items(), groups[0]["params"], strict=True):
        state = optimizer["state"].get(number, {})
        tensors = [value for value in state.values() if isinstance(value, Tensor)]
        if any(value.dim() == weight.dim() > 0 and value.shape != weight.shape for value in tensors):
            return None
        today = names_today(name)
        if len(today) > 1 and any(value.dim() > 0 and value.shape != weight.shape for value in tensors):
            return None  # What is kept for all of a packed projection together (rows and columns) cannot be shared out.
        for index in range(len(today)):
            if state:
                states[len(names) + index] = _part(state, index, len(today))
        names += today
    group = {**groups[0], "params": list(range(len(names))), "param_names": names}
    return {**optimizer, "state": states, "param_groups": [group]}


def _part(state: Mapping[str, Any], index: int, count: int) -> dict[str, Any]:
    """One of `count` equal parts of a parameter's state."""
    return {
        key: value.chunk(count)[index] if count > 1 and isinstance(value, Tensor) and value.dim() else value
        for key, value in state.items()
    }


def _distinct(state: Mapping[str, Tensor], *, by_value: bool = False) -> dict[str, Tensor]:
    """Each tensor once, under its first name.

    Args:
        by_value: matrices of the same numbers are one tensor: what was tied on a GPU is in the file several times.
    """
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    distinct: dict[str, Tensor] = {}
    for name, tensor in state.items():
        # Copies begin as zeros, all alike, and each is a parameter of its own.
        if by_value and tensor.dim() > 1 and not is_copy(name):
            alike = groups.setdefault((tensor.shape, *tensor.flatten()[:_SAMPLE].tolist()), [])
            is_new = not any(torch.equal(tensor, other) for other in alike)
        else:
            place = tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.shape
            alike = groups.setdefault(place, [])
            is_new = not alike
        if is_new:
            distinct[name] = tensor
            alike.append(tensor)
    return distinct
