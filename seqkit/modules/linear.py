"""Linear layers that nn.Linear does not cover: of no width, on weights of another module, several as one.

Knows nothing of what they are used for.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_of_any_size(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """`nn.Linear`, but without PyTorch's warning where there are no inputs (then the output is the bias) or outputs."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        return nn.Linear(in_features, out_features, bias=bias)


def is_plain(layer: nn.Module | None) -> bool:
    """Whether a layer is `nn.Linear` and nothing more: its weight may be used without calling it.

    It is not where a hook watches it, or where something else was put in its place.
    """
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter:
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def project_together(x: Tensor, layers: Sequence[nn.Linear]) -> Sequence[Tensor]:
    """Each layer's output for the same (…, in).

    On a CPU one matrix product makes them, where the layers are plain and of one size; a GPU is as fast with several.
    """
    same = {(layer.out_features, layer.bias is None) for layer in layers}
    if x.device.type != "cpu" or len(same) > 1 or not all(is_plain(layer) for layer in layers):
        return [layer(x) for layer in layers]
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return F.linear(x, weight, bias).chunk(len(layers), dim=-1)


class TiedLinear(nn.Module):
    """A linear map without bias whose weight belongs to another module.

    Args:
        weight: (out, in), or (in, out) with `transpose`.
        transpose: use the weight the other way round.
    """

    def __init__(self, weight: Tensor, *, transpose: bool = False) -> None:
        super().__init__()
        self.weight = weight
        self.transpose = transpose

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        return F.linear(x, self.weight.t() if self.transpose else self.weight)
