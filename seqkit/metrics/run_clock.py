"""When a whole run will end, judged by how fast it has gone so far.

Knows nothing of what an update is, or of how the answer is shown.
"""

from __future__ import annotations

import time


class RunClock:
    """Seconds that are left of a run that ends by whichever of its bounds comes first.

    Args:
        max_update: updates in all; 0 for no bound.
        max_epoch: epochs in all; 0 for no bound.
        max_seconds: seconds of training in all, those of earlier runs too; 0 for no bound.
    """

    def __init__(self, *, max_update: int = 0, max_epoch: float = 0, max_seconds: float = 0) -> None:
        self._max_update = max_update
        self._max_epoch = max_epoch
        self._max_seconds = max_seconds
        self.begin(0, 0)

    def begin(self, updates: int, epochs: float, seconds: float = 0) -> None:
        """The run begins, or goes on after so many updates, epochs and seconds of training."""
        self._updates, self._epochs, self._seconds = updates, epochs, seconds
        self._start = time.perf_counter()

    def left(self, updates: int, epochs: float) -> float | None:
        """Seconds to the end, `updates` and `epochs` (with their fraction) being done; None where nobody can tell."""
        elapsed = time.perf_counter() - self._start
        ends = [
            elapsed * max(whole - done, 0) / (done - before)
            for whole, done, before in (
                (self._max_update, updates, self._updates),
                (self._max_epoch, epochs, self._epochs),
            )
            if whole and done > before
        ]
        if self._max_seconds:
            ends.append(max(self._max_seconds - self._seconds - elapsed, 0))
        return min(ends, default=None)
