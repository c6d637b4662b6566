"""fairseq's command-line flags as a root config: `--max-tokens 4096 --arch transformer --lr 0.1,0.2`.

The flags are those of the config dataclasses' fields: of the sections that a command has, and of the components that
the command line chooses. Knows nothing of what a command does with its config.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqkit.config._hydra import quoted
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
_OVERRIDE = re.compile(rf"(\+{{0,2}}({'|'.join((*SECTIONS, *COMPONENTS, 'hydra'))})([./@][\w./@:-]*)?=)|~[\w./@]+")
_RETIRED: dict[str, tuple[str, str, Any]] = {
    "--raw-text": ("dataset", "dataset_impl", "raw"),
    "--lazy-load": ("dataset", "dataset_impl", "lazy"),
    "--min-lr": ("optimization", "stop_min_lr", None),
    "--wd": ("optimizer", "weight_decay", None),
    "--moses-source-lang": ("tokenizer", "source_lang", None),
    "--moses-target-lang": ("tokenizer", "target_lang", None),
    "--sentencepiece-vocab": ("bpe", "sentencepiece_model", None),
}
"""Flags of old generations whose options have other names now: where they go, and their value if they take none."""
_OLD_PEAK = "max_lr"
"""What the peak of a cosine schedule was called while `lr` was its end and `min_lr` stopped training."""
_TRUTH = {"true": True, "false": False}
_TRUTH_OR_NUMBER = {**_TRUTH, "1": True, "0": False}


@dataclass(frozen=True)
class _Flag:
    """One flag: where its value goes, and what it takes.

    Attributes:
        spellings: `--max-tokens`, …; the first is the one for messages.
        places: (section, option) pairs that get the value.
        bare: the value of the flag alone; None where it needs one.
        boolean: takes a value only where the next word is true or false.
        numbers: and where it is 1 or 0 (fairseq's `--decoder-glu 0`).
        optional: takes the next word if that is no flag.
        names: takes several words that are names of classes (`--retain-dropout-modules A B`).
    """

    spellings: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    bare: Any = None
    boolean: bool = False
    numbers: bool = False
    optional: bool = False
    names: bool = False


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
    words = _read(_settings(command), argv)
    for kind in COMPONENTS:
        name = words.given.get(kind, {}).get("_name")
        if name is not None:
            chosen = variant(kind, name, given=words.given[kind])
            words.given[kind] = {**chosen, **words.given[kind], "_name": chosen["_name"]}
    return words.given


def to_overrides(
    command: str,
    argv: Sequence[str],
    *,
    chosen: Mapping[str, str] | None = None,
    own_flags: Collection[str] = (),
    config_dirs: Sequence[Path] = (),
) -> list[str]:
    """Turn fairseq's flags into Hydra overrides that give the same; overrides among them are handed on behind these.

    Args:
        command, argv: see `translate`; `argv` may also hold `section.option=value` and `kind=name`.
        chosen: component names by kind that a config file or an override chooses, so that their flags are known.
        own_flags: further flags that the command has, for near matches.
        config_dirs: the user's folders of configs, which may hold architectures.

    Raises:
        ConfigError: everything that is wrong with the flags, in one message.
    """
    words = _read(
        _settings(command),
        argv,
        chosen=chosen or {},
        own_flags=own_flags,
        config_dirs=config_dirs,
        overrides_allowed=True,
    )
    choices = [
        f"{kind}={section['_name']}"
        for kind in COMPONENTS
        if "_name" in (section := words.given.get(kind, {}))
        # What every config begins with need not be said again.
        and (len(section) > 1 or section["_name"] != DEFAULT_COMPONENTS.get(kind) or kind in words.named)
    ]
    values = [
        f"{section}.{option}={_override_value(value)}"
        for section, options in words.given.items()
        for option, value in options.items()
        if option != "_name"
    ]
    return [*choices, *values, *words.overrides]


def is_command(command: str) -> bool:
    """Whether fairseq has flags for a command of that name, written with dashes or underscores."""
    return command.replace("-", "_") in COMMANDS


def is_override(word: str) -> bool:
    """Whether a word is a Hydra override of a section, a component or Hydra itself: it cannot be meant otherwise."""
    return _OVERRIDE.match(word) is not None


def to_root_config(command: str, argv: Sequence[str]) -> RootConfig:
    """The checked root config of fairseq's flags; its `given` is what `translate` returns.

    For the commands that read checkpoints, options of components that are not named are only in `given`.

    Raises:
        ConfigError: everything that is wrong, in one message.
    """
    settings = _settings(command)
    given = translate(command, argv)
    root = root_from_dict(
        given,
        partial=settings.from_checkpoint,
        required=() if settings.from_checkpoint else ("task", "model", "optimizer"),
    )
    root.given = given
    return root


@dataclass
class _Words:
    """What a command line says.

    Attributes:
        given: values by section and option; a component's `_name` is what was chosen, maybe a named variant.
        positionals: words that are neither flags nor their values.
        overrides: Hydra overrides among them.
        named: the kinds of component that flags choose.
    """

    given: dict[str, Any] = field(default_factory=dict)
    positionals: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    named: frozenset[str] = frozenset()


def _settings(command: str) -> _CommandFlags:
    return COMMANDS[command.replace("-", "_")]


def _override_value(value: Any) -> str:
    """A value in Hydra's grammar: text is quoted, so that nothing in it is taken for grammar or interpolation."""
    return str(value).lower() if isinstance(value, bool) else quoted(str(value).replace("${", "\\${"))


def _read(
    settings: _CommandFlags,
    argv: Sequence[str],
    *,
    chosen: Mapping[str, str] | None = None,
    own_flags: Collection[str] = (),
    config_dirs: Sequence[Path] = (),
    overrides_allowed: bool = False,
) -> _Words:
    """Read a command line: first which components it chooses, then all flags that it and they have."""
    named = _chosen(settings, argv, overrides_allowed=overrides_allowed)
    elsewhere = chosen or {}
    problems: list[str] = []
    words = _Words(named=frozenset(named))
    classes: dict[str, type[Config]] = {section: SECTIONS[section] for section in settings.sections}
    for kind in COMPONENTS:
        explicit = kind in named
        default = settings.task if kind == "task" else DEFAULT_COMPONENTS.get(kind)
        name = named.get(kind) or elsewhere.get(kind) or default
        if name is None:
            continue
        try:
            classes[kind] = registry(kind).get(variant(kind, name, config_dirs)["_name"]).config
        except UnknownNameError as error:
            if explicit or not settings.from_checkpoint:
                problems.append(f"{_SELECTORS[kind][0]}: {error}")
            continue
        if explicit or (kind not in elsewhere and not settings.from_checkpoint):
            words.given[kind] = {"_name": name}
    if problems:
        # Flags that are unknown now may be those of the components that are.
        raise ConfigError(problems)
    flags = (*_flags(classes), *_retired(classes))
    _parse(_Table(flags, settings, own_flags), argv, words, problems, overrides_allowed=overrides_allowed)
    if "lr_scheduler" in classes and _OLD_PEAK not in options_of(classes["lr_scheduler"]):
        _modernise_peak(words.given)
    _take_data(words, classes.get("task"), problems)
    if problems:
        raise ConfigError(problems)
    return words


def _chosen(settings: _CommandFlags, argv: Sequence[str], *, overrides_allowed: bool) -> dict[str, str]:
    """The components that the flags name; `--user-dir` is imported on the way, since it may define them."""
    # Component flags are not known yet and are passed over, so a word behind one counts as positional here.
    table = _Table(_flags({section: SECTIONS[section] for section in settings.sections}), settings)
    words = _Words()
    _parse(table, argv, words, [], overrides_allowed=overrides_allowed)
    user_dir = words.given.get("common", {}).get("user_dir")
    if user_dir:
        import_user_dir(user_dir)
    return {kind: words.given[kind]["_name"] for kind in COMPONENTS if "_name" in (words.given.get(kind) or {})}


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
            bare=default_of(item) is not True if boolean and bare is None else bare,
            boolean=boolean,
            # What is true by default is not switched on by its flag alone, so that a number behind it is its value.
            numbers=boolean and default_of(item) is True,
            optional=bare is not None and not boolean,
            names=list[str] in (kind, *typing.get_args(kind)),
        )


def _retired(classes: Mapping[str, type[Config]]) -> Iterator[_Flag]:
    """The old spellings of options that some sections have."""
    for spelling, (section, option, value) in _RETIRED.items():
        if section in classes and option in options_of(classes[section]):
            yield _Flag((spelling,), ((section, option),), bare=value, boolean=value is not None)
    schedule = options_of(classes["lr_scheduler"]) if "lr_scheduler" in classes else {}
    if "min_lr" in schedule and "t_mult" in schedule and _OLD_PEAK not in schedule:
        yield _Flag(("--max-lr",), (("lr_scheduler", _OLD_PEAK),))


def _modernise_peak(given: dict[str, Any]) -> None:
    """`--max-lr` beside a cosine schedule: the flags mean what they did then."""
    schedule = given.get("lr_scheduler") or {}
    if _OLD_PEAK not in schedule:
        return
    peak, stop = schedule.pop(_OLD_PEAK), schedule.pop("min_lr", None)
    rates = given.setdefault("optimization", {})
    if "lr" in rates:
        schedule["min_lr"] = rates["lr"]
    if stop is not None:
        rates.setdefault("stop_min_lr", stop)
    rates["lr"] = peak


def _has_own_flag_elsewhere(name: str, follows: str | None, classes: Mapping[str, type[Config]]) -> bool:
    """Whether an option only repeats one of the same name that has the flag (`optimizer.lr`)."""
    section, _, target = (follows or "").rpartition(".")
    return target == name and section in classes and name in options_of(classes[section])


class _Table:
    """Flags by spelling."""

    def __init__(self, flags: Iterable[_Flag], settings: _CommandFlags, own_flags: Collection[str] = ()) -> None:
        self.by_spelling: dict[str, _Flag] = {}
        self.own_flags = own_flags
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

    def hint(self, spelling: str) -> str:
        """The nearest flags to an unknown one."""
        return did_you_mean(spelling, [*self.by_spelling, *self.own_flags]) if spelling.startswith("--") else ""


def _parse(
    table: _Table, argv: Sequence[str], into: _Words, problems: list[str], *, overrides_allowed: bool = False
) -> None:
    """Put the values of all flags, the positional arguments and the overrides into `into`."""
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            into.positionals.extend(words)
            break
        if not is_flag(word):
            (into.overrides if overrides_allowed and is_override(word) else into.positionals).append(word)
            continue
        spelling, equals, text = word.partition("=")
        flag = table.find(spelling)
        if flag is None and not word.startswith("--") and len(word) > 2:
            # A short flag with its value attached: -sde
            flag, spelling, equals, text = table.find(word[:2]), word[:2], "=", word[2:]
        if flag is None or isinstance(flag, str):
            problems.append(flag or f"unknown flag {spelling}{table.hint(spelling)}")
            if not equals and words and not is_flag(words[0]) and not is_override(words[0]):
                words.pop(0)
            continue
        follows = words[0] if words and not is_flag(words[0]) else None
        if equals:
            value: Any = text
        elif flag.boolean:
            # Some of fairseq's flags are written `--left-pad-source False`.
            truth = _TRUTH_OR_NUMBER if flag.numbers else _TRUTH
            value = truth[words.pop(0).lower()] if follows is not None and follows.lower() in truth else flag.bare
        elif flag.optional and (follows is None or (overrides_allowed and is_override(follows))):
            value = flag.bare
        elif follows is not None:
            value = words.pop(0)
            while flag.names and words and value.replace(",", "").isidentifier() and _is_name(words[0]):
                value = f"{value},{words.pop(0)}"
        else:
            problems.append(f"{spelling} expects a value")
            continue
        for section, option in flag.places:
            into.given.setdefault(section, {})[option] = value


def _is_name(word: str) -> bool:
    """Whether a word is the name of a class, and not the data folder."""
    return word.isidentifier() and not Path(word).exists()


def is_flag(word: str) -> bool:
    """Whether a word is a flag: not a lone "-" (standard input), nor a negative number."""
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def _take_data(words: _Words, task: type[Config] | None, problems: list[str]) -> None:
    """The positional arguments: the task's data folder."""
    if not words.positionals:
        return
    names = (
        ["data"] if task is None else [name for name, item in options_of(task).items() if option_info(item).positional]
    )
    if len(words.positionals) > len(names):
        extra = ", ".join(repr(word) for word in words.positionals[len(names) :])
        takes = "one positional argument, the data folder" if names else "no positional argument"
        problems.append(f"unexpected {extra}: there is {takes}")
    for name, word in zip(names, words.positionals, strict=False):
        words.given.setdefault("task", {})[name] = word
        again = [
            other for other in words.overrides if other.startswith(f"task.{name}=") and other != f"task.{name}={word}"
        ]
        if again:
            problems.append(f"{word!r} (an argument without a name is task.{name}) and {again[-1]}: give one of them")
