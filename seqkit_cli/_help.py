"""The texts of `--help`: an overview of a command without importing any component, and tables of options by topic."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

from seqkit.config.base import MISSING, Config, default_of, option_info
from seqkit.config.recipes import recipe_names, variant_names
from seqkit.config.root import COMPONENTS, SECTIONS
from seqkit.config.validate import bounds_text, field_types, options_of, show, type_text
from seqkit.errors import UserError, did_you_mean
from seqkit.registry import registry

_WIDTH = 110

_FLAGS = """\
  --config-name NAME      begin with a recipe (below), or with a YAML file of yours (a path, or a name in --config-dir)
  --config-dir DIR        folder of your own configs
  --print-config          print as YAML what is given, and stop; the output serves as a file for --config-name
  --cfg job               print the whole config, every default filled in, and stop
  -m, --multirun          sweep: one job for each value of 'optimization.lr=1e-3,2e-3'
  --help TOPIC            options of a section (dataset), a component (optimizer=adam), or names of a kind (model)
  --version               print the version
  -sc install=bash        shell completion: eval "$({command} -sc install=bash)" """


_DRY_RUN = (
    "  --dry-run               try it: model, data, memory, two updates, one validation batch; nothing is written"
)


_FAIRSEQ = """\
fairseq's command lines:
  {command} takes the flags of fairseq-{name} as they are, for the same sections and components: --max-tokens 4096 is
  dataset.max_tokens=4096, --arch NAME is model=NAME, the positional argument is task.data. Both forms may be mixed."""


def overview(
    command: str, description: str, examples: Sequence[str], *, dry_run: bool = False, flags: bool = False
) -> str:
    """The text of `command --help`; `dry_run`: the command has that flag; `flags`: it takes fairseq's flags."""
    usage = f"usage: {command} [--config-name NAME] [KIND=NAME ...] [SECTION.OPTION=VALUE ...]"
    if flags:
        usage += f"\n       {command} [DATA] [--config-name NAME] [--FLAG VALUE ...]   (fairseq's flags)"
    parts = [
        usage,
        textwrap.fill(description, _WIDTH),
    ]
    if examples:
        parts.append("examples:\n" + "\n".join(f"  {example}" for example in examples))
    arguments = _FLAGS.replace("{command}", command)
    parts.append("arguments:\n" + (f"{arguments}\n{_DRY_RUN}" if dry_run else arguments))
    if flags:
        parts.append(_FAIRSEQ.format(command=command, name=command.removeprefix("seqkit-")))
    sections = [f"  {name:<22}{(cls.__doc__ or '').splitlines()[0]}" for name, cls in SECTIONS.items()]
    parts.append("sections (SECTION.OPTION=VALUE):\n" + "\n".join(sections))
    kinds = [_names(kind, f"  {kind:<22}") for kind in COMPONENTS]
    parts.append("components (KIND=NAME, then KIND.OPTION=VALUE):\n" + "\n".join(kinds))
    parts.append("recipes (--config-name):\n" + "\n".join(f"  {name}" for name in recipe_names()))
    return "\n\n".join(parts)


def _names(kind: str, indent: str) -> str:
    names = sorted({*registry(kind).names(), *variant_names(kind)})
    rest = " " * len(indent)
    text = ", ".join(names) or "(none)"
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)


def topic_help(topic: str, command: str) -> str:
    """The text of `--help TOPIC`: a section, `section.option`, a kind, or `kind=name`.

    Raises:
        UserError: no such topic.
    """
    place, _, name = topic.partition("=")
    section, _, option = place.partition(".")
    if name and place in COMPONENTS:
        return _component(place, name)
    if place in COMPONENTS:
        return f"{place}: choose with {place}=NAME; options with {command} --help {place}=NAME\n{_names(place, '  ')}"
    if section in SECTIONS:
        cls = SECTIONS[section]
        if option and option not in options_of(cls):
            matches = did_you_mean(option, options_of(cls))
            raise UserError(f"there is no option {section}.{option}{matches}")
        title = f"{section}: {(cls.__doc__ or '').splitlines()[0]}"
        return f"{title}\n{_table(cls, section, only=option or None)}"
    raise UserError(f"there is no help on {topic!r}{did_you_mean(topic, [*SECTIONS, *COMPONENTS])}")


def _component(kind: str, name: str) -> str:
    values: dict[str, Any] = {}
    component_name = name
    if name in variant_names(kind):
        from seqkit.config.compose import compose
        from seqkit.config.validate import to_dict

        config: Config = getattr(compose(None, [f"{kind}={name}"], missing_allowed=True), kind)
        values = to_dict(config)
        component_name = str(config._name)
    component = registry(kind).get(component_name)
    title = f"{kind}={name}" + (f" (a {component_name})" if name != component_name else "")
    return f"{title}: {component.purpose}\n{_table(component.config, kind, values=values)}"


def _table(cls: type[Config], section: str, *, only: str | None = None, values: dict[str, Any] | None = None) -> str:
    kinds = field_types(cls)
    entries = []
    for name, item in options_of(cls).items():
        if only in (None, name) and option_info(item).refused is None:
            value = (values or {}).get(name, default_of(item))
            entries.append(_entry(f"{section}.{name}", kinds[name], item, value))
    return "\n".join(entries) or "  (no options)"


def _entry(name: str, kind: Any, item: dataclasses.Field[Any], value: Any) -> str:
    info = option_info(item)
    facts = [type_text(kind) if info.choices is None else " | ".join(show_bare(choice) for choice in info.choices)]
    bounds = bounds_text(info.low, info.high)
    if bounds:
        facts.append(bounds)
    if info.follows is not None:
        facts.append(f"default: as {info.follows}")
    else:
        facts.append("must be given" if value == MISSING else f"default: {show(value)}")
    text = textwrap.fill(info.help, _WIDTH, initial_indent="      ", subsequent_indent="      ")
    return f"  {name}  ({'; '.join(facts)})\n{text}"


def show_bare(value: Any) -> str:
    """A choice as it is typed."""
    return value if isinstance(value, str) else show(value)


def unknown_flag_hint(argument: str) -> str:
    """For a fairseq flag, how the same is said here: `"; write dataset.max_tokens=VALUE"`."""
    flag = argument.partition("=")[0]
    for section, cls in SECTIONS.items():
        for name, item in options_of(cls).items():
            info = option_info(item)
            if flag in (info.flags or (f"--{name.replace('_', '-')}", f"--{name}")):
                return f"; write {section}.{name}=VALUE"
    kind = {"--arch": "model", "-a": "model"}.get(flag, flag.removeprefix("--").replace("-", "_"))
    return f"; write {kind}=NAME" if kind in COMPONENTS else ""
