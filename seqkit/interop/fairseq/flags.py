"""fairseq's command-line flags as a root config: `--max-tokens 4096 --arch transformer --lr 0.1,0.2`.

The flags are those of the config dataclasses' fields: of the sections that a command has, and of the components that
the command line chooses. Knows nothing of what a command does with its config.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqkit.config.base import Config, default_of, option_info
from seqkit.config.compose import variant
from seqkit.config.flags import flags_of
from seqkit.config.root import COMPONENTS, DEFAULT_COMPONENTS, SECTIONS, RootConfig, root_from_dict
from seqkit.config.validate import field_types, options_of
from seqkit.errors import ConfigError, UnknownNameError, did_you_mean
from seqkit.registry import import_user_dir, registry

_BASE = ("common", "distributed_training", "dataset")


@dataclass(frozen=True)
class _CommandFlags:
    """What one of fairseq's commands takes.

    Attributes:
        sections: fixed sections whose options are flags.
        task: the task whose flags it takes where `--task` is not given.
        from_checkpoint: the task and model are the checkpoint's, so nothing is chosen by default.
    """

    sections: tuple[str, ...]
    task: str | None
    from_checkpoint: bool = True


COMMANDS: dict[str, _CommandFlags] = {
    "train": _CommandFlags((*_BASE, "optimization", "checkpoint", "ema"), "translation", from_checkpoint=False),
    "generate": _CommandFlags((*_BASE, "common_eval", "checkpoint", "generation"), "translation"),
    "interactive": _CommandFlags((*_BASE, "common_eval", "checkpoint", "generation", "interactive"), "translation"),
    "validate": _CommandFlags((*_BASE, "common_eval"), None),
    "eval_lm": _CommandFlags((*_BASE, "common_eval", "eval_lm"), "language_modeling"),
}
"""fairseq's commands. Their names may be written with dashes or underscores."""

_SELECTORS: dict[str, tuple[str, ...]] = {
    "model": ("--arch", "-a"),
    **{kind: (f"--{kind.replace('_', '-')}",) for kind in COMPONENTS if kind != "model"},
}
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class _Flag:
    """One flag: where its value goes, and what it takes.

    Attributes:
        spellings: `--max-tokens`, …; the first is the one for messages.
        places: (section, option) pairs that get the value.
        bare: the value of the flag alone; None where it needs one.
        boolean: takes a value only where the next word is true or false.
        optional: takes the next word if that is no flag.
    """

    spellings: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    bare: Any = None
    boolean: bool = False
    optional: bool = False


def translate(command: str, argv: Sequence[str]) -> dict[str, Any]:
    """Turn fairseq's flags into the config that they give: nested, and without any default.

    Flags may be abbreviated as long as they are unambiguous; lists are written "0.1,0.2", tuples "(0.9, 0.98)". For
    the commands that read checkpoints, a task is named only where `--task` names one, so that the result can be put
    over the checkpoint's config with `merge_given`. A folder `--user-dir` is imported.

    Args:
        command: "train", "generate", "interactive", "validate" or "eval_lm".
        argv: the arguments behind the command's name.

    Returns:
        Values by section and option, as text where they came as text (`root_from_dict` checks them).

    Raises:
        ConfigError: everything that is wrong with the flags, in one message.
    """
    settings = COMMANDS[command.replace("-", "_")]
    chosen = _chosen(settings, argv)
    problems: list[str] = []
    result: dict[str, Any] = {}
    classes: dict[str, type[Config]] = {section: SECTIONS[section] for section in settings.sections}
    for kind in COMPONENTS:
        explicit = kind in chosen
        name = chosen.get(kind) or (settings.task if kind == "task" else DEFAULT_COMPONENTS.get(kind))
        if name is None:
            continue
        try:
            given = variant(kind, name)
            classes[kind] = registry(kind).get(given["_name"]).config
        except UnknownNameError as error:
            if explicit or not settings.from_checkpoint:
                problems.append(f"{_SELECTORS[kind][0]}: {error}")
            continue
        if explicit or not settings.from_checkpoint:
            result[kind] = given
    if problems:
        # Flags that are unknown now may be those of the components that are.
        raise ConfigError(problems)
    positionals = _parse(_Table(_flags(classes), settings), argv, result, problems)
    _take_data(positionals, classes.get("task"), result, problems)
    if problems:
        raise ConfigError(problems)
    return result


def to_root_config(command: str, argv: Sequence[str]) -> RootConfig:
    """The checked root config of fairseq's flags; its `given` is what `translate` returns.

    For the commands that read checkpoints, options of components that are not named are only in `given`.

    Raises:
        ConfigError: everything that is wrong, in one message.
    """
    settings = COMMANDS[command.replace("-", "_")]
    given = translate(command, argv)
    root = root_from_dict(
        given,
        partial=settings.from_checkpoint,
        required=() if settings.from_checkpoint else ("task", "model", "optimizer"),
    )
    root.given = given
    return root


def _chosen(settings: _CommandFlags, argv: Sequence[str]) -> dict[str, str]:
    """The components that the flags name; `--user-dir` is imported on the way, since it may define them."""
    # Component flags are not known yet and are passed over, so a word behind one counts as positional here.
    table = _Table(_flags({section: SECTIONS[section] for section in settings.sections}), settings)
    found: dict[str, Any] = {}
    _parse(table, argv, found, [])
    user_dir = found.get("common", {}).get("user_dir")
    if user_dir:
        import_user_dir(user_dir)
    return {kind: found[kind]["_name"] for kind in COMPONENTS if "_name" in (found.get(kind) or {})}


def _flags(classes: Mapping[str, type[Config]]) -> Iterator[_Flag]:
    """The flags of all options of some sections; one flag serves all sections that have an option of its name."""
    places: dict[str, list[tuple[str, str]]] = {}
    items: dict[str, tuple[dataclasses.Field[Any], Any]] = {}
    spellings: dict[str, tuple[str, ...]] = {}
    for section, cls in classes.items():
        kinds = field_types(cls)
        for name, item in options_of(cls).items():
            info = option_info(item)
            if info.positional or _has_own_flag_elsewhere(name, info.follows, classes):
                continue
            places.setdefault(name, []).append((section, name))
            items.setdefault(name, (item, kinds[name]))
            spellings[name] = tuple(dict.fromkeys([*spellings.get(name, ()), *flags_of(item)]))
    for name, (item, kind) in items.items():
        boolean = kind is bool or bool in typing.get_args(kind)
        bare = option_info(item).bare
        yield _Flag(
            spellings=spellings[name],
            places=tuple(places[name]),
            bare=default_of(item) is not True if boolean else bare,
            boolean=boolean,
            optional=bare is not None,
        )


def _has_own_flag_elsewhere(name: str, follows: str | None, classes: Mapping[str, type[Config]]) -> bool:
    """Whether an option only repeats one of the same name that has the flag (`optimizer.lr`)."""
    section, _, target = (follows or "").rpartition(".")
    return target == name and section in classes and name in options_of(classes[section])


class _Table:
    """Flags by spelling."""

    def __init__(self, flags: Iterator[_Flag], settings: _CommandFlags) -> None:
        self.by_spelling: dict[str, _Flag] = {}
        for kind, spellings in _SELECTORS.items():
            if kind == "model" and settings.from_checkpoint:
                continue
            self._add(_Flag(spellings, ((kind, "_name"),)))
        for flag in flags:
            self._add(flag)

    def _add(self, flag: _Flag) -> None:
        for spelling in flag.spellings:
            self.by_spelling.setdefault(spelling, flag)

    def find(self, spelling: str) -> _Flag | str | None:
        """The flag of a spelling or of an unambiguous beginning of one; a problem's text where it is ambiguous."""
        exact = self.by_spelling.get(spelling) or self.by_spelling.get(spelling.replace("_", "-"))
        if exact is not None or not spelling.startswith("--"):
            return exact
        starts = (spelling, spelling.replace("_", "-"))
        matches = {key: flag for key, flag in self.by_spelling.items() if key.startswith(starts)}
        if len({id(flag) for flag in matches.values()}) > 1:
            return f"ambiguous flag {spelling}: it could be {', '.join(sorted(matches))}"
        return next(iter(matches.values()), None)


def _parse(table: _Table, argv: Sequence[str], result: dict[str, Any], problems: list[str]) -> list[str]:
    """Put the values of all flags into `result`; returns the positional arguments."""
    words = list(argv)
    positionals: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            positionals.extend(words)
            break
        if not _is_flag(word):
            positionals.append(word)
            continue
        spelling, equals, text = word.partition("=")
        flag = table.find(spelling)
        if flag is None and not word.startswith("--") and len(word) > 2:
            # A short flag with its value attached: -sde
            flag, spelling, equals, text = table.find(word[:2]), word[:2], "=", word[2:]
        if flag is None or isinstance(flag, str):
            hint = did_you_mean(spelling, table.by_spelling) if word.startswith("--") else ""
            problems.append(flag or f"unknown flag {spelling}{hint}")
            if not equals and words and not _is_flag(words[0]):
                words.pop(0)
            continue
        if equals:
            value: Any = text
        elif flag.boolean:
            # Some of fairseq's flags are written `--left-pad-source False`.
            value = _TRUTH[words.pop(0).lower()] if words and words[0].lower() in _TRUTH else flag.bare
        elif words and not _is_flag(words[0]):
            value = words.pop(0)
        elif flag.optional:
            value = flag.bare
        else:
            problems.append(f"{spelling} expects a value")
            continue
        for section, option in flag.places:
            result.setdefault(section, {})[option] = value
    return positionals


def _is_flag(word: str) -> bool:
    """Whether a word is a flag: not a lone "-" (standard input), nor a negative number."""
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def _take_data(positionals: list[str], task: type[Config] | None, result: dict[str, Any], problems: list[str]) -> None:
    """The positional arguments: the task's data folder."""
    if not positionals:
        return
    names = (
        ["data"] if task is None else [name for name, item in options_of(task).items() if option_info(item).positional]
    )
    if len(positionals) > len(names):
        extra = ", ".join(repr(word) for word in positionals[len(names) :])
        takes = "one positional argument, the data folder" if names else "no positional argument"
        problems.append(f"unexpected {extra}: there is {takes}")
    for name, word in zip(names, positionals, strict=False):
        result.setdefault("task", {})[name] = word
