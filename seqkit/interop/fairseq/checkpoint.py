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
from seqkit.interop.fairseq.state_dict import (
    names_today,
    upgrade_state_dict,
    with_plain_embedding,
    without_final_norms,
    without_unused_scales,
)
from seqkit.interop.fairseq.training_state import (
    convert_average,
    convert_metrics,
    convert_optimizer,
    convert_train_time,
    number,
    without_parameters,
)
from seqkit.interop.safe_load import InertNode

_ONCE_OUTSIDE = ("epoch", "batch_offset", "val_loss")
"""What files had at their top level before there was an `extra_state`."""


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
    if isinstance(config.get("model"), dict):
        config["model"] |= without_final_norms(raw["model"], config["model"])
        config["model"] |= with_plain_embedding(raw["model"], config["model"])
        config["model"] |= without_unused_scales(raw["model"], config["model"])
    model = upgrade_state_dict(raw["model"], config)
    last, saved_optimizer, extra = _training(raw)
    iterator = extra.get("train_iterator") or {}
    criterion = dict(raw.get("criterion") or {})
    optimizer: dict[str, Any] | None = None
    kept: dict[str, Any] = {}
    if saved_optimizer:
        optimizer, kept = convert_optimizer(saved_optimizer, raw["model"], criterion)
        unused = {today for name in raw["model"] for today in names_today(name)} - set(model)
        if unused and "param_groups" in optimizer:
            optimizer = without_parameters(optimizer, unused)
    average = convert_average(extra, lambda state: upgrade_state_dict(state, config))
    if average:
        kept["ema"] = average
    return CheckpointState(
        config=config,
        model=model,
        criterion=criterion,
        task={},
        optimizer=optimizer,
        lr_scheduler=last.get("lr_scheduler_state") or {},
        iterator={
            key: iterator[key] for key in ("version", "epoch", "iterations_in_epoch", "shuffle") if key in iterator
        },
        progress={
            "num_updates": int(last.get("num_updates", 0)),
            "best": number(extra.get("best")),
            "val_loss": number(extra.get("val_loss")),
            "train_time": convert_train_time(extra),
        },
        metrics=convert_metrics(extra.get("metrics") or {}),
        extra=kept,
    )


def _training(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What a file says of its training, as fairseq has said it since 0.9.

    Returns:
        the latest entry of the history, the optimizer's state (empty without any), and `extra_state`.
    """
    history = plain(raw.get("optimizer_history") or [{"best_loss": raw.get("best_loss")}])
    last = dict(history[-1])
    optimizer = raw.get("last_optimizer_state") or last.pop("optimizer", None) or raw.get("optimizer") or {}
    if "best_loss" in last:
        # What the first schedules kept.
        last.setdefault("lr_scheduler_state", {"best": number(last.pop("best_loss"))})
    extra = dict(plain(raw.get("extra_state") or {key: raw[key] for key in _ONCE_OUTSIDE if key in raw}))
    if "train_iterator" not in extra and "epoch" in extra:
        extra["train_iterator"] = {"epoch": extra["epoch"], "iterations_in_epoch": extra.get("batch_offset") or 0}
    if extra.get("train_iterator"):
        iterator = extra["train_iterator"]
        extra["train_iterator"] = {**iterator, "epoch": max(int(iterator.get("epoch", 1)), 1)}  # once counted from 0
    return last, plain(optimizer), extra


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
    """The value of one pickled OmegaConf node: containers keep `_content`, leaves `_val`; of others, what they hold."""
    state = getattr(node, "state", None)
    if isinstance(state, tuple):
        state = next((part for part in state if isinstance(part, dict)), None)
    if not isinstance(state, dict):
        return None
    for key in ("_content", "_val"):
        if key in state:
            return plain(state[key])
    return plain(state)
