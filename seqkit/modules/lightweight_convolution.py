"""Lightweight convolution: one kernel per head, shared by the head's channels (Wu et al., 2019, section 3).

    y[t, c] = sum_k w[head of c, k] · x[t - left + k, c]

Knows nothing of layers. Axes: B batch, T time, C channels, H heads, R = C/H channels of a head, K kernel width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.dropout import Dropout
from seqkit.modules.head_convolution import check_heads, convolve_each, convolve_shared, with_context


class LightweightConvolution(nn.Module):
    """A depthwise convolution with shared, and by choice normalised, weights.

    Args:
        input_size: C.
        kernel_size: K.
        padding_left: steps of the past that the first weight reaches; K - 1 hides the future.
        num_heads: H; must divide C.
        weight_dropout: probability of dropping a weight, at each position anew (DropConnect, Wan et al., 2013).
        weight_softmax: each kernel's weights are put through a softmax.

    Raises:
        ValueError: `num_heads` does not divide `input_size`.
    """

    def __init__(
        self,
        input_size: int,
        kernel_size: int,
        *,
        padding_left: int,
        num_heads: int = 1,
        weight_dropout: float = 0.0,
        weight_softmax: bool = False,
    ) -> None:
        super().__init__()
        check_heads(input_size, num_heads)
        self.kernel_size = kernel_size
        self.padding_left = padding_left
        self.num_heads = num_heads
        self.weight_softmax = weight_softmax
        self.weight_dropout_module = Dropout(weight_dropout)
        self.weight = nn.Parameter(torch.empty(num_heads, 1, kernel_size))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Convolve.

        Args:
            x: (B, T, C).
            earlier: (B, padding_left, C) inputs before the first; None: zeros.

        Returns:
            (B, T, C).
        """
        weight = self.weight.squeeze(1)
        if self.weight_softmax:
            weight = F.softmax(weight, dim=-1)
        padded = with_context(x, earlier, self.padding_left, self.kernel_size)
        if self.training and self.weight_dropout_module.p > 0:
            each = self.weight_dropout_module(weight.expand(*x.shape[:2], -1, -1))
            return convolve_each(padded, each)
        return convolve_shared(padded, weight)
