"""Activation functions by name. Knows nothing of layers.

`gelu` is x·Phi(x) (Hendrycks and Gimpel, 2016); `gelu_accurate` and `gelu_fast` are two names of its tanh
approximation; `relu_squared` is from So et al. (2021); `swish` is x·sigmoid(x) (Ramachandran et al., 2017).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.errors import ConfigError, did_you_mean

Activation = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _relu_squared(x: Tensor) -> Tensor:
    return F.relu(x).square()


def _linear(x: Tensor) -> Tensor:
    return x


_ACTIVATIONS: dict[str, Activation] = {
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "gelu": F.gelu,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "tanh": torch.tanh,
    "linear": _linear,
    "swish": F.silu,
}

ACTIVATION_NAMES: tuple[str, ...] = tuple(_ACTIVATIONS)


def activation(name: str) -> Activation:
    """The activation function called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in _ACTIVATIONS:
        hint = did_you_mean(name, ACTIVATION_NAMES)
        raise ConfigError(f"unknown activation function {name!r}{hint}; there are: {', '.join(ACTIVATION_NAMES)}")
    return _ACTIVATIONS[name]
