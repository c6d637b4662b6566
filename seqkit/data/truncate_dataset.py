"""`TruncateDataset`: the beginnings of token rows."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from seqkit.data.sequence_dataset import SizedTokenRows


class TruncateDataset:
    """The first `length` tokens of each of `rows`.

    Args:
        rows: the rows to cut.
        length: most tokens to keep.
    """

    def __init__(self, rows: SizedTokenRows, length: int) -> None:
        if length < 1:
            raise ValueError(f"rows cannot be cut to {length} tokens")
        self.rows = rows
        self.length = length
        self.sizes = np.minimum(rows.sizes, length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return self.rows[index][: self.length]
