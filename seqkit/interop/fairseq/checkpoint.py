"""fairseq's checkpoint files, turned into today's `CheckpointState`.

The one place that knows their keys and generations (argparse `args` and OmegaConf `cfg`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError
from seqkit.interop.fairseq.config import config_from_args, config_from_cfg
from seqkit.interop.fairseq.state_dict import upgrade_state_dict
from seqkit.interop.fairseq.training_state import convert_average, convert_metrics, convert_optimizer
from seqkit.interop.safe_load import InertNode


def is_fairseq(raw: Any) -> bool:
    """Whether the content of a `.pt` file has the shape of a fairseq checkpoint."""
    return isinstance(raw, dict) and "model" in raw and ("args" in raw or "cfg" in raw)


def convert(raw: dict[str, Any], where: str) -> CheckpointState:
    """Turn the content of a fairseq checkpoint into a `CheckpointState`.

    Args:
        raw: what the restricted reader gave.
        where: the file's name, for messages.

    Raises:
        CheckpointError: the file has neither a usable `cfg` nor `args`.
    """
    config = _config(raw, where)
    extra = plain(raw.get("extra_state") or {})
    history = plain(raw.get("optimizer_history") or [])
    last = history[-1] if history else {}
    iterator = extra.get("train_iterator") or {}
    progress = {
        "num_updates": int(last.get("num_updates", 0)),
        "best": extra.get("best"),
        "val_loss": extra.get("val_loss"),
        "train_time": float(extra.get("previous_training_time", 0.0)),
    }
    criterion = dict(raw.get("criterion") or {})
    optimizer: dict[str, Any] | None = None
    kept: dict[str, Any] = {}
    if raw.get("last_optimizer_state"):
        optimizer, kept = convert_optimizer(plain(raw["last_optimizer_state"]), raw["model"], criterion)
    average = convert_average(extra, lambda state: upgrade_state_dict(state, config))
    if average:
        kept["ema"] = average
    return CheckpointState(
        config=config,
        model=upgrade_state_dict(raw["model"], config),
        criterion=criterion,
        task={},
        optimizer=optimizer,
        lr_scheduler=last.get("lr_scheduler_state") or {},
        iterator={
            key: iterator[key] for key in ("version", "epoch", "iterations_in_epoch", "shuffle") if key in iterator
        },
        progress=progress,
        metrics=convert_metrics(extra.get("metrics") or {}),
        extra=kept,
    )


def _config(raw: dict[str, Any], where: str) -> dict[str, Any]:
    if raw.get("cfg") is not None:
        cfg = plain(raw["cfg"])
        if isinstance(cfg, dict):
            return config_from_cfg(cfg)
    if raw.get("args") is not None:
        args = plain(raw["args"])
        if isinstance(args, dict):
            return config_from_args(args)
    raise CheckpointError(f"{where} looks like a fairseq checkpoint but holds neither its configuration nor its flags")


def plain(value: Any) -> Any:
    """Plain containers for whatever the restricted reader built: namespaces, inert OmegaConf nodes, tuples stay."""
    if isinstance(value, argparse.Namespace):
        return {key: plain(item) for key, item in vars(value).items()}
    if isinstance(value, InertNode):
        return _plain_node(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return value


def _plain_node(node: InertNode) -> Any:
    """The value of one pickled OmegaConf node: containers keep `_content`, leaves keep `_val`."""
    state = getattr(node, "state", None)
    if isinstance(state, tuple):
        state = next((part for part in state if isinstance(part, dict)), None)
    if not isinstance(state, dict):
        return None
    for key in ("_content", "_val"):
        if key in state:
            return plain(state[key])
    return None
