"""`AppendTokenDataset`: token rows with one more token at the end of each."""

from __future__ import annotations

import torch
from torch import Tensor

from seqkit.data.sequence_dataset import SizedTokenRows


class AppendTokenDataset:
    """Rows of `rows`, each followed by `token`.

    Args:
        rows: the rows to lengthen.
        token: id to append.
    """

    def __init__(self, rows: SizedTokenRows, token: int) -> None:
        self.rows = rows
        self.token = token
        self.sizes = rows.sizes + 1

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row = self.rows[index]
        return torch.cat([row, row.new_full((1,), self.token)])
