"""`PromptDataset`: beginnings of texts, which a language model continues or scores.

Knows nothing of where they come from, or of the search. Axes: B batch, T length with the symbol in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from seqkit.data.collate import collate_tokens
from seqkit.data.dictionary import Dictionary
from seqkit.data.sequence_dataset import Indices, SequenceDataset, Sizes, TokenRows
from seqkit.data.strip_token_dataset import StripTokenDataset


class Prompt(NamedTuple):
    """One beginning: its number, and (t,) its tokens without anything around them."""

    id: int
    tokens: Tensor


class PromptDataset(SequenceDataset):
    """Rows of tokens with `begin` put before them and EOS taken from their ends.

    In a batch, `src_tokens` (B, T) are `begin` and the tokens, `target` the tokens and one symbol of padding.

    Args:
        rows: token rows.
        sizes: (n,) their lengths; with an EOS at the end, which gives way to `begin`, those of the result too.
        dictionary: gives the symbols for padding and EOS.
        begin: what stands before the first token of a text.
    """

    def __init__(self, rows: TokenRows, sizes: Sizes, dictionary: Dictionary, *, begin: int) -> None:
        self._rows = StripTokenDataset(_Sized(rows, sizes), dictionary.eos())
        self._sizes = sizes
        self.pad = dictionary.pad()
        self.begin = begin

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def sizes(self) -> Sizes:
        return self._sizes

    def __getitem__(self, index: int) -> Prompt:
        return Prompt(index, self._rows[index])

    def collater(self, samples: Sequence[Prompt]) -> Any:
        """Join beginnings into one `Sample`, padded on the right."""
        if not samples:
            return {}
        rows = [item.tokens for item in samples]
        begin, pad = rows[0].new_tensor([self.begin]), rows[0].new_tensor([self.pad])
        lengths = torch.tensor([len(row) + 1 for row in rows])
        return {
            "id": torch.tensor([item.id for item in samples]),
            "nsentences": len(samples),
            "ntokens": int(lengths.sum()),
            "net_input": {
                "src_tokens": collate_tokens([torch.cat((begin, row)) for row in rows], self.pad),
                "src_lengths": lengths,
            },
            "target": collate_tokens([torch.cat((row, pad)) for row in rows], self.pad),
        }

    def ordered_indices(self, rng: np.random.RandomState | None = None) -> Indices:
        """Beginnings by length."""
        return np.argsort(self._sizes, kind="stable")


class _Sized:
    """Token rows with their lengths."""

    def __init__(self, rows: TokenRows, sizes: Sizes) -> None:
        self._rows = rows
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        return self._rows[index]
