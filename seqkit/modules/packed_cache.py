"""A cache of self-attention for texts made of several documents, and for attention that looks back a bounded way.

Knows nothing of what begins a document. Axes: N rows, K rows per sentence, T new tokens, L stored positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.modules.cache import MASKED, TransformerCache, spread


class PackedCache(TransformerCache):
    """A `TransformerCache` that hides earlier documents, and forgets what lies before the attention's window.

    Args:
        layers, rows, max_length, beam, device: as of `TransformerCache`.
        window: how many positions a token sees, its own among them; None: all. At most 2 · `window` positions (and
            those of one step) are stored.
    """

    begins_alike = False

    def __init__(
        self,
        layers: int,
        rows: int,
        max_length: int,
        *,
        beam: int = 1,
        device: torch.device | str,
        window: int | None = None,
    ) -> None:
        super().__init__(layers, rows, max_length, beam=beam, device=device)
        self.window = window
        self._blocks: tuple[int, int, int] | None = None
        self._forgotten = 0
        self._sees_all = False
        # Tokens of each row's document that are forgotten.
        self._forgotten_tokens = torch.zeros(rows, 1, dtype=torch.int64, device=device)

    @property
    def length(self) -> int:
        return self._forgotten + self._length

    @property
    def stored(self) -> int:
        """Positions whose keys and values are still there."""
        return self._length

    def advance(self, padding: Tensor, dtype: torch.dtype, *, begins: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `TransformerCache.advance`, for L stored positions.

        Args:
            padding: (N, T) bool, True where a new token is padding.
            dtype: of the mask.
            begins: (N, T) bool, True where a new token begins a document: it and those behind it do not see what was
                before it, and positions count from 1 again.
        """
        new = padding.size(1)
        if self.length + new > self.max_length:
            raise ValueError(
                f"{new} new tokens do not fit a cache of at most {self.max_length} positions, {self.length} of them "
                "filled"
            )
        if self.window is not None and self._length > 2 * self.window:
            self._forget(self._length - self.window + 1)
        if self._blocks is not None:
            first = torch.tensor([self._length])
            self._forget(min(max(int(self._furthest(first)), 0), self._length))
        start = self._length
        document: Tensor | None = None
        if begins is not None:
            document = begins.cumsum(1)
            if new == 1:
                self._hide(begins, start)
        mask, positions = super().advance(padding, dtype)
        assert positions is not None
        rows_TLK = mask.view(-1, self.beam, new, self._length, self.beam)
        if self.window is not None and self._length > self.window:
            steps = torch.arange(self._length, device=mask.device)
            hidden = steps <= steps[start:].unsqueeze(1) - self.window
            rows_TLK.masked_fill_(hidden.unsqueeze(-1), MASKED)
        if self._blocks is not None:
            steps = torch.arange(self._length, device=mask.device)
            hidden = steps < self._furthest(steps[start:]).unsqueeze(1)
            rows_TLK.masked_fill_(hidden.unsqueeze(-1), MASKED)
        positions = positions + self._forgotten_tokens.masked_fill(padding, 0)
        if document is not None and begins is not None and new > 1:
            before = document.eq(0).unsqueeze(2).expand(-1, -1, start)
            hidden = ~torch.cat((before, document.unsqueeze(2) == document.unsqueeze(1)), dim=2)
            rows_TLK.masked_fill_(hidden.view(-1, self.beam, new, self._length, 1), MASKED)
            counted = (~padding).cumsum(1)
            earlier = torch.where(begins, counted - 1, 0).cummax(1).values
            positions = torch.where(document.eq(0) | padding, positions, counted - earlier)
            self._hide(document[:, -1:] > 0, start)
            self.ancestors[:, start : self._length].masked_fill_(document != document[:, -1:], -1)
        return mask, positions

    def see_blocks(self, begin: int, block: int, context: int) -> None:
        """From now on blocks of `block` positions, from `begin` on, see `context` positions before them and no more."""
        self._blocks = begin, block, context

    def reorder(self, index: Tensor) -> None:
        """Make row i what row `index[i]` was; see `TransformerCache.reorder`."""
        super().reorder(index)
        self._forgotten_tokens = self._forgotten_tokens.index_select(0, index)

    def select_sentences(self, index: Tensor) -> None:
        """Keep the sentences `index` (B',), in that order, with all their rows; see `DecoderCache`."""
        super().select_sentences(index)
        self._forgotten_tokens = self._forgotten_tokens.index_select(0, spread(index, self.beam))

    def _furthest(self, places: Tensor) -> Tensor:
        """How far back the stored positions `places` see, in stored positions."""
        assert self._blocks is not None
        begin, block, context = self._blocks
        begin -= self._forgotten
        return begin + (places - begin).clamp(min=0) // block * block - context

    def _hide(self, rows: Tensor, end: int) -> None:
        """Let the rows where `rows` (N, 1) is True see no stored position below `end` any more."""
        self.ancestors[:, :end].masked_fill_(rows, -1)
        self._forgotten_tokens.masked_fill_(rows, 0)

    def _forget(self, count: int) -> None:
        """Drop the `count` oldest positions."""
        used = self.ancestors[:, : self._length]
        self._forgotten_tokens += (used[:, :count] >= 0).sum(1, keepdim=True)
        self.ancestors[:, : self._length - count] = used[:, count:].clone()
        for layer in self.self_attention:
            layer.forget(count * self.beam, self._length * self.beam)
        self._length -= count
        self._forgotten += count
