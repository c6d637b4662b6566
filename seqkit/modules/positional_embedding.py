"""Embeddings of positions: sinusoidal (Vaswani et al., 2017, section 3.5) and learned (Gehring et al., 2017).

Positions are counted over the symbols that are not padding: the first has number 1, padding has number 0, and the
tables hold number i in row `padding_idx + i`. Knows nothing of words or layers.
Axes: B batch, T length, C channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.errors import DataError


def count_positions(padding_mask: Tensor) -> Tensor:
    """(B, T) int64: the number of each position; 0 where `padding_mask` (B, T) is True."""
    real = ~padding_mask
    return real.cumsum(1) * real


class SinusoidalPositionalEmbedding(nn.Module):
    """Sines in the first half of the channels, cosines in the second, wavelengths from 2 pi to 10000·2 pi.

        angle(i, c) = i · 10000 ** (-c / (C/2 - 1))

    The table is computed, not trained, and not saved; it grows as needed.

    Args:
        embedding_dim: C; an odd one gets a channel of zeros at the end.
        padding_idx: index of the padding symbol; row of zeros.
        init_size: positions to compute at first.
    """

    weights: Tensor

    def __init__(self, embedding_dim: int, padding_idx: int, init_size: int = 1024) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.register_buffer("weights", self._table(init_size), persistent=False)

    def forward(self, positions: Tensor | None, length: int, start: int = 0) -> Tensor:
        """Look up.

        Args:
            positions: (B, T) numbers as of `count_positions`; None: start + 1, start + 2, … in every row.
            length: T.
            start: positions that came before.

        Returns:
            (B, T, C), or (T, C) without `positions`.
        """
        first = self.padding_idx + 1 + start
        # Threads that decode side by side may get here together: each goes on with a table that it has checked.
        weights = self.weights
        if first + length > weights.size(0):
            with torch.inference_mode(False):  # training may go on with the table
                weights = self._table(2 * (start + length)).to(weights)
            self.weights = weights
        if positions is None:
            return weights[first : first + length]
        return F.embedding(positions + self.padding_idx, weights)

    def _table(self, size: int) -> Tensor:
        half = self.embedding_dim // 2
        step = math.log(10000) / max(half - 1, 1)
        frequency = torch.exp(torch.arange(half, dtype=torch.float) * -step)
        rows = self.padding_idx + 1 + size
        angle = torch.arange(rows, dtype=torch.float).unsqueeze(1) * frequency.unsqueeze(0)
        table = torch.zeros(rows, self.embedding_dim)
        table[:, :half] = angle.sin()
        table[:, half : 2 * half] = angle.cos()
        table[self.padding_idx] = 0
        return table


class LearnedPositionalEmbedding(nn.Embedding):
    """One trained vector per position.

    Args:
        max_positions: the most positions there can be.
        embedding_dim: C.
        padding_idx: index of the padding symbol; row of zeros, not trained.
    """

    def __init__(self, max_positions: int, embedding_dim: int, padding_idx: int) -> None:
        super().__init__(max_positions + padding_idx + 1, embedding_dim, padding_idx)
        nn.init.normal_(self.weight, mean=0, std=embedding_dim**-0.5)
        nn.init.zeros_(self.weight[padding_idx])
        self.max_positions = max_positions

    def forward(self, positions: Tensor | None, length: int, start: int = 0) -> Tensor:  # type: ignore[override]
        """Look up; arguments and result as of `SinusoidalPositionalEmbedding.forward`.

        Raises:
            DataError: the sequence is longer than there are positions.
        """
        if start + length > self.max_positions:
            raise DataError(
                f"a sequence of {start + length} tokens does not fit this model's {self.max_positions} learned "
                "positions; shorten it, or train with more positions"
            )
        assert self.padding_idx is not None
        if positions is None:
            first = self.padding_idx + 1 + start
            return self.weight[first : first + length]
        return F.embedding(positions + self.padding_idx, self.weight, self.padding_idx)


PositionalEmbedding = SinusoidalPositionalEmbedding | LearnedPositionalEmbedding


def positional_embedding(
    max_positions: int, embedding_dim: int, padding_idx: int, *, learned: bool
) -> PositionalEmbedding:
    """A learned or sinusoidal embedding for `max_positions` positions."""
    if learned:
        return LearnedPositionalEmbedding(max_positions, embedding_dim, padding_idx)
    return SinusoidalPositionalEmbedding(embedding_dim, padding_idx, max_positions)
