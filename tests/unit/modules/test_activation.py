from __future__ import annotations

import math

import pytest
import torch

from seqkit.errors import ConfigError
from seqkit.modules.activation import ACTIVATION_NAMES, activation


def gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS = {
    "relu": lambda x: max(x, 0.0),
    "relu_squared": lambda x: max(x, 0.0) ** 2,
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "tanh": math.tanh,
    "linear": lambda x: x,
    "swish": lambda x: x / (1 + math.exp(-x)),
}


@pytest.mark.parametrize("name", ACTIVATION_NAMES)
def test_follows_its_formula(name: str) -> None:
    for x in (-2.0, -0.5, 0.0, 0.7, 3.0):
        assert activation(name)(torch.tensor(x)).item() == pytest.approx(FORMULAS[name](x), abs=1e-6)


def test_unknown_names_get_near_matches() -> None:
    with pytest.raises(ConfigError, match="unknown activation function 'gelu_acurate'; did you mean 'gelu_accurate'"):
        activation("gelu_acurate")
