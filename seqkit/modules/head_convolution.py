"""Convolutions over time whose weights are shared by the channels of a head, fixed or one set for each position.

    y[t, c] = sum_k w[head of c, k] · x[t + k, c]    or    w[t, head of c, k]

Knows nothing of where weights come from. Axes: B batch, T time, C channels, H heads, R = C/H channels of a head,
K kernel width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_WIDE = 8
"""Kernels from this width on are run as one two-dimensional convolution per head rather than one for each channel,
which is faster on a CPU (by two, for a width of 31)."""
_BLOCK = 32
"""Positions of a block: its weights are put into a matrix with a band of width K, by which the block's inputs are
multiplied. (Products twice the size of what is needed, but as fast as matrix products are.)"""
_ONE_BLOCK = 96
"""Up to this length one block is faster."""


def check_heads(channels: int, heads: int) -> None:
    """Raises ValueError where `heads` does not divide `channels`."""
    if channels % heads:
        raise ValueError(f"a convolution of {channels} channels cannot be shared out to {heads} heads")


def with_context(x: Tensor, earlier: Tensor | None, left: int, kernel_size: int) -> Tensor:
    """(B, T + K - 1, C): (B, T, C) with what is before it (B, left, C; zeros where None) and zeros behind it."""
    right = kernel_size - 1 - left
    if earlier is None:
        return F.pad(x, (0, 0, left, right))
    joined = torch.cat((earlier, x), dim=1)
    return F.pad(joined, (0, 0, 0, right)) if right else joined


def convolve_shared(x: Tensor, weight: Tensor) -> Tensor:
    """(B, T + K - 1, C) with weights (H, K), to (B, T, C)."""
    heads, width = weight.shape
    batch, length, channels = x.shape
    if length == width:
        weighted = x.view(batch, length, heads, -1) * weight.t().unsqueeze(-1)
        return weighted.sum(1, keepdim=True).view(batch, 1, channels)
    if width < _WIDE:
        each = weight.repeat_interleave(channels // heads, 0).unsqueeze(1)
        return F.conv1d(x.transpose(1, 2), each, groups=channels).transpose(1, 2)
    by_head = x.view(batch, length, heads, -1).transpose(1, 2)
    result = F.conv2d(by_head, weight.view(heads, 1, width, 1), groups=heads)
    return result.transpose(1, 2).reshape(batch, -1, channels)


def convolve_each(x: Tensor, weight: Tensor) -> Tensor:
    """(B, T + K - 1, C) with weights (B, T, H, K), one set for each position, to (B, T, C)."""
    batch, length, heads, width = weight.shape
    channels = x.size(2)
    if length == 1:
        weighted = x.view(batch, width, heads, -1) * weight.transpose(1, 3)
        return weighted.sum(1, keepdim=True).view(batch, 1, channels)
    if length <= _ONE_BLOCK:
        by_head = x.view(batch, -1, heads, channels // heads).transpose(1, 2)
        return (_band(weight.transpose(1, 2)) @ by_head).transpose(1, 2).reshape(batch, length, channels)
    blocks = -(-length // _BLOCK)
    missing = blocks * _BLOCK - length
    windows = F.pad(x, (0, 0, 0, missing)).unfold(1, _BLOCK + width - 1, _BLOCK)
    windows = windows.view(batch, blocks, heads, channels // heads, -1).transpose(-1, -2)
    weight = F.pad(weight, (0, 0, 0, 0, 0, missing)).view(batch, blocks, _BLOCK, heads, width).transpose(2, 3)
    result = (_band(weight) @ windows).transpose(2, 3).reshape(batch, blocks * _BLOCK, channels)
    return result[:, :length]


def _band(weight: Tensor) -> Tensor:
    """(…, T, K) to (…, T, T + K - 1): row t has its weights in columns t … t + K - 1, and zeros elsewhere."""
    *leading, length, width = weight.shape
    columns = length + width - 1
    # Rows of T + K entries, read as rows of one less: each begins one column further right than the one above.
    return F.pad(weight, (0, length)).flatten(-2)[..., : length * columns].view(*leading, length, columns)
