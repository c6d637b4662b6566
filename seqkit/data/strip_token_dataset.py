"""`StripTokenDataset`: token rows without the copies of one token at the end of each."""

from __future__ import annotations

from torch import Tensor

from seqkit.data.sequence_dataset import SizedTokenRows


class StripTokenDataset:
    """Rows of `rows` with `token` taken from their ends.

    `sizes` stay those of `rows` (nothing is read to find out how much goes), so they are upper bounds.

    Args:
        rows: the rows to shorten.
        token: id to take away, as often as it stands at the end.
    """

    def __init__(self, rows: SizedTokenRows, token: int) -> None:
        self.rows = rows
        self.token = token
        self.sizes = rows.sizes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row = self.rows[index]
        kept = (row != self.token).nonzero()
        return row[: int(kept[-1]) + 1 if len(kept) else 0]
