"""Dropout (Srivastava et al., 2014) whose random bits are cheap on a CPU. Knows nothing of layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_compiling

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """In training, sets elements to zero with probability p and divides the others by the probability of staying.

    On a CPU, PyTorch's own dropout draws one random number per element, which takes a tenth of a training step of
    a small model; here one draw of 64 bits serves four elements. There, p is rounded to a multiple of 2**-16, and the
    factor is that of the rounded p, so that the expected value is unchanged.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Any shape in, the same shape out."""
        if not self.training or self.p == 0.0:
            return input
        if not self._draws_cheaply(input):
            return F.dropout(input, self.p, training=True)
        return input * self._factor(input)

    def add(self, residual: Tensor, input: Tensor) -> Tensor:
        """`residual` plus what `forward` makes of `input` (of the same shape), in one pass where that is faster."""
        if self.training and self.p > 0.0 and residual.dtype == input.dtype and self._draws_cheaply(input):
            return torch.addcmul(residual, input, self._factor(input))
        return residual + (self(input) if self.training else input)

    def _draws_cheaply(self, input: Tensor) -> bool:
        return input.device.type == "cpu" and 0 < round(self.p * _LEVELS) < _LEVELS and not is_compiling()

    def _factor(self, input: Tensor) -> Tensor:
        """What each element is multiplied by."""
        threshold, count = round(self.p * _LEVELS), input.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        numbers = draws.view(torch.int16)[:count].view(input.shape)
        return (numbers >= threshold - _LEVELS // 2).to(input.dtype).mul_(_LEVELS / (_LEVELS - threshold))
