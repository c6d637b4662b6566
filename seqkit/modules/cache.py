"""Caches of incremental decoding: typed objects that belong to the caller, not to the modules.

A decoder that is run one token at a time keeps what it computed for earlier tokens in a `DecoderCache`.
The caller makes one per generation with `decoder.new_cache(...)`, hands it to every step, reorders its rows
when beams move, and drops the sentences that are finished. Knows nothing of scores, search or tokens' meaning.
Axes: B sentences, K rows per sentence (the beam), N = B·K rows (those of one sentence adjacent), L cached length,
S source length, H heads, D head width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

MASKED = -3.0e4
"""Added to attention scores that must not count: their softmax is exactly 0 in every floating type, and a row in
which everything is masked stays finite."""

_FIRST_CAPACITY = 32


class DecoderCache(Protocol):
    """What a generator may do with any decoder's cache."""

    @property
    def length(self) -> int:
        """Target positions already decoded."""
        ...

    def reorder(self, index: Tensor) -> None:
        """Make row i what row `index[i]` was.

        `index` (N,) int64 may repeat, drop and permute rows, but only within a sentence: what belongs to the
        sentence and not to the row (the encoded source) stays where it is.
        """
        ...

    def select_sentences(self, index: Tensor) -> None:
        """Keep the sentences `index` (B',) int64, in that order, with all their rows (N' = B'·K).

        The caller does the same to the `EncoderOutput` it passes on (`encoder_out.select(index)`).
        """
        ...


class SelfAttentionCache:
    """Keys and values of one self-attention layer, in a buffer that doubles when it is full.

    Rows of one sentence share their storage: position l of row k may have been written when its hypothesis was
    row j, and `TransformerCache.ancestors` remembers which, so that a step of beam search copies nothing.

    Attributes:
        buffer: (2, B, H, P + capacity·K, D): keys and values; P slots of the sentence's own in front (the source,
            where self-attention reads it too), then position by position the K rows.
        prefix: P.
        weight, bias: query, key and value projection as one matrix (3C, C), and its bias, made by the layer.
    """

    def __init__(self) -> None:
        self.buffer: Tensor | None = None
        self.prefix = 0
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None

    def put_prefix(self, keys: Tensor, values: Tensor) -> None:
        """Set the slots in front: keys and values (B, H, P, D) that all rows of a sentence read."""
        self.prefix = keys.size(2)
        self.buffer = torch.stack((keys, values))

    def append(self, keys_values: Tensor, beam: int, start: int, max_length: int) -> tuple[Tensor, Tensor]:
        """Write `keys_values` (2, B, K, T, H, D) at positions `start`…; all (B, H, P + L·K, D) come back."""
        _, sentences, _, new, heads, width = keys_values.shape
        used = self.prefix + start * beam
        end = used + new * beam
        if self.buffer is None or self.buffer.size(3) < end:
            positions = start + new
            capacity = max(positions, min(max(2 * start, _FIRST_CAPACITY), max_length))
            larger = keys_values.new_empty(2, sentences, heads, self.prefix + capacity * beam, width)
            if self.buffer is not None and used:
                larger[:, :, :, :used] = self.buffer[:, :, :, :used]
            self.buffer = larger
        target = self.buffer[:, :, :, used:end]
        target.view(2, sentences, heads, new, beam, width).copy_(keys_values.permute(0, 1, 4, 3, 2, 5))
        filled = self.buffer[:, :, :, :end]
        return filled[0], filled[1]

    def forget(self, slots: int, used: int) -> None:
        """Drop the first `slots` of the `used` slots behind the prefix."""
        if self.buffer is not None:
            start, end = self.prefix, self.prefix + used
            self.buffer[:, :, :, start : end - slots] = self.buffer[:, :, :, start + slots : end].clone()

    def select(self, index: Tensor, used: int) -> None:
        """Keep the sentences `index` (B',); `used` positions times rows are filled."""
        if self.buffer is not None:
            end = self.prefix + used
            kept = self.buffer[:, :, :, :end].index_select(1, index)
            if index.numel() <= self.buffer.size(1):
                # in place: fresh memory for the whole capacity costs more than the copy
                self.buffer = self.buffer[:, : index.numel()]
            else:
                self.buffer = self.buffer.new_empty(2, index.numel(), *self.buffer.shape[2:])
            self.buffer[:, :, :, :end] = kept


class SourceAttentionCache:
    """Keys and values (B, H, S, D) of the encoded source in one cross-attention layer: one copy per sentence."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def select(self, index: Tensor) -> None:
        """Keep the sentences `index` (B',)."""
        if self.keys is not None and self.values is not None:
            self.keys = self.keys.index_select(0, index)
            self.values = self.values.index_select(0, index)


class TransformerCache:
    """Cache of a stack of attention layers; a `DecoderCache`.

    Args:
        layers: how many decoder layers there are.
        rows: N, hypotheses decoded side by side.
        max_length: the most target positions that will be decoded.
        beam: K, how many adjacent rows make one sentence. It is what makes `reorder` free of copying; 1 where
            rows are never reordered.
        device: where the tokens are.

    Raises:
        ValueError: `rows` is not a multiple of `beam`.
    """

    def __init__(self, layers: int, rows: int, max_length: int, *, beam: int = 1, device: torch.device | str) -> None:
        if beam < 1 or rows % beam:
            raise ValueError(f"a cache of rows={rows} cannot be shared out to sentences of beam={beam} rows each")
        self.rows = rows
        self.beam = beam
        self.max_length = max_length
        self.self_attention = [SelfAttentionCache() for _ in range(layers)]
        self.source_attention = [SourceAttentionCache() for _ in range(layers)]
        self.source_mask: Tensor | None = None
        self._sources: int | None = None
        # For each row and position, which row of the sentence wrote it; -1 where the token was padding.
        self.ancestors = torch.empty(rows, min(max_length, _FIRST_CAPACITY), dtype=torch.int64, device=device)
        self._own_row = torch.arange(rows, device=device) % beam
        self._slots = torch.arange(beam, device=device)
        self._length = 0

    @property
    def length(self) -> int:
        """Target positions already decoded."""
        return self._length

    def set_source(self, sentences: int, mask: Tensor | None) -> None:
        """Tell of how many sentences the source is, and its additive mask (B, 1, 1, S). Call before the first step."""
        self._sources = sentences
        self.source_mask = mask

    def advance(self, padding: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Make room for new tokens and say what they may see. Call once per step, before the layers.

        Args:
            padding: (N, T) bool, True where a new token is padding.
            dtype: of the mask.

        Returns:
            mask: (N/K, 1, K·T, L·K) additive: `MASKED` for positions that another hypothesis wrote, that hold
                padding, or that lie in the future; L counts the new tokens. It has no columns for a prefix.
            positions: (N, T) int64, how many tokens that are not padding there are up to and including each one;
                0 at padding.

        Raises:
            ValueError: the cache is full, or the rows are not those it was made for.
        """
        rows, new = padding.shape
        length = self._length + new
        if rows != self.rows or length > self.max_length:
            raise ValueError(
                f"{rows} rows of {new} new tokens do not fit a cache of {self.rows} rows, "
                f"{self._length} of at most {self.max_length} positions filled"
            )
        if length > self.ancestors.size(1):
            capacity = min(max(2 * self.ancestors.size(1), length), self.max_length)
            larger = self.ancestors.new_empty(rows, capacity)
            larger[:, : self._length] = self.ancestors[:, : self._length]
            self.ancestors = larger
        self.ancestors[:, self._length : length] = torch.where(padding, -1, self._own_row.unsqueeze(1))
        seen = self.ancestors[:, :length]
        allowed = seen.view(-1, self.beam, 1, length, 1) == self._slots
        if new > 1:
            steps = torch.arange(length, device=seen.device)
            allowed = allowed & (steps <= steps[self._length :].unsqueeze(1)).unsqueeze(-1)
        mask = torch.where(allowed, 0.0, MASKED).to(dtype).view(rows // self.beam, 1, -1, length * self.beam)
        real = seen >= 0
        positions = real.sum(1, keepdim=True) if new == 1 else real.cumsum(1)[:, self._length :]
        self._length = length
        return mask, positions.masked_fill(padding, 0)

    def reorder(self, index: Tensor) -> None:
        """Make row i what row `index[i]` was; see `DecoderCache.reorder`.

        With `beam` above 1 only a table of (N, L) numbers is rewritten. With `beam=1` rows are copied, and `index`
        may have any length (N' rows then).

        Raises:
            ValueError: with `beam` above 1, `index` has another length than N or moves a row to another sentence.
        """
        used = self.ancestors[:, : self._length].index_select(0, index)
        if self.beam == 1:
            for layer in self.self_attention:
                layer.select(index, self._length)
            self._set_rows(used)
            return
        if index.numel() != self.rows:
            raise ValueError(f"reorder was given {index.numel()} rows, the cache has {self.rows}")
        if index.device.type == "cpu" and not torch.equal(index // self.beam, self._sentence_of_row()):
            raise ValueError("reorder was given an index that moves rows between sentences; use select_sentences")
        self.ancestors[:, : self._length] = used

    def select_sentences(self, index: Tensor) -> None:
        """Keep the sentences `index` (B',), in that order, with all their rows; see `DecoderCache`."""
        per_sentence = self.beam
        if self._sources is not None:
            per_sentence = self.rows // self._sources
            self._sources = index.numel()
        for cross in self.source_attention:
            cross.select(index)
        if self.source_mask is not None:
            self.source_mask = self.source_mask.index_select(0, index)
        groups = spread(index, per_sentence // self.beam)
        for layer in self.self_attention:
            layer.select(groups, self._length * self.beam)
        self._set_rows(self.ancestors[:, : self._length].index_select(0, spread(index, per_sentence)))

    def _set_rows(self, used: Tensor) -> None:
        self.rows = used.size(0)
        self.ancestors = self.ancestors.new_empty(self.rows, self.ancestors.size(1))
        self.ancestors[:, : self._length] = used
        self._own_row = self._slots.repeat(self.rows // self.beam)

    def _sentence_of_row(self) -> Tensor:
        return torch.arange(self.rows, device=self.ancestors.device) // self.beam


def spread(index: Tensor, count: int) -> Tensor:
    """Of each number i, the numbers i·count … i·count + count-1."""
    if count == 1:
        return index
    return (index.unsqueeze(1) * count + torch.arange(count, device=index.device)).flatten()
