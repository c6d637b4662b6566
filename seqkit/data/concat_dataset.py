"""`ConcatDataset`: several sets of token rows, one behind the other, some of them repeated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from torch import Tensor

from seqkit.data.sequence_dataset import SizedTokenRows


class ConcatDataset:
    """The rows of the first of `parts`, then those of the second, and so on.

    Args:
        parts: the sets to join.
        repeats: how often each is counted (upsampling); once each by default.
    """

    def __init__(self, parts: Sequence[SizedTokenRows], repeats: Sequence[int] | None = None) -> None:
        self.parts = list(parts)
        times = [1] * len(self.parts) if repeats is None else list(repeats)
        if len(times) != len(self.parts) or min(times) < 1:
            raise ValueError(f"repeats={times} must give a number of at least 1 for each of {len(self.parts)} sets")
        self._ends = list(accumulate(len(part) * n for part, n in zip(self.parts, times, strict=True)))
        self.sizes = np.concatenate([np.tile(part.sizes, n) for part, n in zip(self.parts, times, strict=True)])

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of a dataset of {len(self)} rows")
        number = bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return self.parts[number][(index - start) % len(self.parts[number])]
