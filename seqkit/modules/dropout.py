"""Dropout (Srivastava et al., 2014) whose random bits are cheap on a CPU. Knows nothing of layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        threshold = round(self.p * _LEVELS)
        if input.device.type != "cpu" or not 0 < threshold < _LEVELS:
            return F.dropout(input, self.p, training=True)
        count = input.numel()
        draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        numbers = draws.view(torch.int16)[:count].view(input.shape)
        factor = (numbers >= threshold - _LEVELS // 2).to(input.dtype).mul_(_LEVELS / (_LEVELS - threshold))
        return input * factor
