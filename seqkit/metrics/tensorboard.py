"""TensorBoard: one folder of scalars for each stream (`train_inner`, `train`, `valid`, …), through tensorboardX.

Knows nothing of training; figures come as a name-to-number mapping.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from seqkit.errors import require_extra
from seqkit.metrics.meters import AverageMeter, as_number


class TensorBoardLog:
    """Writers below one folder, opened when their stream is first written to.

    Made once for a run, so that the streams of all its epochs go into the same event files.

    Args:
        folder: the folder to point TensorBoard at; made when missing.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._module = require_extra("tensorboardX", extra="plot", purpose="common.tensorboard_logdir")
        self._writers: dict[str, Any] = {}

    def write(self, stats: Mapping[str, Any], stream: str, step: int | None = None) -> None:
        """Write the numbers of `stats` at `step` (default: the figure `num_updates`) and flush."""
        if step is None:
            step = int(as_number(stats["num_updates"]))
        writer = self._writer(stream)
        for key, value in stats.items():
            number = value.val if isinstance(value, AverageMeter) else value
            if key != "num_updates" and number is not None:
                writer.add_scalar(key, as_number(number), step)
        writer.flush()

    def close(self) -> None:
        """Close all writers; writing again reopens them."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _writer(self, stream: str) -> Any:
        if stream not in self._writers:
            writer = self._module.SummaryWriter(str(self.folder / stream))
            writer.add_text("sys.argv", " ".join(sys.argv))
            self._writers[stream] = writer
        return self._writers[stream]
