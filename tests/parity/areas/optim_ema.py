"""EMA cases of the area `optim`: a model's weights are given at every step, the average is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from seqkit.config.sections import EMAConfig
from seqkit.config.validate import build_config
from seqkit.training.ema import ExponentialMovingAverage
from tests.parity.loader import Case

_READ = {
    *("what", "area", "kind", "config", "half_model", "decay_in_force", "updates", "arrays", "tolerance", "versions"),
    "informational",
}


class _Weights(nn.Module):
    """Parameters with the names of the recorded model's."""

    def __init__(self, values: dict[str, np.ndarray[Any, Any]], dtype: torch.dtype) -> None:
        super().__init__()
        for name, value in values.items():
            *path, leaf = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in dict(place.named_children()):
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.register_parameter(leaf, nn.Parameter(torch.from_numpy(value.copy()).to(dtype)))


def run_ema(case: Case) -> None:
    """Step the average through the recorded weights."""
    spec = case.spec
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    config = build_config(EMAConfig, {"store_ema": True, **spec["config"]}, "ema")
    recorded = np.load(case.folder / "trajectory.npz")
    given = {key.removeprefix("model."): recorded[key] for key in recorded.files if key.startswith("model.")}
    tolerance = {key: float(spec["tolerance"][key]) for key in ("rtol", "atol")}
    model = _Weights({name: values[0] for name, values in given.items()}, _dtype(spec))
    ema = ExponentialMovingAverage(model, config)
    _compare(recorded, "ema.", 0, ema.weights(), tolerance)
    for update, decay in enumerate(spec["decay_in_force"], start=1):
        with torch.no_grad():
            for name, param in model.named_parameters():
                param.copy_(torch.from_numpy(given[name][update]))
        ema.step(update)
        assert ema.decay == decay, f"decay at update {update}: {ema.decay}, fairseq {decay}"
        _compare(recorded, "ema.", update, ema.weights(), tolerance)
        _compare(recorded, "ema_fp32.", update - 1, ema.weights(full_precision=True), tolerance)


def _dtype(spec: dict[str, Any]) -> torch.dtype:
    return torch.float16 if spec["half_model"] else torch.float32


def _compare(
    recorded: Any, prefix: str, row: int, weights: dict[str, torch.Tensor], tolerance: dict[str, float]
) -> None:
    for name, tensor in weights.items():
        key = prefix + name
        if key in recorded.files:
            expected = recorded[key][row].astype(np.float32)
            np.testing.assert_allclose(tensor.detach().float().numpy(), expected, err_msg=f"{key}[{row}]", **tolerance)
