"""Hydra, taught where seqkit's components and defaults come from.

Hydra composes what the user wrote: YAML files, group choices, overrides. The components are offered to it by name,
without importing any; `ConfigLoader` then lays the result over the defaults of the dataclasses that were chosen.
Overrides are rewritten first, so that Hydra does not stop at the first mistake: finding all of them is left to
`root_from_dict`.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.default_element import ConfigDefault, GroupDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, Sweep, ValueType
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import AnyNode, Container, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from seqkit.config.base import Config, default_of, option_info
from seqkit.config.recipes import configs_dir, recipe_names, variant_names
from seqkit.config.root import COMPONENTS, SECTIONS
from seqkit.config.validate import options_of, plain, show
from seqkit.errors import ConfigError, UnknownNameError, did_you_mean
from seqkit.registry import registry

ROOT_CONFIG = "_nothing_"
"""The name of the config that holds nothing: what is composed when no `--config-name` is given."""

_EMPTY = (ROOT_CONFIG, "config")
"""Configs that hold nothing. fairseq's and users' files name `config` in their defaults lists, or are called so."""

COMPOSITION_ERRORS = (HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What Hydra raises for what a user wrote."""

_KEY = re.compile(r"[\w.\-]+")


def _environment_variable(name: str, *default: Any) -> Any:
    """The value of `${env:NAME}` or `${env:NAME,default}`."""
    if name not in os.environ and not default:
        raise ValueError(f"the environment has no variable {name}")
    return os.environ.get(name, *default)


def _times(*factors: Any) -> int:
    """The value of `${times:4,${.decoder_embed_dim}}`, for widths that are a multiple of another."""
    return math.prod(int(factor) for factor in factors)


class ComponentSource(ConfigSource):
    """Config source `seqkit://`: each registered component as a config of its kind's group, and the empty root.

    Lists names from the registries without importing a component; a component's config is only its `_name`, that of a
    named variant which a plugin registered also the variant's options. fairseq's way of naming an architecture behind
    its model (`model=transformer_lm/transformer_lm_gpt`) is understood.
    """

    @staticmethod
    def scheme() -> str:
        return "seqkit"

    def available(self) -> bool:
        return True

    def load_config(self, config_path: str) -> ConfigResult:
        path = _without_suffix(config_path)
        if not self.is_config(path):
            raise ConfigLoadError(f"no component {path!r}")
        kind, _, name = path.partition("/")
        content: dict[str, Any] = {}
        if path not in _EMPTY:
            named = registry(kind).variants.get(name)
            # What is no component is a named variant from a file; `ConfigLoader` fills in its options.
            content = {"_name": name.rpartition("/")[2]} if named is None else {"_name": named.of, **named.options}
        return ConfigResult(
            provider=self.provider,
            path=self.full_path(),
            config=OmegaConf.create(content),
            header={"package": f"_global_.{kind}" if "/" in name else None},
        )

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", *COMPONENTS)

    def is_config(self, config_path: str) -> bool:
        kind, _, name = _without_suffix(config_path).partition("/")
        if kind not in COMPONENTS:
            return _without_suffix(config_path) in _EMPTY
        component, _, of_it = name.partition("/")
        names = registry(kind).names()
        if of_it:
            return component in names and of_it in (*registry(kind).variants, *variant_names(kind))
        return name in names or name in registry(kind).variants

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        group = config_path.strip("/")
        if group in COMPONENTS:
            return [] if results_filter == ObjectType.GROUP else [*registry(group).names(), *registry(group).variants]
        if group:
            return []
        return [] if results_filter == ObjectType.CONFIG else sorted(COMPONENTS)


def _without_suffix(config_path: str) -> str:
    return config_path.strip("/").removesuffix(".yaml")


def search_path(config_dirs: Sequence[str | Path]) -> ConfigSearchPath:
    """Where configs are looked for: the user's folders, then the shipped ones, then the components themselves."""
    version.setbase("1.3")
    Plugins.instance().register(ComponentSource)
    setup_globals()
    # What older OmegaConfs called it; configs made for fairseq say ${env:HOME}.
    OmegaConf.register_new_resolver("env", _environment_variable, replace=True)
    OmegaConf.register_new_resolver("times", _times, replace=True)
    path = create_config_search_path(f"file://{configs_dir()}")
    for folder in reversed([Path(folder).expanduser() for folder in config_dirs]):
        if not folder.is_dir():
            raise ConfigError(f"--config-dir={folder} is not a folder")
        path.prepend(provider="user", path=f"file://{folder.resolve()}", anchor=SearchPathQuery(provider="main"))
    path.prepend(provider="seqkit", path="seqkit://components", anchor=SearchPathQuery(provider="schema"))
    return path


class _Repository(ConfigRepository):
    """Hydra's files. A recipe in a folder of its own is a whole config, as one beside the folder is."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        loaded = super().load_config(config_path)
        folder, _, _ = config_path.rpartition("/")
        if loaded is None or folder.partition("/")[0] in ("hydra", *SECTIONS, *COMPONENTS):
            if loaded is not None and loaded.header.get("package") == "_group_":
                loaded.header["package"] = None
            return loaded
        # Files made for older Hydras say "_group_" at the top level as well, and name groups as seen from there. What
        # their defaults lists choose is laid over what they say themselves.
        if loaded.header.get("package") == "_group_" and not any(
            entry.is_self() for entry in loaded.defaults_list or ()
        ):
            loaded.defaults_list = [ConfigDefault(path="_self_"), *(loaded.defaults_list or ())]
        if loaded.header.get("package") in (None, "_group_"):
            loaded.header["package"] = "_global_"
        for entry in loaded.defaults_list or ():
            if folder and isinstance(entry, GroupDefault) and entry.group in COMPONENTS:
                entry.group = entry.group if self.group_exists(f"{folder}/{entry.group}") else f"/{entry.group}"
        return loaded


class ConfigLoader(ConfigLoaderImpl):
    """Hydra's loader over seqkit's search path. What it loads is complete: every default is filled in.

    Args:
        config_dirs: the user's folders of configs, looked at before the shipped ones.
    """

    def __init__(self, config_dirs: Sequence[str | Path] = ()) -> None:
        places = search_path(config_dirs)
        super().__init__(places)
        self.repository = _Repository(config_search_path=places)
        self.config_dirs = [Path(folder) for folder in config_dirs]
        self._last: tuple[object, DictConfig] | None = None

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """The config with the defaults of all sections and of all components that it names."""
        config = self.load_given(config_name, overrides, run_mode, validate_sweep_overrides)
        with open_dict(config):
            lay_over_defaults(config)
        return config

    def load_given(
        self,
        config_name: str | None,
        overrides: Sequence[str],
        run_mode: RunMode = RunMode.RUN,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Only what files and overrides give, without defaults. The same question asked twice is answered at once."""
        name = config_name or ROOT_CONFIG
        question = (name, tuple(overrides), run_mode)
        if self._last is not None and self._last[0] == question:
            return copy.deepcopy(self._last[1])
        if not self.repository.config_exists(name):
            known = sorted({recipe for folder in (*self.config_dirs, configs_dir()) for recipe in recipe_names(folder)})
            hint = did_you_mean(name, known) or (f"; there are: {', '.join(known)}" if known else "")
            raise ConfigError(f"there is no config {name!r}{hint}")
        rewritten = self.rewrite(name, overrides, multirun=run_mode == RunMode.MULTIRUN)
        config = super().load_configuration(name, rewritten, run_mode, True, validate_sweep_overrides)
        self._last = (question, copy.deepcopy(config))
        return config

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        """One file. Sections that are the bare name of a component, or that name a variant, are written out."""
        loaded = super()._load_single_config(default, repo)
        if loaded.provider == "hydra" or not isinstance(loaded.config, DictConfig):
            return loaded
        config = copy.deepcopy(loaded.config)
        _name_by_place(config, str(default.config_path))
        for kind in COMPONENTS:
            node = config._get_node(kind) if kind in config else None
            if isinstance(node, AnyNode) and isinstance(node._value(), str) and not node._is_interpolation():
                config[kind] = {"_name": node._value()}
            name = _component_name(config, kind)
            if name is None or default.config_path == f"{kind}/{name}":
                continue
            if name in registry(kind).names():
                _flatten(config[kind], kind, name)
            elif self.repository.config_exists(f"{kind}/{name}"):
                options = super().load_configuration(ROOT_CONFIG, [f"+{kind}={name}"], RunMode.RUN)[kind]
                with open_dict(options):
                    of = options._name
                    _flatten(config[kind], kind, of)
                    options.merge_with(config[kind])
                    options._name = of
                config[kind] = options
        return dataclasses.replace(loaded, config=config)

    def chosen_components(self, config_name: str | None, overrides: Sequence[str]) -> dict[str, str]:
        """The components that a config file and overrides choose, by kind."""
        if config_name is None and not overrides:
            return {}
        given = self.load_given(config_name, overrides)
        names = {kind: _component_name(given, kind) if kind in given else None for kind in COMPONENTS}
        return {kind: name for kind, name in names.items() if name is not None}

    def chosen_kinds(self, overrides: Sequence[str]) -> set[str]:
        """The kinds of component that overrides choose (`optimizer=adam`)."""
        keys = {line.partition("=")[0].lstrip("+") for line in overrides}
        return {kind for kind in COMPONENTS if kind in keys}

    def rewrite(self, config_name: str, overrides: Sequence[str], *, multirun: bool) -> list[str]:
        """Overrides in a form that Hydra takes without complaint about names, types and defaults lists.

        Values become `++key=value`; `task=NAME` becomes `+task=NAME` where the config chooses no task yet; a
        component that does not exist becomes a plain `_name`, for the later check to report. What is no sweep is kept
        as text where Hydra's grammar would split it ("a,b") or refuse it. Rewriting twice changes nothing.

        Raises:
            ConfigError: an argument is no override at all.
        """
        problems: list[str] = []
        rewritten: list[str] = []
        listed: set[str] | None = None
        for line in overrides:
            key = line.partition("=")[0].lstrip("+")
            if key in COMPONENTS and not line.startswith("~") and "=" in line:
                if listed is None:
                    listed = self._listed_groups(config_name)
                rewritten.append(self._rewrite_choice(line, key, listed, problems))
            else:
                rewritten.append(self._rewrite_value(line, multirun, problems))
        if problems:
            raise ConfigError(problems)
        return rewritten

    def _listed_groups(self, config_name: str) -> set[str]:
        """The groups that the config's own defaults lists choose from."""
        if config_name == ROOT_CONFIG:
            return set()
        defaults = self.compute_defaults_list(config_name, [], RunMode.MULTIRUN)
        listed = {default.override_key for default in defaults.defaults if default.override_key is not None}
        loaded = self.repository.load_config(config_name)
        entries = (loaded.defaults_list or ()) if loaded is not None else ()
        # "task: null" is on the list, though nothing is chosen by it yet.
        return listed | {
            entry.group.lstrip("/") for entry in entries if isinstance(entry, GroupDefault) and entry.group
        }

    def _rewrite_choice(self, line: str, kind: str, listed: set[str], problems: list[str]) -> str:
        try:
            parsed = OverridesParser.create().parse_override(line)
        except HydraException:
            return f"++{kind}._name={quoted(line.partition('=')[2])}"
        if parsed.package is not None:
            return line
        prefix = "" if kind in listed else "+"
        text = line.partition("=")[2]
        value = parsed.value()
        known = self.repository.get_group_options(kind)
        if isinstance(value, Sweep | Glob):
            names = [] if isinstance(value, Glob) else [str(name) for name in getattr(value, "list", None) or ()]
            problems.extend(
                f"unknown {kind} {name!r}{did_you_mean(name, known)}"
                for name in names
                if not self.repository.config_exists(f"{kind}/{name}")
            )
            return f"{prefix}{kind}={text}"
        if value is None:
            return f"{kind}=null" if kind in listed else f"++{kind}._name=null"
        if isinstance(value, str) and self.repository.config_exists(f"{kind}/{value}"):
            return f"{prefix}{kind}={text}"
        return f"++{kind}._name={quoted(text)}"

    def _rewrite_value(self, line: str, multirun: bool, problems: list[str]) -> str:
        name, equals, text = line.partition("=")
        key = name.lstrip("+")
        try:
            parsed: Override = OverridesParser.create().parse_override(line)
        except HydraException:
            if equals and _KEY.fullmatch(key):
                return f"++{key}={quoted(text)}"
            hint = f" (is it the data folder? write task.data={line})" if Path(line).is_dir() else ""
            problems.append(f"{line!r} is not an override; write SECTION.OPTION=VALUE or KIND=NAME{hint}")
            return line
        key = parsed.key_or_group
        if (
            parsed.is_hydra_override()
            or parsed.is_delete()
            or parsed.package is not None
            or "/" in key
            or self.repository.group_exists(key)
        ):
            return line
        if parsed.is_sweep_override():
            if multirun or parsed.value_type != ValueType.SIMPLE_CHOICE_SWEEP:
                return f"++{key}={text}"
            return f"++{key}={quoted(text)}"
        if isinstance(parsed.value(), str) and text != text.strip():
            return f"++{key}={quoted(text)}"
        return f"++{key}={text}"


class CompletionLoader(ConfigLoader):
    """A loader for shell completion: lists and mappings are shown as values to type, not as more levels."""

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """The complete config, each option a single value."""
        config = super().load_configuration(config_name, overrides, run_mode, from_shell, validate_sweep_overrides)
        for section in (*SECTIONS, *COMPONENTS):
            node = config._get_node(section) if section in config else None
            if isinstance(node, DictConfig):
                with open_dict(node):
                    for key in list(node):
                        value = node._get_node(key)
                        if isinstance(value, Container):
                            node[key] = show(OmegaConf.to_container(value)).replace(" ", "")
        return config


def quoted(text: str) -> str:
    """`text` in quotes for Hydra's grammar."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def defaults_of(cls: type[Config]) -> dict[str, Any]:
    """A dataclass's defaults as plain values; what follows an option of a fixed section is an interpolation of it."""
    result: dict[str, Any] = {}
    for name, item in options_of(cls).items():
        follows = option_info(item).follows
        if follows is None:
            result[name] = plain(default_of(item))
        elif follows.partition(".")[0] in SECTIONS:
            result[name] = f"${{{follows}}}"
    return result


def lay_over_defaults(config: DictConfig) -> None:
    """Put the defaults of all fixed sections and named components under what `config` holds, in place."""
    classes: dict[str, type[Config]] = dict(SECTIONS)
    for kind in COMPONENTS:
        name = _component_name(config, kind)
        if name is not None:
            try:
                classes[kind] = registry(kind).get(name).config
            except UnknownNameError:
                continue
    for section, cls in classes.items():
        node = config._get_node(section)
        defaults = OmegaConf.create(defaults_of(cls))
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            with open_dict(defaults):
                for key in node:
                    if key in defaults:
                        # A value of another kind (text for a mapping) replaces the default; it is checked later.
                        del defaults[key]
                defaults.merge_with(node)
            config[section] = defaults
        elif node is None or (isinstance(node, DictConfig) and node._is_none()):
            config[section] = defaults


def _name_by_place(config: DictConfig, path: str) -> None:
    """Name the component of a file that does not: fairseq's are called by its name, or are in a folder of that name."""
    kind, _, place = path.partition("/")
    node = config._get_node(kind) if kind in COMPONENTS and kind in config else None
    if isinstance(node, DictConfig) and "_name" not in node:
        named = [name for name in (place, place.rpartition("/")[0]) if name in registry(kind).names()]
        if named:
            with open_dict(node):
                node["_name"] = named[0]


def _flatten(section: DictConfig, kind: str, name: str) -> None:
    """`{"encoder": {"layers": 6}}` as `{"encoder_layers": 6}` where the component has flat options, in place."""
    nested = [key for key in map(str, section) if isinstance(section._get_node(key), DictConfig)]
    options = options_of(registry(kind).get(name).config) if nested else {}
    with open_dict(section):
        for key in nested:
            inner = section._get_node(key)
            if key in options or not isinstance(inner, DictConfig) or inner._is_none():
                continue
            parts = [str(part) for part in inner]
            if any(f"{key}_{part}" in options for part in parts):
                for part in parts:
                    section[f"{key}_{part}"] = inner._get_node(part)
                del section[key]


def _component_name(config: DictConfig, kind: str) -> str | None:
    node = config._get_node(kind)
    if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
        return None
    try:
        name = OmegaConf.select(config, f"{kind}._name")
    except OmegaConfBaseException:
        return None
    return name if isinstance(name, str) else None
