"""What a config dataclass is made of: `Config`, `option`, `MISSING`.

Every field is written with `option(default, help, ...)`; its bounds, choices and aliases are data on the
field, and the same data serves Hydra overrides, YAML files, `--help`, the component catalogue and the
translation of fairseq's command-line flags. Knows nothing of torch, Hydra or OmegaConf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING = "???"
"""A value the user must give. (OmegaConf's and Hydra's spelling.)"""


@dataclass
class Config:
    """Base of every config. Subclasses are dataclasses whose fields are made by `option`."""

    _name: str | None = field(default=None, metadata={"help": "name of the component that this section configures"})


@dataclass(frozen=True)
class OptionInfo:
    """What is known of one option beside its type and default.

    Attributes:
        help: one line for the user, with units.
        low, high: inclusive bounds of a number (or of each number in a list).
        choices: the values allowed.
        follows: dotted path of the root config whose value this takes unless it is given itself
            (`"optimization.lr"`; `"criterion._name"` is the name of the component chosen).
        flags: fairseq's command-line spellings where they are not `--<name-with-dashes>`.
        positional: fairseq takes it as a positional argument (the data directory).
        bare: the value meant by fairseq's flag when it is given without one (`--remove-bpe`).
        refused: why any value but the default cannot be used; the option exists so that old configs load.
    """

    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    follows: str | None = None
    flags: tuple[str, ...] = ()
    positional: bool = False
    bare: Any = None
    refused: str | None = None


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[Any] | None = None,
    follows: str | None = None,
    flags: Sequence[str] = (),
    positional: bool = False,
    bare: Any = None,
    refused: str | None = None,
) -> Any:
    """A documented, checked field of a `Config`. See `OptionInfo` for the arguments.

    `default` may be a list or dict (each instance gets its own copy) or `MISSING`.
    """
    info = OptionInfo(
        help=help,
        low=low,
        high=high,
        choices=None if choices is None else tuple(choices),
        follows=follows,
        flags=tuple(flags),
        positional=positional,
        bare=bare,
        refused=refused,
    )
    metadata = {"help": help, "option": info}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def option_info(item: dataclasses.Field[Any]) -> OptionInfo:
    """The `OptionInfo` of a dataclass field (an empty one for fields not made by `option`)."""
    info = item.metadata.get("option")
    return info if isinstance(info, OptionInfo) else OptionInfo(help=item.metadata.get("help", ""))


def default_of(item: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass field, `MISSING` where it has none."""
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return MISSING
