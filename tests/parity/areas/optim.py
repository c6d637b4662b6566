"""Optimizers: every parameter after every step, and the norm of the gradients; EMA of the parameters."""

from __future__ import annotations

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


def _settings(case: Case) -> tuple[str, dict[str, Any]]:
    """Name and options of the optimizer, from either way in which fairseq recorded them."""
    resolved = case.spec["resolved_config"]
    if not isinstance(resolved, dict):
        case.not_built(f"{case.spec['inner_class']}: a later issue")
    if "class" in resolved:  # made from its class, as fairseq's own command cannot make it
        name = resolved["class"].split(".")[2]
        return name, {**resolved["kwargs"], "lr": []}
    if "optimizer" not in resolved:
        return resolved["_name"], {key: value for key, value in resolved.items() if key != "_name"}
    name = resolved["optimizer"]
    if name not in registry("optimizer").names():
        return name, {}
    known = options_of(registry("optimizer").get(name).config)
    return name, {key: value for key, value in resolved.items() if key in known}


def _run_trajectory(case: Case) -> None:
    spec = case.spec
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    name, settings = _settings(case)
    if name not in registry("optimizer").names():
        case.not_built(f"optimizer={name}: a later issue")
    cls = registry("optimizer").get(name).config
    if "compound_scale" in options_of(cls):  # the option that gives fairseq's figures
        settings["compound_scale"] = True
    config = build_config(cls, {**settings, "_name": name}, where="optimizer")
    arrays = np.load(case.folder / "trajectory.npz")
    count = sum(key.startswith("p") for key in arrays.files)
    assert set(arrays.files) == {f"{kind}{i}" for kind in "pg" for i in range(count)} | {"grad_norm"}
    params = [torch.nn.Parameter(torch.from_numpy(arrays[f"p{i}"][0].copy())) for i in range(count)]
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
    assert held == set(spec["state_keys"]), f"state {sorted(held)}, expected {spec['state_keys']}"
