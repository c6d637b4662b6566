"""Config dataclasses as command-line flags: fairseq's spellings, help texts, and checked values.

For commands that take flags rather than Hydra overrides. Knows nothing of what a config is for.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from seqkit.config.base import MISSING, Config, default_of, option_info
from seqkit.config.validate import check_value, field_types, options_of
from seqkit.errors import ConfigError, did_you_mean

ConfigT = TypeVar("ConfigT", bound=Config)


def flags_of(item: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The command-line spellings of a config field (`("--source-lang",)`)."""
    return option_info(item).flags or (f"--{item.name.replace('_', '-')}",)


class FlagParser(argparse.ArgumentParser):
    """An argument parser that raises `ConfigError` instead of ending the process, and names near matches.

    Flags cannot be abbreviated. Values stay text until `config_from_flags` checks them.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError`."""
        raise ConfigError(message)

    def parse_flags(self, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """The values given, by field name; fields that were not given are left out.

        Raises:
            ConfigError: unknown flags or arguments (all of them in one message), or a flag without its value.
        """
        namespace, unknown = self.parse_known_args(arguments)
        flags = [argument.split("=")[0] for argument in unknown if argument.startswith("-")]
        if flags:
            raise ConfigError([f"unknown flag {flag}{self._hint(flag)}" for flag in flags])
        if unknown:
            raise ConfigError([f"unexpected argument {argument!r}" for argument in unknown])
        return vars(namespace)

    def _hint(self, flag: str) -> str:
        known = list(self._option_string_actions)
        longer = [name for name in known if name.startswith(flag)]
        return did_you_mean(longer[0], longer[:1]) if len(flag) > 3 and longer else did_you_mean(flag, known)


def add_flags(
    parser: argparse._ActionsContainer,
    cls: type[Config],
    *,
    skip: Collection[str] = (),
    hidden: Collection[str] | bool = False,
) -> None:
    """Add a flag for each option of a config dataclass.

    Args:
        parser: a parser, or a group of one.
        skip: names of fields that get no flag.
        hidden: names of fields (True: all) that `--help` does not show.
    """
    kinds = field_types(cls)
    for name, item in options_of(cls).items():
        if name in skip:
            continue
        shown = not (hidden if isinstance(hidden, bool) else name in hidden)
        settings: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        settings["help"] = _help(item) if shown else argparse.SUPPRESS
        if _is_bool(kinds[name]):
            settings["action"] = "store_false" if default_of(item) is True else "store_true"
        else:
            settings["metavar"] = _metavar(item, kinds[name])
        parser.add_argument(*flags_of(item), **settings)


def config_from_flags(cls: type[ConfigT], values: Mapping[str, Any], problems: list[str]) -> ConfigT:
    """Make a config of the values that `FlagParser.parse_flags` returned; other values are passed over.

    Args:
        problems: one line is added for each value that does not fit and each one missing.
    """
    kinds = field_types(cls)
    result: dict[str, Any] = {}
    for name, item in options_of(cls).items():
        flag = flags_of(item)[-1]
        if name in values:
            value, problem = check_value(item, kinds[name], values[name], flag)
            if problem is not None:
                problems.append(problem)
            else:
                result[name] = value
        elif default_of(item) == MISSING:
            problems.append(f"{flag} must be given: {option_info(item).help}")
    return cls(**result)


def _is_bool(kind: Any) -> bool:
    return kind is bool or bool in typing.get_args(kind)


def _metavar(item: dataclasses.Field[Any], kind: Any) -> str:
    choices = option_info(item).choices
    if choices is not None:
        return "{" + ",".join(str(choice) for choice in choices) + "}"
    names: dict[Any, str] = {int: "N", float: "X"}
    kinds = {kind, *typing.get_args(kind)}
    return next((name for known, name in names.items() if known in kinds), item.name.upper())


def _help(item: dataclasses.Field[Any]) -> str:
    default = default_of(item)
    text = option_info(item).help
    if default not in (None, MISSING, "") and not isinstance(default, bool):
        text += f" (default: {default})"
    return text.replace("%", "%%")
