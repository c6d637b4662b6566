"""The training batches, epoch after epoch, where the data itself may change from epoch to epoch.

Knows nothing of updates or models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqkit.data.iterators import CountingIterator, EpochBatchIterator


class TrainData:
    """Owns the `EpochBatchIterator` in use.

    Args:
        load: loads an epoch's data and makes its iterator.
        reload: the data differs from epoch to epoch (`Task.has_sharded_data`).
    """

    def __init__(self, load: Callable[[int], EpochBatchIterator], *, reload: bool) -> None:
        self._load = load
        self._reload = reload
        self._loaded_epoch = 1
        self.iterator = load(1)

    @property
    def epoch(self) -> int:
        """The epoch that is going on, or was last."""
        return self.iterator.epoch

    @property
    def epochs_done(self) -> float:
        """Epochs that are done, with the fraction of a resumed one."""
        if self.next_epoch != self.epoch:
            return self.epoch
        return self.epoch - 1 + self.iterator.iterations_in_epoch / max(1, len(self.iterator))

    @property
    def next_epoch(self) -> int:
        """The epoch that `begin_epoch` begins (or goes on with)."""
        return self.iterator.next_epoch_idx

    def begin_epoch(self, *, shuffle: bool, fix_batches_to_gpus: bool = False) -> CountingIterator[Any]:
        """The batches of the next epoch, or the rest of a resumed one."""
        self._want(self.next_epoch)
        return self.iterator.next_epoch_itr(shuffle=shuffle, fix_batches_to_gpus=fix_batches_to_gpus)

    def state_dict(self) -> dict[str, Any]:
        """The position."""
        return self.iterator.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._want(int(state["epoch"]))
        self.iterator.load_state_dict(state)

    def _want(self, epoch: int) -> None:
        if self._reload and epoch != self._loaded_epoch:
            self._loaded_epoch = epoch
            self.iterator = self._load(epoch)
