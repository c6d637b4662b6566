"""Where a model runs, and how a batch gets there.

Knows nothing of training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.config.sections import CommonConfig
from seqkit.errors import ConfigError


def choose_device(common: CommonConfig, device_id: int = 0) -> torch.device:
    """The GPU `device_id`, or the CPU where there is no GPU or `common.cpu` is set.

    Raises:
        ConfigError: there are GPUs, but not that one.
    """
    if common.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if device_id >= count:
        raise ConfigError(
            f"distributed_training.device_id={device_id}, but there are {count} GPUs (numbered from 0); "
            "choose another, or set common.cpu=true"
        )
    return torch.device("cuda", device_id)


def move_to_device(value: Any, device: torch.device, dtype: torch.dtype | None = None) -> Any:
    """A batch with its tensors on `device`; containers are rebuilt, everything else is passed through.

    Copies to a GPU start from pinned memory and do not wait.

    Args:
        dtype: floating-point tensors are converted to it (after the move); None keeps them.
    """
    if isinstance(value, Tensor):
        if device.type == "cuda" and value.device.type == "cpu":
            pinned = value if value.is_pinned() else value.pin_memory()
            value = pinned.to(device, non_blocking=True)
        elif value.device != device:
            value = value.to(device)
        if dtype is not None and value.is_floating_point():
            value = value.to(dtype)
        return value
    if isinstance(value, dict):
        return {key: move_to_device(item, device, dtype) for key, item in value.items()}
    if isinstance(value, list):
        return [move_to_device(item, device, dtype) for item in value]
    if isinstance(value, tuple):
        moved = [move_to_device(item, device, dtype) for item in value]
        return type(value)(*moved) if hasattr(value, "_fields") else tuple(moved)
    return value
