"""What a fairseq checkpoint keeps for going on with training: averages of log figures, and the optimizer's state.

Knows nothing of configuration or of how the file was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def name_parameters(optimizer: dict[str, Any], model: Mapping[str, Tensor]) -> dict[str, Any]:
    """Write the parameters' names into an optimizer's state, so that it can be matched by name, not by position.

    fairseq numbers parameters in the order of the model's state; a tensor with several names has one number. Where
    names and numbers cannot be matched (flattened or frozen parameters), the state is returned as it is.

    Args:
        optimizer: `last_optimizer_state`.
        model: the model's state as fairseq wrote it.
    """
    groups = optimizer.get("param_groups") or []
    names = _distinct(model)
    if len(groups) != 1 or len(groups[0]["params"]) != len(names):
        return optimizer
    for name, number in zip(names, groups[0]["params"], strict=True):
        for value in optimizer["state"].get(number, {}).values():
            if isinstance(value, Tensor) and value.dim() == model[name].dim() > 0 and value.shape != model[name].shape:
                return optimizer
    return {**optimizer, "param_groups": [{**groups[0], "param_names": names}]}


def _distinct(model: Mapping[str, Tensor]) -> list[str]:
    """Names of parameters, each tensor under its first name. (What holds no parameters is told by its name.)"""
    seen: set[tuple[int, int, tuple[int, ...]]] = set()
    names = []
    for name, tensor in model.items():
        last = name.rsplit(".", 1)[-1]
        if last in ("version", "_float_tensor", "running_mean", "running_var", "num_batches_tracked"):
            continue
        place = (tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tuple(tensor.shape))
        if place not in seen:
            seen.add(place)
            names.append(name)
    return names
