"""What a checkpoint holds: seqkit's one schema. Old formats are turned into it by `seqkit/interop/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

FORMAT = "seqkit-checkpoint-1"
SHARDS = "shards"
"""The entry of `extra` by which a file says that its tensors are in a folder (see `checkpoint.sharded`)."""


@dataclass
class CheckpointState:
    """All of a training run that is kept. Only tensors and plain containers, so that it loads safely.

    Attributes:
        config: the whole composed root config as nested plain dictionaries (sections by name).
        model: parameters and buffers by name; shared tensors appear under every name.
        criterion: the criterion's state dict.
        task: the task's own state.
        optimizer: `torch.optim.Optimizer.state_dict()`, None where it was not saved.
        lr_scheduler: the schedule's state.
        iterator: the position in the training data (`EpochBatchIterator.state_dict()`).
        progress: `num_updates`, `best`, `train_time` (seconds), `val_loss`, `patience` and the like: plain numbers.
        metrics: the aggregators' state, so that averages go on.
        extra: precision state (loss scale), EMA weights (`"ema"`), and what later parts add, by name.
    """

    config: dict[str, Any]
    model: dict[str, Tensor]
    criterion: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    lr_scheduler: dict[str, Any] = field(default_factory=dict)
    iterator: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
