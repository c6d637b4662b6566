"""The configuration inside a fairseq checkpoint, as a mapping for `root_from_dict`.

fairseq kept its flags in two ways: as one flat namespace (`args`), and as nested sections (`cfg`) in which the
sections of older components are again whole flat namespaces. Knows nothing of tensors or files.
"""

from __future__ import annotations

import logging
import typing
from collections.abc import Collection, Mapping
from typing import Any

from seqkit.config.base import MISSING, Config, option_info
from seqkit.config.compose import variant
from seqkit.config.root import COMPONENTS, SECTIONS
from seqkit.config.validate import check_value, field_types, is_optional, options_of
from seqkit.errors import UnknownNameError
from seqkit.registry import registry

logger = logging.getLogger(__name__)

_TRAINING_ONLY = ("criterion", "optimizer", "lr_scheduler", "scoring")
"""Components that a checkpoint can do without: one that seqkit lacks is left out."""

_RENAMED = {
    "max_sentences": "batch_size",
    "max_sentences_valid": "batch_size_valid",
    "remove_bpe": "post_process",
    "min_lr": "stop_min_lr",
}
"""Flags of old generations, by the option that took their place."""

_FLAT = frozenset({"arch", "save_dir", "optimizer", "lr_scheduler", "distributed_world_size"})
"""A component section with several of these keys is a whole flat namespace."""


def config_from_cfg(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the `cfg` of a checkpoint (fairseq 0.10 and later) into a root config mapping.

    Options that seqkit does not have any more are dropped (and logged where they were in use). A criterion,
    optimizer, schedule or scorer that seqkit does not have is dropped; an unknown task or model keeps its name, for
    `root_from_dict` to report.

    Args:
        cfg: nested plain containers.
    """
    result: dict[str, Any] = {}
    for section in SECTIONS:
        values = cfg.get(section)
        if isinstance(values, Mapping):
            result[section] = _section(section, values)
    for kind in COMPONENTS:
        values = cfg.get(kind)
        if isinstance(values, str):
            values = {"_name": values}
        if not isinstance(values, Mapping):
            continue
        name = values.get("_name") or values.get("arch" if kind == "model" else kind)
        if name is not None:
            component = _component(kind, str(name), values)
            if component is not None:
                result[kind] = component
    return result


def config_from_args(args: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the `args` of a checkpoint (fairseq before 0.10, and later ones trained by flags) into a root mapping.

    Args:
        args: the flat namespace as a dictionary.
    """
    flat = _modern(args)
    result: dict[str, Any] = {
        section: _section(section, {key: flat[key] for key in options_of(cls) if key in flat})
        for section, cls in SECTIONS.items()
    }
    for kind in COMPONENTS:
        name = flat.get("arch" if kind == "model" else kind)
        if name is None and kind == "task":
            name = "translation"
        if isinstance(name, str):
            component = _component(kind, name, {**flat, "arch": flat.get("arch")}, whole_namespace=True)
            if component is not None:
                result[kind] = component
    return result


def _modern(args: Mapping[str, Any], options: Collection[str] = ()) -> dict[str, Any]:
    """A flat namespace with old names and spellings replaced by their successors, but for names of `options`."""
    flat = dict(args)
    for old, new in _RENAMED.items():
        if old in flat and new not in flat and old not in options:
            flat[new] = flat.pop(old)
    if isinstance(flat.get("data"), list | tuple):
        flat["data"] = ":".join(str(part) for part in flat["data"])
    if "max_positions" in flat:
        flat.setdefault("max_source_positions", flat["max_positions"])
        flat.setdefault("max_target_positions", flat["max_positions"])
    if "no_tie_adaptive_proj" in flat:  # language models of before there was a last norm
        flat["no_decoder_final_norm"] = True
        flat["tie_adaptive_proj"] = bool(flat.get("tie_adaptive_proj")) or not flat["no_tie_adaptive_proj"]
    if "decoder_final_norm" in flat:
        flat["no_decoder_final_norm"] = not flat["decoder_final_norm"]
    if flat.get("raw_text"):
        flat.setdefault("dataset_impl", "raw")
    elif flat.get("lazy_load"):
        flat.setdefault("dataset_impl", "lazy")
    return flat


def _section(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A fixed section: what fits is kept, the rest dropped; none of it shapes the model."""
    cls = SECTIONS[section]
    options, kinds = options_of(cls), field_types(cls)
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in _renamed(values).items():
        if key == "_name" or _unset(value):
            continue
        if key not in options:
            if value:
                dropped.append(f"{key}={value!r}")
            continue
        bare = option_info(options[key]).bare
        if isinstance(value, bool) and isinstance(bare, str):  # a switch in its day
            value = bare if value else None
        result, problem = check_value(options[key], kinds[key], value, key)
        if problem is None:
            kept[key] = result
        elif value is not None:
            dropped.append(f"{key}={value!r}")
    _log_dropped(section, dropped)
    return kept


def _component(
    kind: str, name: str, values: Mapping[str, Any], *, whole_namespace: bool = False
) -> dict[str, Any] | None:
    try:
        cls: type[Config] = registry(kind).get(_component_name(kind, name)).config
    except UnknownNameError:
        if kind in _TRAINING_ONLY:
            logger.info("the checkpoint's %s %r is not in seqkit; left out", kind, name)
            return None
        return {"_name": name}
    options, kinds = options_of(cls), field_types(cls)
    if name == "cosine" and "max_lr" in values:
        values = _modern_cosine(values)
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in _flattened(_modern(values, options), options).items():
        if key == "_name" or _unset(value):
            continue
        if key in options:
            if isinstance(value, list | tuple) and str in (kinds[key], *typing.get_args(kinds[key])):
                value = ",".join(str(part) for part in value)  # 0.12.2 wrote some lists as what they had been read to
            if value is not None or is_optional(kinds[key]):
                # Some architectures of fairseq set a number to False.
                is_number = isinstance(value, bool) and int in (kinds[key], *typing.get_args(kinds[key]))
                kept[key] = int(value) if is_number else value
        elif value:
            dropped.append(f"{key}={value!r}")
    if not whole_namespace and len(_FLAT.intersection(values)) < 2:
        _log_dropped(kind, dropped)
    # What an architecture sets is in the file too, but where somebody else wrote it.
    return {**variant(kind, name, given=kept), **kept}


def _modern_cosine(values: Mapping[str, Any]) -> dict[str, Any]:
    """A cosine schedule's values from when `max_lr` was its peak, and `lr` its end."""
    rates = values.get("lr", 0.0)
    end = rates[0] if isinstance(rates, list | tuple) else rates
    return {**values, "lr": [values["max_lr"]], "min_lr": end, "stop_min_lr": values.get("min_lr", -1.0)}


def _component_name(kind: str, name: str) -> str:
    """The component behind the name of a component or of one of its named variants (an architecture)."""
    return str(variant(kind, name)["_name"])


def _flattened(values: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """`{"encoder": {"layers": 6}}` as `{"encoder_layers": 6}` where the component has flat options."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key not in options and isinstance(value, Mapping):
            flat.update({f"{key}_{inner}": item for inner, item in value.items() if inner != "_name"})
        else:
            flat[key] = value
    return flat


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(key, key): value for key, value in values.items()}


def _unset(value: Any) -> bool:
    """Whether a stored value stands for none: never given, or a reference that was never resolved."""
    return isinstance(value, str) and (value == MISSING or value.startswith("${"))


def _log_dropped(section: str, dropped: list[str]) -> None:
    if dropped:
        logger.info("options of the checkpoint that seqkit does not use, in %s: %s", section, ", ".join(dropped))
