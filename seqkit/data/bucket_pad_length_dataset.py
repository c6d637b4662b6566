"""`BucketPadLengthDataset`: token rows padded so that only a few lengths occur (for compilers that dislike many)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from seqkit.data.sequence_dataset import Sizes, TokenRows


class BucketPadLengthDataset:
    """Rows of `rows`, each padded to the next of at most `num_buckets` lengths.

    The lengths are quantiles of `sizes`, so that the buckets hold about equally many rows.

    Args:
        rows: the rows to pad.
        sizes: (n,) their lengths.
        num_buckets: most different lengths.
        pad_idx: the padding token.
        left_pad: pad on the left.
    """

    def __init__(self, rows: TokenRows, sizes: Sizes, num_buckets: int, pad_idx: int, left_pad: bool) -> None:
        self.rows = rows
        self.pad_idx = pad_idx
        self.left_pad = left_pad
        self.buckets = bucket_lengths(sizes, num_buckets)
        self.sizes: Sizes = self.buckets[np.searchsorted(self.buckets, sizes)]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row = self.rows[index]
        missing = int(self.sizes[index]) - len(row)
        return pad(row, (missing, 0) if self.left_pad else (0, missing), value=self.pad_idx)


def bucket_lengths(sizes: Sizes, num_buckets: int) -> NDArray[np.integer[Any]]:
    """The distinct lengths, ascending, of `num_buckets` buckets of about equally many rows."""
    quantiles = np.percentile(sizes, np.linspace(0, 100, num_buckets + 1)[1:], method="lower")
    return np.unique(quantiles)
