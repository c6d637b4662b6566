"""Optimizers: every parameter after every step, and the norm of the gradients; EMA of the parameters."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from seqkit.config.validate import build_config, options_of
from seqkit.optim.base import build_optimizer, set_lr
from seqkit.optim.clip import gradients, scale_and_clip
from seqkit.registry import registry
from tests.parity.areas.optim_ema import run_ema
from tests.parity.loader import Case

_READ = {
    "what", "area", "flags", "resolved_config", "clip_norm", "lr_per_step", "multiply_grads", "lr", "steps", "arrays",
    "state_keys", "optimizer_class", "inner_class", "supports", "tolerance", "versions",
}  # fmt: skip
_RTOL = 1e-6
"""Closer than the tolerance recorded with the cases: what the project promises."""


def run(case: Case) -> None:
    """Take the recorded steps with the recorded gradients."""
    if case.spec.get("kind") == "ema":
        run_ema(case)
    else:
        _run_trajectory(case)


def _settings(case: Case) -> tuple[str, dict[str, Any], dict[int, str]]:
    """Name and options of the optimizer, from each way in which fairseq's were recorded, and the groups of tensors."""
    resolved = case.spec["resolved_config"]
    if resolved == "see what":
        groups, group_of = _read_groups(case.spec["what"])
        return "composite", {"groups": groups, "lr": [1.0]}, group_of
    if "class" in resolved:  # made from its class, as fairseq's own command cannot make it
        name = resolved["class"].split(".")[2]
        return name, {**resolved["kwargs"], "lr": []}, {}
    if "optimizer" not in resolved:
        return resolved["_name"], {key: value for key, value in resolved.items() if key != "_name"}, {}
    name = resolved["optimizer"]
    known = options_of(registry("optimizer").get(name).config)
    return name, {key: value for key, value in resolved.items() if key in known}, {}


def _read_groups(text: str) -> tuple[dict[str, Any], dict[int, str]]:
    """The groups of a composite optimizer, which are recorded in words.

    "…: tensors 0 and 2 in group a (adam lr 0.01 betas 0.9,0.98), tensor 1 in group b (nag lr 0.05)".
    """
    kind, _, description = text.partition(": ")
    assert kind == "composite optimizer", f"words that no one reads: {text!r}"
    groups: dict[str, Any] = {}
    group_of: dict[int, str] = {}
    pattern = r"tensors? (?P<tensors>\d+(?:(?:, | and )\d+)*) in group (?P<group>\w+) \((?P<settings>[^)]*)\)"
    rest = re.sub(pattern, "", description)
    assert not rest.strip(", "), f"words that no one reads: {rest!r}"
    for found in re.finditer(pattern, description):
        name, *words = found["settings"].split()
        assert len(words) % 2 == 0, f"settings that no one reads: {found['settings']!r}"
        options = {_option_named(name, word): value for word, value in zip(words[::2], words[1::2], strict=True)}
        groups[found["group"]] = {"optimizer": {"_name": name, **options}}
        group_of |= {int(tensor): found["group"] for tensor in re.findall(r"\d+", found["tensors"])}
    return groups, group_of


def _option_named(optimizer: str, word: str) -> str:
    """The option that a word means: itself, or with the optimizer's prefix (`betas`: `adam_betas`)."""
    word = {"wd": "weight_decay"}.get(word, word)
    known = [
        key for key in options_of(registry("optimizer").get(optimizer).config) if re.fullmatch(rf"(\w+_)?{word}", key)
    ]
    assert len(known) == 1, f"{optimizer} has no option {word}"
    return known[0]


def _run_trajectory(case: Case) -> None:
    spec = case.spec
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    name, settings, group_of = _settings(case)
    cls = registry("optimizer").get(name).config
    if "compound_scale" in options_of(cls):  # the option that gives fairseq's figures
        settings["compound_scale"] = True
    config = build_config(cls, {**settings, "_name": name}, where="optimizer")
    arrays = np.load(case.folder / "trajectory.npz")
    count = sum(key.startswith("p") for key in arrays.files)
    assert set(arrays.files) == {f"{kind}{i}" for kind in "pg" for i in range(count)} | {"grad_norm"}
    params = [torch.nn.Parameter(torch.from_numpy(arrays[f"p{i}"][0].copy())) for i in range(count)]
    for i, group in group_of.items():
        params[i].param_group = group  # type: ignore[attr-defined]
    optimizer = build_optimizer(config, params)
    multipliers = spec["multiply_grads"] or [1.0] * spec["steps"]
    if not isinstance(multipliers, list):
        multipliers = [multipliers] * spec["steps"]
    for step in range(spec["steps"]):
        if spec["lr_per_step"] is not None:
            set_lr(optimizer, spec["lr_per_step"][step])
        for i, param in enumerate(params):
            param.grad = torch.from_numpy(arrays[f"g{i}"][step].copy())
        norm = scale_and_clip(gradients(params), scale=multipliers[step], max_norm=spec["clip_norm"])
        np.testing.assert_allclose(norm.item(), arrays["grad_norm"][step], rtol=_RTOL, err_msg=f"norm, step {step}")
        optimizer.step()
        for i, param in enumerate(params):
            np.testing.assert_allclose(
                param.detach().numpy(),
                arrays[f"p{i}"][step + 1],
                rtol=_RTOL,
                atol=spec["tolerance"]["atol"],
                err_msg=f"parameter {i} after step {step}",
            )
    held = {key for state in optimizer.state.values() for key in state}
    if name == "composite":  # fairseq's has none: it is in the optimizers that it consists of
        held = set()
    assert held == set(spec["state_keys"]), f"state {sorted(held)}, expected {spec['state_keys']}"
