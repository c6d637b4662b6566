"""Several optimizers, one for each group of parameters, as one.

Sees parameters (with the names and marks that models gave them) and gradients. Knows nothing of models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch

from seqkit.config.base import Config, option, option_info
from seqkit.config.validate import build_config, options_of
from seqkit.errors import ConfigError, did_you_mean
from seqkit.optim._fused import PlainOptimizer, first_rate
from seqkit.optim.base import Parameters, build_optimizer, register_optimizer, works_on_cpu
from seqkit.optim.lr_scheduler._groups import GroupSchedules
from seqkit.optim.lr_scheduler.base import LRScheduler, build_lr_scheduler
from seqkit.registry import registry

_DEFAULT = "default"
_OPTIONS = ("optimizer", "lr_scheduler", "lr", "lr_float", "parameters")


@dataclass
class CompositeConfig(Config):
    """Options of `Composite`."""

    groups: dict[str, Any] = option(
        {},
        "by name of a group of parameters: optimizer (a component with its options), lr_scheduler (likewise, or left "
        "out), lr_float (its learning rate; unset: optimization.lr), parameters (patterns of names, such as "
        "[encoder.*]; unset: what the model marked with that name by param_group; the rest is in the group default)",
    )
    dynamic_groups: bool = option(
        False,
        "parameters of one group may have scales of their own (optim_overrides, set by the model): each set of scales "
        "makes a group",
    )
    lr: list[float] = option([0.25], "learning rate of groups that give none", follows="optimization.lr")
    max_update: int = option(
        0, "updates of the whole run, for the groups' schedules", low=0, follows="optimization.max_update"
    )


@dataclass
class _Group:
    """Parameters that are treated alike: the configured group they are of, and what the model says to change in it."""

    source: str
    overrides: dict[str, Any]
    params: list[Any] = field(default_factory=list)


@register_optimizer("composite", config=CompositeConfig)
class Composite(PlainOptimizer):
    """Each group of parameters has its optimizer, learning rate and (with `lr_scheduler=pass_through`) schedule.

    Without schedules of their own, the groups follow the one schedule, each in proportion to its own rate.

    Args:
        optimizers: by group; each over its own parameters.
        schedules: by group; for all of them, or none.
        base_lr: the rate that the one schedule is made for.

    Attributes:
        optimizers: by group.
        lr_scheduler: the groups' schedules, None where they have none.

    Raises:
        ConfigError: some groups have a schedule and some have none.
    """

    def __init__(
        self,
        optimizers: Mapping[str, torch.optim.Optimizer],
        schedules: Mapping[str, LRScheduler] | None = None,
        base_lr: float | None = None,
    ) -> None:
        self.optimizers = dict(optimizers)
        groups = []
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["group_name"] = name
                if not schedules and base_lr is not None:
                    group["lr_scale"] = group["lr"] / base_lr
                groups.append(group)
        super().__init__(groups, {})
        without = [name for name in self.optimizers if name not in (schedules or {})]
        if schedules and without:
            raise ConfigError(
                f"the groups {', '.join(without)} of optimizer.groups have no lr_scheduler, but others have one; give "
                "one to each group, or to none"
            )
        self.lr_scheduler: LRScheduler | None = GroupSchedules(schedules, self) if schedules else None
        self._share()

    @classmethod
    def build(cls, config: CompositeConfig, params: Parameters) -> Composite:
        """Make the optimizer, and those it consists of, from its config.

        Raises:
            ConfigError: a group is missing, or what it says cannot be used.
        """
        base_lr = first_rate(config.lr)
        optimizers: dict[str, torch.optim.Optimizer] = {}
        schedules: dict[str, LRScheduler] = {}
        for name, group in _assign(config, params).items():
            given = config.groups[group.source]
            where = f"optimizer.groups.{group.source}"
            settings = _with_overrides(_optimizer_config(given, config, where), group.overrides, where)
            optimizers[name] = build_optimizer(settings, group.params)
            if given.get("lr_scheduler") is not None:
                # A schedule's rates are those of its optimizer.
                lr = vars(settings).get("lr", config.lr)
                schedule = _component("lr_scheduler", given["lr_scheduler"], config, where, {"lr": lr})
                schedules[name] = build_lr_scheduler(schedule, optimizers[name])
        return cls(optimizers, schedules, base_lr if base_lr > 0 else None)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: computes gradients anew and returns the loss.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers.values():
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` returned. Groups are found by their names, or else by their order.

        What each group's learning rate is in proportion to the others is not taken from there: it is as configured now.

        Raises:
            ValueError: there are not as many groups, or they are of other parameters.
        """
        saved: dict[str, list[dict[str, Any]]] = {}
        for number, group in enumerate(state_dict["param_groups"]):
            saved.setdefault(str(group.get("group_name", number)), []).append(group)
        if len(saved) != len(self.optimizers):
            raise ValueError(f"it has the groups {', '.join(saved)}, this optimizer has {', '.join(self.optimizers)}")
        if saved.keys() != self.optimizers.keys():
            saved = dict(zip(self.optimizers, saved.values(), strict=True))
        for name, optimizer in self.optimizers.items():
            numbers = {number for group in saved[name] for number in group["params"]}
            state = {number: value for number, value in state_dict["state"].items() if number in numbers}
            scales = [group.get("lr_scale") for group in optimizer.param_groups]
            optimizer.load_state_dict({"state": state, "param_groups": saved[name]})
            for group, scale in zip(optimizer.param_groups, scales, strict=True):
                group["group_name"] = name
                group.pop("lr_scale", None)
                if scale is not None:
                    group["lr_scale"] = scale
        self._share()

    def _share(self) -> None:
        """One mapping of state and one list of groups, whoever changes them."""
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        for optimizer in self.optimizers.values():
            state.update(optimizer.state)
            optimizer.state = state
        self.state = state


def _assign(config: CompositeConfig, params: Parameters) -> dict[str, _Group]:
    """The groups that parameters fall into, the default group first."""
    _check_groups(config)
    patterns = {name: _patterns(group) for name, group in config.groups.items()}
    unused = {(group, pattern) for group, listed in patterns.items() for pattern in listed}
    groups: dict[str, _Group] = {}
    for entry in params:
        if isinstance(entry, dict):
            raise ConfigError("optimizer=composite makes the groups of parameters itself; give it parameters")
        name, param = entry if isinstance(entry, tuple) else ("", entry)
        matching = [(group, pattern) for group, listed in patterns.items() for pattern in listed]
        matching = [pair for pair in matching if fnmatchcase(name, pair[1])]
        unused -= set(matching)
        source = matching[0][0] if matching else str(getattr(param, "param_group", _DEFAULT))
        if source not in config.groups:
            raise ConfigError(
                f"the parameter {name or list(param.shape)} is of the group {source!r}, which optimizer.groups does "
                f"not have{did_you_mean(source, config.groups)}; there are: {', '.join(config.groups) or 'none'}"
            )
        overrides = dict(getattr(param, "optim_overrides", None) or {})
        label = _label(source, overrides) if config.dynamic_groups else source
        group = groups.setdefault(label, _Group(source, overrides))
        if group.overrides != overrides:
            raise ConfigError(
                f"parameters of the group {source!r} have different optim_overrides ({group.overrides} and "
                f"{overrides}); set optimizer.dynamic_groups=true"
            )
        group.params.append(entry)
    if unused:
        shown = ", ".join(f"optimizer.groups.{group}.parameters={pattern}" for group, pattern in sorted(unused))
        raise ConfigError(f"no parameter has a name like {shown}")
    return dict(sorted(groups.items(), key=lambda item: item[1].source != _DEFAULT))


def _check_groups(config: CompositeConfig) -> None:
    if not config.groups:
        raise ConfigError(
            "optimizer=composite needs optimizer.groups, such as {default: {optimizer: {_name: adam}, lr_float: 1e-3}}"
        )
    problems = []
    for name, group in config.groups.items():
        where = f"optimizer.groups.{name}"
        if not isinstance(group, Mapping):
            problems.append(f"{where}={group!r} is not a mapping with optimizer and lr_scheduler")
            continue
        problems += [
            f"unknown option {where}.{key}{did_you_mean(str(key), _OPTIONS)}"
            for key in group
            if key not in (*_OPTIONS, "_name")
        ]
        if group.get("optimizer") is None:
            problems.append(f"{where}.optimizer must be given")
    if problems:
        raise ConfigError(problems)


def _patterns(group: Mapping[str, Any]) -> Sequence[str]:
    patterns = group.get("parameters") or []
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _label(source: str, overrides: Mapping[str, Any]) -> str:
    scales = overrides.get("optimizer", {})
    return "/".join([source, *(f"{key}={scales[key]}" for key in sorted(scales))])


def _optimizer_config(given: Mapping[str, Any], config: CompositeConfig, where: str) -> Config:
    lr = config.lr if given.get("lr") is None else given["lr"]
    forced = {} if given.get("lr_float") is None else {"lr": [given["lr_float"]]}
    settings = _component("optimizer", given["optimizer"], config, where, forced, lr)
    if works_on_cpu(settings):
        raise ConfigError(
            f"{where}.optimizer={settings._name} cannot be one of several; choose adam here, or "
            f"optimizer={settings._name} for all parameters"
        )
    return settings


def _component(
    kind: str,
    value: Any,
    config: CompositeConfig,
    where: str,
    forced: Mapping[str, Any],
    lr: Any = None,
) -> Config:
    """The config of a component inside a group; what follows another section follows it here too.

    Args:
        forced: values that go before those given.
        lr: what follows `optimization.lr`.
    """
    where = f"{where}.{kind}"
    given = {"_name": value} if isinstance(value, str) else value
    if not isinstance(given, Mapping) or given.get("_name") is None:
        raise ConfigError(f"{where}={value!r} names no {kind}; give {where}._name")
    cls: type[Config] = registry(kind).get(str(given["_name"])).config
    followed = {"optimization.lr": lr, "optimization.max_update": config.max_update}
    values = dict(given)
    for name, item in options_of(cls).items():
        if name in forced:
            values[name] = forced[name]
        elif name not in values and option_info(item).follows in followed:
            values[name] = followed[str(option_info(item).follows)]
    return build_config(cls, values, where=where)


def _with_overrides(settings: Config, overrides: Mapping[str, Any], where: str) -> Config:
    """The settings of an optimizer with the scales that the model gave its parameters."""
    scales = dict(overrides.get("optimizer", {}))
    values = vars(settings)
    if "lr_scale" in scales and "lr" in values:
        scale = scales.pop("lr_scale")
        values["lr"] = [rate * scale for rate in values["lr"]]
    if "weight_decay_scale" in scales and "weight_decay" in values:
        values["weight_decay"] *= scales.pop("weight_decay_scale")
    unknown = [*scales, *(key for key in overrides if key not in ("optimizer", "group_name"))]
    if unknown:
        raise ConfigError(
            f"optim_overrides of parameters in {where} has {', '.join(map(str, unknown))}, which {settings._name} "
            "cannot take; it may have optimizer.lr_scale and optimizer.weight_decay_scale"
        )
    return settings
