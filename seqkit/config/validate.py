"""Plain nested mappings to typed config dataclasses and back, with every problem told at once.

Knows what a dataclass made of `option` fields is; nothing of sections, components, Hydra or YAML.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from seqkit.config.base import MISSING, Config, default_of, option_info
from seqkit.errors import ConfigError, did_you_mean, near_matches

ConfigT = TypeVar("ConfigT", bound=Config)

_TRUE = {"true", "t", "yes", "y", "on", "1"}
_FALSE = {"false", "f", "no", "n", "off", "0"}
_NULL = {"None", "null"}
_FEW = 12
"""Up to so many options are all listed when a key is unknown and none is near."""


class _Unfit(Exception):
    """A value that its type does not take; the text says what would be right."""


def field_types(cls: type[Any]) -> dict[str, Any]:
    """The resolved type of every field of a dataclass."""
    hints = typing.get_type_hints(cls)
    return {item.name: hints[item.name] for item in dataclasses.fields(cls)}


def options_of(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The fields of a config dataclass that a user may set, by name (`_name` is not one)."""
    return {item.name: item for item in dataclasses.fields(cls) if item.name != "_name"}


def is_optional(kind: Any) -> bool:
    """Whether a type takes None."""
    return kind is Any or kind is type(None) or any(member is type(None) for member in _union_members(kind))


def _union_members(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return typing.get_args(kind)
    return ()


def type_text(kind: Any) -> str:
    """A type as a user would say it: `"a whole number or null"`."""
    members = _union_members(kind)
    if members:
        return " or ".join(type_text(member) for member in members)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (list, tuple, Sequence):
        inner = arguments[0] if arguments else Any
        plural = {int: "whole numbers", float: "numbers", str: "texts", bool: "true/false values"}.get(inner)
        return f"a list of {plural}" if plural else "a list"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(str(member.value) for member in kind)
    if origin is dict or (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return "a mapping"
    names: dict[Any, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        tuple: "a list",
        dict: "a mapping",
        type(None): "null",
    }
    return names.get(kind, "any value")


def coerce(value: Any, kind: Any) -> Any:
    """`value` as `kind`, through the spellings that YAML, Hydra and fairseq's flags leave behind.

    An int serves as a float and a whole float as an int; numbers may be text ("1e-4"); one value serves as a list of
    one; lists and mappings may be Python literals in text ("(0.9, 0.98)"); "None" and "null" are None where None fits.

    Raises:
        ValueError: the value does not fit; the text says what would.
    """
    try:
        return _coerce(value, kind)
    except _Unfit as problem:
        raise ValueError(str(problem)) from None


def _coerce(value: Any, kind: Any) -> Any:
    if kind is Any:
        return value
    members = _union_members(kind)
    if members:
        return _coerce_union(value, members)
    if kind is type(None):
        if value is None or (isinstance(value, str) and value in _NULL):
            return None
        raise _Unfit("is not null")
    origin = typing.get_origin(kind) or kind
    if isinstance(origin, type) and issubclass(origin, Enum):
        for member in origin:
            if value == member or value in (member.value, member.name):
                return member
        raise _Unfit(f"is not {type_text(kind)}{did_you_mean(str(value), [str(member.value) for member in origin])}")
    if origin is typing.Literal:
        if value in typing.get_args(kind):
            return value
        raise _Unfit("is not one of " + ", ".join(str(choice) for choice in typing.get_args(kind)))
    converter = _CONVERTERS.get(origin)
    if converter is not None:
        return converter(value, kind)
    if isinstance(value, origin):
        return value
    raise _Unfit(f"is not a {origin.__name__}")


def _coerce_union(value: Any, members: tuple[Any, ...]) -> Any:
    others = [member for member in members if member is not type(None)]
    if len(others) < len(members) and (value is None or (isinstance(value, str) and value in _NULL)):
        return None
    for member in others:
        if type(value) is (typing.get_origin(member) or member):
            return _coerce(value, member)
    if len(others) == 1:
        try:
            return _coerce(value, others[0])
        except _Unfit as problem:
            text = str(problem)
            plain = f"is not {type_text(others[0])}"
            raise _Unfit(text.replace(plain, f"{plain} or null", 1) if len(others) < len(members) else text) from None
    for member in others:
        try:
            return _coerce(value, member)
        except _Unfit:
            continue
    raise _Unfit("is not " + " or ".join(type_text(member) for member in members))


def _to_bool(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    raise _Unfit("is not true or false")


def _to_int(value: Any, kind: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            pass
    if isinstance(value, str | float):
        try:
            number = float(value)
        except ValueError:
            raise _Unfit("is not a whole number") from None
        if math.isfinite(number) and number.is_integer():
            return int(number)
    raise _Unfit("is not a whole number")


def _to_float(value: Any, kind: Any) -> float:
    if isinstance(value, str | float | int) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            raise _Unfit("is not a number") from None
        if not math.isnan(number):
            return number
    raise _Unfit("is not a number")


def _to_str(value: Any, kind: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise _Unfit("is not text; put it in quotes if it is meant as a word (YAML reads a bare no, yes, on, off so)")
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        joined = ",".join(str(item) for item in value)
        raise _Unfit(f'is not text; write a list as one text, "{joined}"')
    raise _Unfit("is not text")


def _items_of(value: Any) -> list[Any]:
    if isinstance(value, str):
        parsed = _literal(value)
        if isinstance(parsed, list | tuple):
            return list(parsed)
        text = value.strip()
        if text[:1] + text[-1:] in ("[]", "()"):
            text = text[1:-1]
        return [part.strip() for part in text.split(",")] if text.strip() else []
    if isinstance(value, Sequence):
        return list(value)
    if isinstance(value, Mapping) or value is None:
        raise _Unfit("is not a list")
    return [value]


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _to_list(value: Any, kind: Any) -> list[Any]:
    arguments = typing.get_args(kind)
    inner = arguments[0] if arguments else Any
    try:
        return [_coerce(item, inner) for item in _items_of(value)]
    except _Unfit:
        raise _Unfit(f"is not {type_text(kind)}") from None


def _to_tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    arguments = typing.get_args(kind)
    items = _items_of(value)
    if not arguments:
        return tuple(items)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_to_list(items, list[arguments[0]]))  # type: ignore[valid-type]
    if len(items) != len(arguments):
        raise _Unfit(f"is not a list of {len(arguments)} values")
    try:
        return tuple(_coerce(item, inner) for item, inner in zip(items, arguments, strict=True))
    except _Unfit:
        raise _Unfit(f"is not {type_text(kind)}") from None


def _to_dict(value: Any, kind: Any) -> dict[Any, Any]:
    if isinstance(value, str):
        value = _literal(value) if value.strip() else {}
    if not isinstance(value, Mapping):
        raise _Unfit("is not a mapping")
    arguments = typing.get_args(kind)
    inner = arguments[1] if len(arguments) == 2 else Any
    return {key: _coerce(item, inner) for key, item in value.items()}


_CONVERTERS: dict[Any, Callable[[Any, Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    list: _to_list,
    tuple: _to_tuple,
    dict: _to_dict,
}


def check_value(item: dataclasses.Field[Any], kind: Any, value: Any, where: str) -> tuple[Any, str | None]:
    """Coerce one value and check its bounds, choices and refusal; returns it with the problem, if there is one."""
    info = option_info(item)
    shown = f"{where}={show(value)}"
    try:
        result = coerce(value, kind)
    except ValueError as problem:
        return None, f"{shown} {problem}"
    if isinstance(value, str):
        shown = f"{where}={show(result)}"
    if info.refused is not None:
        default = default_of(item)
        return result, None if result == default else f"{shown} cannot be used: {info.refused}"
    parts = _flat(result)
    if info.choices is not None:
        for part in parts:
            if part is not None and part not in info.choices:
                choices = ", ".join(str(choice) for choice in info.choices)
                hint = did_you_mean(str(part), [str(choice) for choice in info.choices])
                return result, f"{shown} is not one of {choices}{hint}"
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, int | float):
            continue
        if (info.low is not None and part < info.low) or (info.high is not None and part > info.high):
            return result, f"{shown} is out of range; give {bounds_text(info.low, info.high)}"
    return result, None


def bounds_text(low: float | None, high: float | None) -> str:
    """`"at least 0 and at most 1"`; empty where there is no bound."""
    parts = [] if low is None else [f"at least {low:g}"]
    return " and ".join(parts + ([] if high is None else [f"at most {high:g}"]))


def show(value: Any) -> str:
    """A value as it is written in YAML and on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(item) for item in value) + "]"
    return repr(value) if isinstance(value, str | dict) else str(value)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [part for item in value for part in _flat(item)]
    return [value]


def check_section(
    cls: type[ConfigT],
    mapping: Mapping[str, Any],
    where: str,
    problems: list[str],
    *,
    elsewhere: Callable[[str], str] = lambda key: "",
    missing_allowed: bool = False,
) -> ConfigT:
    """Fill a config dataclass from a mapping, adding what is wrong to `problems`.

    Args:
        cls: a dataclass whose fields are made by `option`.
        mapping: plain values by field name; whatever is left out has its default. `_name` is kept.
        where: the section's dotted path in messages (`"dataset"`).
        problems: one line is added for each thing that is wrong.
        elsewhere: given an unknown key, a hint where it belongs (`"; lr belongs to optimization: …"`), or "".
        missing_allowed: values that must be given may still be `MISSING`.

    Returns:
        The filled dataclass; with problems found, it holds defaults in their place.
    """
    prefix = f"{where}." if where else ""
    options, kinds = options_of(cls), field_types(cls)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key == "_name":
            values["_name"] = value
            continue
        if key not in options:
            matches = [f"{prefix}{match}" for match in near_matches(str(key), options)]
            hint = elsewhere(str(key)) or (f"; did you mean {' or '.join(matches)}?" if matches else "")
            if not hint and len(options) <= _FEW:
                hint = f"; there are: {', '.join(options)}" if options else f"; {where or 'it'} has no options"
            problems.append(f"unknown option {prefix}{key}{hint}")
            continue
        if isinstance(value, str) and value == MISSING:
            continue
        kind = kinds[key]
        nested = _nested_config(kind)
        if nested is not None and isinstance(value, Mapping):
            values[key] = check_section(nested, value, prefix + key, problems, missing_allowed=missing_allowed)
            continue
        result, problem = check_value(options[key], kind, value, prefix + key)
        if problem is None:
            values[key] = result
        else:
            problems.append(problem)
            # The default stands in, so that a value in need of one is not reported twice.
            values[key] = default_of(options[key])
    for name, item in options.items():
        if name not in values and not missing_allowed and default_of(item) == MISSING:
            info = option_info(item)
            if info.follows is None:
                problems.append(f"{prefix}{name} must be given: {info.help}")
    return cls(**values)


def _nested_config(kind: Any) -> type[Config] | None:
    for member in _union_members(kind) or (kind,):
        if isinstance(member, type) and issubclass(member, Config):
            return member
    return None


def build_config(
    cls: type[ConfigT], mapping: Mapping[str, Any], where: str = "", *, missing_allowed: bool = False
) -> ConfigT:
    """Make a config dataclass from a plain mapping. See `check_section` for the arguments.

    Raises:
        ConfigError: everything that is wrong, in one message.
    """
    problems: list[str] = []
    config = check_section(cls, mapping, where, problems, missing_allowed=missing_allowed)
    if problems:
        raise ConfigError(problems)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as nested plain containers, ready for YAML, JSON and checkpoints (`build_config` undoes it).

    `_name` comes first, and is left out where it is None.
    """
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if (item.name == "_name" and value is None) or not item.metadata.get("config", True):
            continue
        result[item.name] = plain(value)
    return result


def plain(value: Any) -> Any:
    """`value` made of dicts, lists and scalars alone."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
