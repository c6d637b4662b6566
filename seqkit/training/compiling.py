"""`torch.compile` for a model that meets batches of ever new lengths.

Layers are compiled, not the whole model: all layers of a stack share one compiled function, so that a deep model takes
no longer to compile than a shallow one, and what depends on the data (is anything padded? which layers are dropped?)
stays outside. Sizes are symbols from the first batch on, so that a new length is not compiled anew. The names of
parameters stay as they are. Knows nothing of training.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator

import torch
from torch import nn

from seqkit.errors import ConfigError

OFF = "none"
_COMPILERS = ("g++", "clang++", "c++", "cl")


def compile_layers(model: nn.Module, mode: str, device: torch.device) -> int:
    """Let `torch.compile` have a model's layers: the members of its outermost `ModuleList`s, or all of it without any.

    Nothing is compiled yet: that is done when a layer is first called.

    Args:
        mode: `none`, or a mode of `torch.compile`.
        device: where the model is.

    Returns:
        how many modules will be compiled.

    Raises:
        ConfigError: what compiling needs on this device is not installed.
    """
    if mode == OFF:
        return 0
    _require_compiler(mode, device)
    modules = list(_layers(model)) or [model]
    for module in modules:
        module.compile(dynamic=True, mode=mode)
    return len(modules)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if isinstance(module, nn.ModuleList):
        yield from module
        return
    for child in module.children():
        yield from _layers(child)


def _require_compiler(mode: str, device: torch.device) -> None:
    instead = "; install it, or set common.compile=none"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ConfigError(f"common.compile={mode} needs the package triton on a GPU{instead}")
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([named] if named else _COMPILERS)):
        wanted = f"the C++ compiler that CXX={named} names" if named else f"a C++ compiler ({', '.join(_COMPILERS)})"
        raise ConfigError(f"common.compile={mode} needs {wanted}, which is not found{instead}")
