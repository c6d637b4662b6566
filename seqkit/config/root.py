"""The root config: all sections in one dataclass.

Knows the names of the kinds of components, not the components themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from seqkit.config.base import MISSING, Config, option_info
from seqkit.config.sections import (
    CheckpointConfig,
    CommonConfig,
    CommonEvalConfig,
    DatasetConfig,
    DistributedTrainingConfig,
    EMAConfig,
    EvalLMConfig,
    GenerationConfig,
    InteractiveConfig,
    OptimizationConfig,
)
from seqkit.config.validate import check_section, coerce, field_types, options_of, show
from seqkit.errors import ConfigError, UnknownNameError, did_you_mean
from seqkit.registry import registry

SECTIONS: dict[str, type[Config]] = {
    "common": CommonConfig,
    "common_eval": CommonEvalConfig,
    "distributed_training": DistributedTrainingConfig,
    "dataset": DatasetConfig,
    "optimization": OptimizationConfig,
    "checkpoint": CheckpointConfig,
    "generation": GenerationConfig,
    "eval_lm": EvalLMConfig,
    "interactive": InteractiveConfig,
    "ema": EMAConfig,
}
"""The sections that have one fixed dataclass."""

COMPONENTS: tuple[str, ...] = (
    "task",
    "model",
    "criterion",
    "optimizer",
    "lr_scheduler",
    "bpe",
    "tokenizer",
    "scoring",
)
"""The sections whose dataclass is that of the component named by `_name`."""

DEFAULT_COMPONENTS: dict[str, str] = {"criterion": "cross_entropy", "lr_scheduler": "fixed", "scoring": "bleu"}
"""The components taken where a config names none. (A command that needs another section says so itself.)"""

PASSED_OVER: tuple[str, ...] = ("bmuf",)
"""Sections that whole configs written by fairseq have and that say nothing: what they are for cannot be switched on."""


@dataclass
class RootConfig:
    """Everything a command is told. Component sections are None where nothing was chosen.

    The type of a component section is that component's own dataclass; who builds a component knows it.

    `given` is no section: it holds, by section and option, only what the user gave by files and overrides. A command
    that reads checkpoints takes the checkpoint's config and puts `given` over it:
    `root_from_dict(merge_given(checkpoint.config, config.given))`.
    """

    common: CommonConfig = field(default_factory=CommonConfig)
    common_eval: CommonEvalConfig = field(default_factory=CommonEvalConfig)
    distributed_training: DistributedTrainingConfig = field(default_factory=DistributedTrainingConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    eval_lm: EvalLMConfig = field(default_factory=EvalLMConfig)
    interactive: InteractiveConfig = field(default_factory=InteractiveConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    task: Config | None = None
    model: Config | None = None
    criterion: Config | None = None
    optimizer: Config | None = None
    lr_scheduler: Config | None = None
    bpe: Config | None = None
    tokenizer: Config | None = None
    scoring: Config | None = None
    given: dict[str, Any] = field(default_factory=dict, repr=False, compare=False, metadata={"config": False})


def root_from_dict(
    mapping: Mapping[str, Any],
    *,
    missing_allowed: bool = False,
    partial: bool = False,
    required: Collection[str] = (),
    choices: Callable[[str], Iterable[str]] | None = None,
    lenient: Mapping[str, Collection[str]] | None = None,
) -> RootConfig:
    """The checked root config of nested plain containers; whatever is left out has its default.

    A component section is a mapping with `_name` (null for none), or the bare name; only the components that are
    named are imported. An option that follows another (`optimizer.lr` follows `optimization.lr`) takes its
    value where it is not given itself.

    Args:
        mapping: values by section and name.
        missing_allowed: options without a default may stay `MISSING`.
        partial: the mapping is what a user gives beside a checkpoint's config: options without a default may stay
            `MISSING`, and components that it does not name are left out, their options unchecked.
        required: kinds of component that must be chosen (`"task"`).
        choices: all names that may be chosen for a kind of component, for near matches; the registry's by default.
        lenient: by component section, options that are dropped in silence where the component has none of that name.

    Raises:
        ConfigError: all that is wrong in all sections, in one message.
    """
    builder = _RootBuilder(mapping, choices or _registry_names)
    builder.missing_allowed = missing_allowed or partial
    builder.default_components = {} if partial else DEFAULT_COMPONENTS
    builder.unnamed_allowed = partial
    builder.required = required
    builder.lenient = lenient or {}
    return builder.build()


def _registry_names(kind: str) -> Iterable[str]:
    return registry(kind).names()


class _RootBuilder:
    """One pass over a mapping: names first, then every section's values, then what follows what."""

    def __init__(self, mapping: Mapping[str, Any], choices: Callable[[str], Iterable[str]]) -> None:
        self.mapping = mapping
        self.choices = choices
        self.missing_allowed = False
        self.unnamed_allowed = False
        self.default_components: Mapping[str, str] = DEFAULT_COMPONENTS
        self.required: Collection[str] = ()
        self.lenient: Mapping[str, Collection[str]] = {}
        self.problems: list[str] = []
        self.classes: dict[str, type[Config]] = dict(SECTIONS)
        self.given: dict[str, dict[str, Any]] = {}

    def build(self) -> RootConfig:
        for section in self.mapping:
            if section not in (*SECTIONS, *COMPONENTS, *PASSED_OVER, "_name"):
                self.problems.append(self._unknown_section(str(section)))
        for section in SECTIONS:
            self._take_section(section)
        for kind in COMPONENTS:
            self._take_component(kind)
        sections: dict[str, Any] = {}
        for section, cls in self.classes.items():
            sections[section] = check_section(
                cls,
                self.given[section],
                section,
                self.problems,
                elsewhere=lambda key, here=section: self._belongs(key, here),  # type: ignore[misc]
                missing_allowed=self.missing_allowed,
            )
        root = RootConfig(**sections)
        self._follow(root)
        if self.problems:
            raise ConfigError(self.problems)
        return root

    def _take_section(self, section: str) -> None:
        value = self.mapping.get(section)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{section}={show(value)} is a section, not an option; give {section}.OPTION=VALUE")
            value = {}
        self.given[section] = {key: item for key, item in value.items() if key != "_name"}

    def _take_component(self, kind: str) -> None:
        value = self.mapping.get(kind, {})
        if value is None:
            if kind in self.required:
                self.problems.append(self._no_choice(kind))
            return
        if isinstance(value, str):
            value = {"_name": value}
        if not isinstance(value, Mapping):
            self.problems.append(f"{kind}={show(value)} is not the name of a component")
            return
        name = value.get("_name", self.default_components.get(kind))
        if name is None and "_name" in value:
            value = {}
        if name is None:
            options = [f"{kind}.{key}" for key in value if key != "_name"]
            if (options and not self.unnamed_allowed) or kind in self.required:
                self.problems.append(f"{', '.join(options)}{': ' if options else ''}{self._no_choice(kind)}")
            return
        try:
            cls: type[Config] = registry(kind).get(str(name)).config
        except UnknownNameError as error:
            hint = did_you_mean(str(name), self.choices(kind))
            self.problems.append(f"unknown {kind} {str(name)!r}{hint}" if hint else str(error))
            return
        self.classes[kind] = cls
        known = options_of(cls)
        droppable = self.lenient.get(kind, ())
        self.given[kind] = {
            "_name": name,
            **{key: item for key, item in value.items() if key != "_name" and (key in known or key not in droppable)},
        }

    def _no_choice(self, kind: str) -> str:
        return f"no {kind} is chosen; choose one with {kind}=NAME ({', '.join(sorted(self.choices(kind)))})"

    def _unknown_section(self, section: str) -> str:
        places = self._places(section)
        if places:
            return f"unknown section {section}; {section} belongs to {places[0].split('.')[0]}: {' or '.join(places)}"
        return f"unknown section {section}{did_you_mean(section, [*SECTIONS, *COMPONENTS])}"

    def _belongs(self, key: str, here: str) -> str:
        places = [place for place in self._places(key) if not place.startswith(f"{here}.")]
        return f"; {key} belongs to {places[0].split('.')[0]}: {' or '.join(places)}" if places else ""

    def _places(self, key: str) -> list[str]:
        return [
            f"{section}.{key}"
            for section, cls in self.classes.items()
            if key in options_of(cls) and not _mirrors(options_of(cls)[key])
        ]

    def _follow(self, root: RootConfig) -> None:
        settled: set[tuple[str, str]] = set()

        def settle(section: str, name: str) -> None:
            if (section, name) in settled or section not in self.classes:
                return
            settled.add((section, name))
            item = options_of(self.classes[section]).get(name)
            if item is None:
                return
            info = option_info(item)
            config = getattr(root, section)
            given = name in self.given[section] and self.given[section][name] != MISSING
            if given or info.follows is None:
                return
            target_section, _, target_name = info.follows.rpartition(".")
            settle(target_section, target_name)
            target = getattr(root, target_section, None)
            if target is not None and (target_name == "_name" or target_name in options_of(type(target))):
                value = getattr(target, target_name)
                if value != MISSING:
                    try:
                        setattr(config, name, coerce(value, field_types(self.classes[section])[name]))
                    except ValueError as problem:
                        self.problems.append(f"{section}.{name}={show(value)} (from {info.follows}) {problem}")
            if getattr(config, name) == MISSING and not self.missing_allowed:
                self.problems.append(f"{section}.{name} must be given: {info.help}")

        for section, cls in self.classes.items():
            for name in options_of(cls):
                settle(section, name)


def _mirrors(item: dataclasses.Field[Any]) -> bool:
    """Whether an option only repeats one of the same name in another section."""
    follows = option_info(item).follows
    return follows is not None and follows.rpartition(".")[2] == item.name


def merge_given(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's config with what the user gave put over it; `root_from_dict` makes a root config of the result.

    Options are replaced one by one. A component section whose given `_name` differs from the checkpoint's is replaced
    as a whole. Where a given option is one that others follow, these follow anew unless they are given too or had a
    value of their own.

    Args:
        base: nested plain root config, such as `CheckpointState.config`.
        given: `Composed.given`: only what the user gave.
    """
    merged = {section: dict(value) if isinstance(value, Mapping) else value for section, value in base.items()}
    for section, cls in _classes_of(base).items():
        for name, item in options_of(cls).items():
            follows = option_info(item).follows
            if follows is None:
                continue
            target_section, _, target_name = follows.rpartition(".")
            new = given.get(target_section)
            old = base.get(target_section)
            if isinstance(new, Mapping) and target_name in new and isinstance(old, Mapping):
                values = merged[section]
                if name in values and target_name in old and values[name] == old[target_name]:
                    del values[name]
    for section, value in given.items():
        current = merged.get(section)
        if isinstance(value, str) and section in COMPONENTS:
            value = {"_name": value}
        merged[section] = value
        if (
            isinstance(current, Mapping)
            and isinstance(value, Mapping)
            and value.get("_name", current.get("_name")) == current.get("_name")
        ):
            merged[section] = _merge(current, value)
    return merged


def _merge(base: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in given.items():
        old = result.get(key)
        result[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _classes_of(mapping: Mapping[str, Any]) -> dict[str, type[Config]]:
    classes = {section: cls for section, cls in SECTIONS.items() if isinstance(mapping.get(section), Mapping)}
    for kind in COMPONENTS:
        value = mapping.get(kind)
        name = value.get("_name") if isinstance(value, Mapping) else None
        if name is not None and name in registry(kind).names():
            classes[kind] = registry(kind).get(name).config
    return classes
