"""Linear maps and convolutions over time with normalised weights (Salimans and Kingma, 2016).

    w = g · v / |v|

The direction v and the length g of each output's weights are trained apart. Knows nothing of what they are used for.
Axes: B batch, T time, I input channels, O output channels, K kernel width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _WeightNorm(nn.Module):
    """Holds v, g and the bias; `dim` is the axis of v that counts outputs.

    Parameters are registered in the order bias, g, v: the order in which fairseq's checkpoints list them.
    """

    def __init__(self, shape: tuple[int, ...], dim: int, std: float) -> None:
        super().__init__()
        self._others = [axis for axis in range(len(shape)) if axis != dim]
        self.bias = nn.Parameter(torch.zeros(shape[dim]))
        direction = torch.empty(shape)
        nn.init.normal_(direction, mean=0, std=std)
        self.weight_g = nn.Parameter(torch.linalg.vector_norm(direction, dim=self._others, keepdim=True))
        self.weight_v = nn.Parameter(direction)

    @property
    def weight(self) -> Tensor:
        """The normalised weights, of the shape of v."""
        norm = torch.linalg.vector_norm(self.weight_v, dim=self._others, keepdim=True)
        weight: Tensor = self.weight_v * (self.weight_g / norm)
        return weight


class WeightNormLinear(_WeightNorm):
    """A linear map (…, I) to (…, O), whose weights start so that dropout on its input is made up for.

    Args:
        in_features: I.
        out_features: O.
        dropout: probability of dropping an input.
    """

    def __init__(self, in_features: int, out_features: int, *, dropout: float = 0.0) -> None:
        super().__init__((out_features, in_features), 0, math.sqrt((1 - dropout) / in_features))

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Map (…, I) to (…, O); `weight` is `self.weight` where that was computed before."""
        return F.linear(x, self.weight if weight is None else weight, self.bias)


class WeightNormConvolution(_WeightNorm):
    """A convolution over time, for (B, T, I) to (B, T', O); v is (K, I, O).

    Weights start so that a gated linear unit behind it, and dropout before it, are made up for (Gehring et al., 2017).

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: K.
        dropout: probability of dropping an input.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, *, dropout: float = 0.0) -> None:
        std = math.sqrt(4 * (1 - dropout) / (kernel_size * in_channels))
        super().__init__((kernel_size, in_channels, out_channels), 2, std)
        self.kernel_size = kernel_size

    def forward(self, x: Tensor, *, left: int, right: int = 0, weight: Tensor | None = None) -> Tensor:
        """Convolve (B, T, I) with `left` and `right` zeros around it: (B, T + left + right - K + 1, O).

        `weight` is `self.weight` where that was computed before.
        """
        weight = self.weight if weight is None else weight
        if left or right:
            x = F.pad(x, (0, 0, left, right))
        if self.kernel_size == 1:
            return torch.matmul(x, weight[0]) + self.bias
        if x.size(1) == self.kernel_size:
            return torch.addmm(self.bias, x.flatten(1), weight.flatten(0, 1)).unsqueeze(1)
        return F.conv1d(x.transpose(1, 2), weight.permute(2, 1, 0), self.bias).transpose(1, 2)
