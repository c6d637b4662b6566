"""Caches of incremental decoding: typed objects that belong to the caller, not to the modules.

A decoder that is run one token at a time keeps what it computed for earlier tokens in a `DecoderCache`.
The caller makes one per generation with `decoder.new_cache(...)`, hands it to every step, reorders its rows
when beams move, and drops the sentences that are finished. Knows nothing of scores, search or tokens' meaning.
Axes: B sentences, K rows per sentence (the beam), N = B·K rows (those of one sentence adjacent), L cached length,
S source length, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

MASKED = -3.0e4
"""Added to attention scores that must not count: their softmax is exactly 0 in every floating type, and a row in
which everything is masked stays finite."""

_FIRST_POSITIONS = 16


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
    """

    def __init__(self) -> None:
        self.buffer: Tensor | None = None
        self.prefix = 0

    def put_prefix(self, keys: Tensor, values: Tensor) -> None:
        """Set the slots in front: keys and values (B, H, P, D) that all rows of a sentence read."""
        self.prefix = keys.size(2)
        self.buffer = torch.stack((keys, values))

    def append(
        self, keys_values: Tensor, beam: int, start: int, max_length: int, slots: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Write `keys_values` (2, B, K, T, H, D) at positions `start`…; all (B, H, P + L·K, D) come back.

        `slots`: so many (B, H, `slots`, D) come back instead; what was not written is some finite number.
        """
        _, sentences, _, new, heads, width = keys_values.shape
        used = self.prefix + start * beam
        end = used + new * beam
        buffer = self._with_room(keys_values, heads, used, slots or end, beam, max_length)
        target = buffer[:, :, :, used:end]
        target.view(2, sentences, heads, new, beam, width).copy_(keys_values.permute(0, 1, 4, 3, 2, 5))
        filled = buffer[:, :, :, : slots or end]
        return filled[0], filled[1]

    def append_one(
        self, keys_values: Tensor, beam: int, start: int, max_length: int, slots: int
    ) -> tuple[Tensor, Tensor]:
        """As `append`, for one position of all rows, or of one that stands for all.

        Args:
            keys_values: (2, B, H, K or 1, D).

        Returns:
            Keys (B·H, D, `slots`) and values (B·H, `slots`, D).
        """
        _, sentences, heads, _, width = keys_values.shape
        used = self.prefix + start * beam
        buffer = self._with_room(keys_values, heads, used, slots, beam, max_length)
        buffer.narrow(3, used, beam).copy_(keys_values)
        keys, values = buffer.view(2, sentences * heads, -1, width).narrow(2, 0, slots).unbind()
        return keys.transpose(1, 2), values

    def room_for_one(self, beam: int, start: int, max_length: int, slots: int) -> tuple[Tensor, int]:
        """The buffer, with room for one more position, and where that ends; not at the first position.

        For who writes it himself. Arguments as of `append_one`. It has more than `slots` slots: what is compiled for
        part of a buffer would be compiled again for a whole one.
        """
        assert self.buffer is not None, "the first position has made the buffer"
        used = self.prefix + start * beam
        return self._with_room(self.buffer, self.buffer.size(2), used, slots + 1, beam, max_length), used + beam

    def _with_room(self, like: Tensor, heads: int, used: int, slots: int, beam: int, max_length: int) -> Tensor:
        """The buffer, with at least `slots` slots behind each other, of which `used` are filled."""
        if self.buffer is None or self.buffer.size(3) < slots:
            positions = min(max(2 * (used - self.prefix) // beam, _FIRST_POSITIONS), max_length)
            capacity = max(self.prefix + positions * beam, slots)
            larger = like.new_empty(2, like.size(1), heads, capacity, like.size(-1))
            larger[:, :, :, used:] = 0.0
            if self.buffer is not None:
                larger[:, :, :, :used] = self.buffer[:, :, :, :used]
            self.buffer = larger
        return self.buffer

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
    """Keys and values of the encoded source in one cross-attention layer: one copy per sentence, head by head.

    Attributes:
        sentences: B.
        keys: (B·H, D, S').
        values: (B·H, S', D).
        bias: (B·H, 1, S'), additive; None until there is a source. S' is S, or more, with the rest masked.
    """

    def __init__(self) -> None:
        self.sentences = 0
        self.keys = torch.empty(0)
        self.values = torch.empty(0)
        self.bias: Tensor | None = None

    def put(self, keys: Tensor, values: Tensor, mask: Tensor | None, slots: int) -> None:
        """Take keys and values (B, H, S, D) and the additive mask (B, 1, 1, S), filled up to S' = `slots`."""
        self.sentences, heads, length, width = keys.shape
        count = self.sentences * heads
        self.keys = keys.new_zeros(self.sentences, heads, width, slots)
        self.keys[..., :length] = keys.transpose(2, 3)
        self.keys = self.keys.view(count, width, slots)
        self.values = values.new_zeros(self.sentences, heads, slots, width)
        self.values[:, :, :length] = values
        self.values = self.values.view(count, slots, width)
        bias = keys.new_full((self.sentences, heads, 1, slots), MASKED)
        bias[..., :length] = 0.0 if mask is None else mask
        self.bias = bias.view(count, 1, slots)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Keys, values and bias, where there is a source."""
        return None if self.bias is None else (self.keys, self.values, self.bias)

    def select(self, index: Tensor) -> None:
        """Keep the sentences `index` (B',)."""
        if self.bias is not None:
            places = spread(index, self.bias.size(0) // self.sentences)
            self.keys, self.values, self.bias = (
                part.index_select(0, places) for part in (self.keys, self.values, self.bias)
            )
            self.sentences = index.numel()


class TransformerCache:
    """Cache of a stack of attention layers; a `DecoderCache`.

    Args:
        layers: how many decoder layers there are.
        rows: N, hypotheses decoded side by side.
        max_length: the most target positions that will be decoded.
        beam: K, how many adjacent rows make one sentence. It is what makes `reorder` free of copying; 1 where
            rows are never reordered.
        device: where the tokens are.

    Attributes:
        dtype: of what is stored; set with `steps`.
        steps: the layers, made ready by the decoder at its first call.
        begins_alike: whether the first position may be that of one row of each sentence, which stands for all K.

    Raises:
        ValueError: `rows` is not a multiple of `beam`.
    """

    begins_alike = True

    def __init__(self, layers: int, rows: int, max_length: int, *, beam: int = 1, device: torch.device | str) -> None:
        if beam < 1 or rows % beam:
            raise ValueError(f"a cache of rows={rows} cannot be shared out to sentences of beam={beam} rows each")
        self.rows = rows
        self.beam = beam
        self.max_length = max_length
        self.self_attention = [SelfAttentionCache() for _ in range(layers)]
        self.source_attention = [SourceAttentionCache() for _ in range(layers)]
        self.source_mask: Tensor | None = None
        self.dtype = torch.float32
        self.steps: list[Callable[..., tuple[Tensor, Tensor | None]]] = []
        self._sources: int | None = None
        # For each row and position, which row of the sentence wrote it; -1 where the token was padding.
        self.ancestors = torch.empty(rows, min(max_length, _FIRST_POSITIONS), dtype=torch.int64, device=device)
        self._own_row = torch.arange(rows, device=device) % beam
        self._slots = torch.arange(beam, device=device)
        self._sentence_of_row = torch.arange(rows, device=device) // beam
        self._length = 0
        # Whether every row sees all positions that it or its ancestors wrote.
        self._sees_all = True

    @property
    def length(self) -> int:
        """Target positions already decoded."""
        return self._length

    @property
    def stored(self) -> int:
        """Positions whose keys and values are there: all."""
        return self._length

    def set_source(self, sentences: int, mask: Tensor | None) -> None:
        """Tell of how many sentences the source is, and its additive mask (B, 1, 1, S). Call before the first step."""
        self._sources = sentences
        self.source_mask = mask

    def advance(self, padding: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Make room for new tokens and say what they may see. Call once per step, before the layers.

        Args:
            padding: (N, T) bool, True where a new token is padding.
            dtype: of the mask.

        Returns:
            mask: (N/K, 1, K·T, L·K) additive: `MASKED` for positions that another hypothesis wrote, that hold
                padding, or that lie in the future; L counts the new tokens. It has no columns for a prefix.
            positions: (N, T) int64, how many tokens that are not padding there are up to and including each one;
                0 at padding. None where it is known that no token was padding: then all are counted.

        Raises:
            ValueError: the cache is full, or the rows are not those it was made for.
        """
        rows, new = padding.shape
        length = self._length + new
        alike = self.beam if self.begins_alike and length == 1 and rows * self.beam == self.rows else 1
        if rows * alike != self.rows or length > self.max_length:
            raise ValueError(
                f"{rows} rows of {new} new tokens do not fit a cache of {self.rows} rows, "
                f"{self._length} of at most {self.max_length} positions filled"
            )
        if length > self.ancestors.size(1):
            capacity = min(max(2 * self.ancestors.size(1), length), self.max_length)
            larger = self.ancestors.new_empty(self.rows, capacity)
            larger[:, : self._length] = self.ancestors[:, : self._length]
            self.ancestors = larger
        if self._sees_all and (padding.device.type != "cpu" or bool(padding.any())):
            self._sees_all = False
        written = self._own_row.unsqueeze(1)
        if not self._sees_all:
            written = torch.where(padding.repeat_interleave(alike, 0), -1, written)
        self.ancestors[:, self._length : length] = written
        seen = self.ancestors[::alike, :length]
        if self._sees_all and self.beam == new == 1:
            mask = torch.zeros(rows, 1, 1, length, dtype=dtype)
        else:
            hidden = seen.view(-1, self.beam // alike, 1, length, 1) != self._slots
            if new > 1:
                steps = torch.arange(length, device=seen.device)
                hidden = hidden | (steps > steps[self._length :].unsqueeze(1)).unsqueeze(-1)
            mask = hidden.to(dtype).mul_(MASKED).view(self.rows // self.beam, 1, -1, length * self.beam)
        positions: Tensor | None = None
        if not self._sees_all:
            real = seen >= 0
            counted = real.sum(1, keepdim=True) if new == 1 else real.cumsum(1)[:, self._length :]
            positions = counted.masked_fill(padding, 0)
        self._length = length
        return mask, positions

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
        if index.device.type == "cpu" and not torch.equal(index // self.beam, self._sentence_of_row):
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
        self._sentence_of_row = torch.arange(self.rows, device=used.device) // self.beam


def spread(index: Tensor, count: int) -> Tensor:
    """Of each number i, the numbers i·count … i·count + count-1."""
    if count == 1:
        return index
    return (index.unsqueeze(1) * count + torch.arange(count, device=index.device)).flatten()
