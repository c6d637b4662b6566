"""Dynamic convolution: kernels that each position predicts for itself (Wu et al., 2019, section 4).

    y[t, c] = sum_k w(x[t])[head of c, k] · x[t - left + k, c]    with w(x) = W x

Knows nothing of layers. Axes: B batch, T time, C channels, H heads, K kernel width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.dropout import Dropout
from seqkit.modules.embedding import xavier_linear
from seqkit.modules.head_convolution import check_heads, convolve_each, with_context


class DynamicConvolution(nn.Module):
    """A depthwise convolution whose weights are a linear function of the input at its own position.

    Args:
        input_size: C.
        kernel_size: K.
        padding_left: steps of the past that the first weight reaches; K - 1 hides the future.
        num_heads: H; must divide C.
        weight_dropout: probability of dropping a weight (DropConnect, Wan et al., 2013).
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
        self.weight_linear = xavier_linear(input_size, num_heads * kernel_size, bias=False)
        self.weight_linear.reset_parameters()  # in the end fairseq, too, draws them as torch does

    def forward(self, x: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Convolve (B, T, C) to (B, T, C); arguments as of `LightweightConvolution.forward`."""
        weight = self.weight_linear(x).unflatten(-1, (self.num_heads, self.kernel_size))
        if self.weight_softmax:
            weight = F.softmax(weight, dim=-1)
        padded = with_context(x, earlier, self.padding_left, self.kernel_size)
        return convolve_each(padded, self.weight_dropout_module(weight))
