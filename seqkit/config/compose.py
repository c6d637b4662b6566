"""YAML files and overrides to a checked `RootConfig`, by Hydra's rules.

    compose("translation/multi30k_de_en", ["task.data=data-bin", "optimization.lr=[1e-3]"])

Knows nothing of the commands, and leaves Hydra's own set-up of logging, folders and global state alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seqkit.config._hydra import COMPOSITION_ERRORS, ROOT_CONFIG, ConfigLoader
from seqkit.config.base import MISSING, Config
from seqkit.config.root import COMPONENTS, PASSED_OVER, RootConfig, root_from_dict
from seqkit.config.validate import to_dict
from seqkit.errors import ConfigError, UnknownNameError, did_you_mean
from seqkit.registry import import_user_dir, registry


def compose(
    config_name: str | None = None,
    overrides: Sequence[str] = (),
    config_dir: str | Path | Sequence[str | Path] = (),
    *,
    missing_allowed: bool = False,
) -> RootConfig:
    """Compose a config as the commands do.

    Args:
        config_name: a shipped recipe (`"translation/multi30k_de_en"`) or a file of `config_dir`, without `.yaml`.
        overrides: Hydra overrides (`"task=translation"`, `"dataset.max_tokens=4096"`).
        config_dir: folder, or several, of the user's own configs, looked at before the shipped ones.
        missing_allowed: options without a default need not be given (see `root_from_dict`).

    Returns:
        The checked config; its `given` holds what files and overrides gave.

    Raises:
        ConfigError: all that is wrong with it, in one message.
    """
    folders = [config_dir] if isinstance(config_dir, str | Path) else list(config_dir)
    loader = ConfigLoader(folders)
    load_user_dir(loader, config_name, overrides)
    return compose_with(loader, config_name, overrides, missing_allowed=missing_allowed)


def variant(
    kind: str, name: str, config_dir: Sequence[str | Path] = (), given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What choosing `kind=name` gives: the component's `_name`, and the options that a named variant sets.

    Args:
        config_dir: the user's folders of configs, which may hold variants (`model/my_arch.yaml`).
        given: options to put in place of the variant's own; those of its options that follow one of them change too.

    Raises:
        UnknownNameError: neither a component nor a variant has that name; the message lists near matches.
    """
    if name in registry(kind).names():
        return {"_name": name}
    loader = ConfigLoader(config_dir)
    if not loader.repository.config_exists(f"{kind}/{name}"):
        known = loader.repository.get_group_options(kind)
        hint = did_you_mean(name, known) or f"; there are: {', '.join(known)}"
        raise UnknownNameError(f"unknown {kind} {name!r}{hint}")
    section = loader.load_given(None, [f"{kind}={name}"])[kind]
    for option, value in (given or {}).items():
        if option in section and option != "_name":
            section[option] = value.replace("${", "\\${") if isinstance(value, str) else value
    content = OmegaConf.to_container(section, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def load_user_dir(loader: ConfigLoader, config_name: str | None, overrides: Sequence[str]) -> None:
    """Import `common.user_dir`, given by an override or by the config file itself, before its components are needed."""
    folder: Any = None
    for line in overrides:
        if line.lstrip("+").startswith("common.user_dir="):
            folder = parsed_value(line)
    try:
        if folder is None and config_name is not None and loader.repository.config_exists(config_name):
            loaded = loader.repository.load_config(config_name)
            if loaded is not None and isinstance(loaded.config, DictConfig):
                folder = OmegaConf.select(loaded.config, "common.user_dir")
        elif isinstance(folder, str):
            folder = OmegaConf.create({"user_dir": folder}).user_dir
    except COMPOSITION_ERRORS as error:
        raise ConfigError(f"common.user_dir: {told(error)}") from error
    if isinstance(folder, str) and folder:
        import_user_dir(folder)


def parsed_value(line: str) -> Any:
    """The value of one override; its bare text where Hydra's grammar does not take it."""
    try:
        return OverridesParser.create().parse_override(line).value()
    except COMPOSITION_ERRORS:
        return line.partition("=")[2]


def compose_with(
    loader: ConfigLoader,
    config_name: str | None,
    overrides: Sequence[str],
    *,
    full: DictConfig | None = None,
    missing_allowed: bool = False,
    partial: bool = False,
    required: Collection[str] = (),
) -> RootConfig:
    """Compose with a given loader.

    Args:
        loader, config_name, overrides: what to compose.
        full: the complete config, where Hydra has composed it already (a job's).
        missing_allowed, partial, required: see `root_from_dict`.
    """
    try:
        if full is None:
            full = loader.load_configuration(config_name, list(overrides), RunMode.RUN)
        given = loader.load_given(config_name, overrides)
        lenient = _options_of_files(loader, config_name, overrides)
    except COMPOSITION_ERRORS as error:
        raise ConfigError(told(error)) from error
    problems: list[str] = []
    values = _values(full, given, problems)
    for kind in COMPONENTS:
        if any(line.lstrip("+") in (f"{kind}=null", f"{kind}._name=null") for line in overrides):
            values[kind] = None
    try:
        root = root_from_dict(
            values,
            missing_allowed=missing_allowed,
            partial=partial,
            required=required,
            choices=lambda kind: loader.repository.get_group_options(kind),
            lenient=lenient,
        )
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    root.given = {
        section: _given_of(getattr(root, section), value)
        for section, value in values.items()
        if section not in PASSED_OVER
    }
    return root


def _given_of(config: Config | None, given: Any) -> dict[str, Any] | None:
    """The options of a section that were given, with their checked values (unchecked where no component is named)."""
    if config is None:
        return dict(given) if isinstance(given, dict) and "_name" not in given else None
    if not isinstance(given, dict | str):
        return None
    checked = to_dict(config)
    names = ["_name"] if isinstance(given, str) else list(given)
    return {name: checked[name] for name in names if name in checked}


def _options_of_files(
    loader: ConfigLoader, config_name: str | None, overrides: Sequence[str]
) -> dict[str, frozenset[str]]:
    """For each kind of component chosen by an override, the options that the config files set and no override does.

    A file's options for the component it chose must not count as mistakes once another is chosen in its place.
    """
    kinds = loader.chosen_kinds(overrides)
    if not kinds or config_name in (None, ROOT_CONFIG):
        return {}
    files = loader.load_given(config_name, [])
    OmegaConf.set_struct(files, False)
    result: dict[str, frozenset[str]] = {}
    for kind in kinds:
        node = files._get_node(kind)
        if isinstance(node, DictConfig) and not node._is_none():
            overridden = {line.partition("=")[0].lstrip("+").removeprefix(f"{kind}.") for line in overrides}
            result[kind] = frozenset(str(key) for key in node) - overridden
    return result


def _values(full: DictConfig, given: DictConfig, problems: list[str]) -> dict[str, Any]:
    """What was given, by section and option, with interpolations resolved against the complete config."""
    before = HydraConfig.instance().cfg
    if "hydra" in full:
        HydraConfig.instance().set_config(full)
    try:
        return {
            section: _section_values(full, given, section, problems)
            for section in map(str, given)
            if section != "hydra"
        }
    finally:
        HydraConfig.instance().cfg = before


def _section_values(full: DictConfig, given: DictConfig, section: str, problems: list[str]) -> Any:
    node = given._get_node(section)
    if not isinstance(node, DictConfig) or node._is_interpolation():
        return _resolved(full, section, section, problems)
    if node._is_none():
        return None
    if node._is_missing():
        return {}
    options = full[section]
    return {key: _resolved(options, key, f"{section}.{key}", problems) for key in map(str, node)}


def _resolved(parent: DictConfig, key: Any, where: str, problems: list[str]) -> Any:
    try:
        if OmegaConf.is_missing(parent, key):
            return MISSING
        value = parent[key]
        if OmegaConf.is_config(value):
            return OmegaConf.to_container(value, resolve=True)
        return value
    except OmegaConfBaseException as error:
        problems.append(f"{where}: {told(error)}")
        return MISSING


def told(error: BaseException) -> str:
    """The message of an error of Hydra or OmegaConf without its trailing internals."""
    text = str(error).strip()
    if not text and error.__cause__ is not None:
        text = str(error.__cause__).strip()
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith(("full_key:", "object_type=")))
