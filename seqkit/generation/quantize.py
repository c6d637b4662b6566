"""Models with weights of fewer bits, as `generation.quantize` asks: for which device and which models.

Knows nothing of how a layer computes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from seqkit.errors import ConfigError
from seqkit.models.base import Model
from seqkit.modules.quantized_linear import is_quantized, quantize_linears

logger = logging.getLogger(__name__)


def quantize_models(models: Sequence[Model], quantize: str, device: torch.device, dtype: torch.dtype) -> None:
    """Quantise models in place, if `quantize` (`generation.quantize`) is not `none`; those that are already stay so.

    Args:
        models: on the CPU, in float32.
        quantize: `none` or `int8`.
        device: where they are to run.
        dtype: in which precision they are to compute.

    Raises:
        ConfigError: it is not for that device or precision, or a model has no layer that it makes faster.
    """
    if quantize == "none":
        return
    _check_use(quantize, device, dtype)
    for model in models:
        if is_quantized(model):
            continue
        layers = quantize_linears(model)
        if not layers:
            raise ConfigError(
                f"generation.quantize={quantize}: {type(model).__name__} has no linear layer that is large enough to "
                "gain by it; leave it out"
            )
        model.requires_grad_(False)
        logger.info("%s: %d linear layers in int8", type(model).__name__, layers)


def _check_use(quantize: str, device: torch.device, dtype: torch.dtype) -> None:
    if device.type != "cpu":
        raise ConfigError(
            f"generation.quantize={quantize} is for decoding on a CPU, and the models run on {device}; set "
            "common.cpu=true, or leave it out and use common.fp16=true or common.bf16=true there"
        )
    if dtype != torch.float32:
        name = "common.fp16" if dtype == torch.float16 else "common.bf16"
        raise ConfigError(
            f"generation.quantize={quantize} and {name}=true are two ways to make a model smaller; leave one "
            "of them out"
        )
