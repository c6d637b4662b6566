"""Going over a dataset epoch by epoch, batch by batch, in an order that can be repeated and resumed.

The order is fairseq's for the same seed. Knows nothing of models, of updates, or of what a batch holds.
"""

from __future__ import annotations

import logging
import math
import signal
import traceback
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from seqkit.data.sequence_dataset import Indices, SequenceDataset
from seqkit.errors import DataError, SeqkitError, UserError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NO_ITEMS: Indices = np.empty(0, dtype=np.int64)


class SampleError(SeqkitError):
    """A fault while an item was read or a batch was put together; the text says which."""


class CountingIterator(Generic[T]):
    """An iterator that knows how many items it has given (`n`) and how many it gives in all (`total`).

    Args:
        iterable: where items come from.
        start: number of items counted as given already; that of `iterable` if it counts too.
        total: items in all, the `start` ones among them; by default `start` plus the length of `iterable`.
    """

    def __init__(self, iterable: Iterable[T], start: int | None = None, total: int | None = None) -> None:
        if start is None:
            start = iterable.n if isinstance(iterable, CountingIterator) else 0
        if total is None:
            if isinstance(iterable, CountingIterator):
                total = iterable.total
            elif isinstance(iterable, Sized):
                total = start + len(iterable)
            else:
                raise TypeError("total must be given for an iterable without a length")
        self._iterator = iter(iterable)
        self.n: int = start
        self.total: int = total

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self.has_next():
            raise StopIteration
        try:
            item = next(self._iterator)
        except StopIteration:
            raise SeqkitError(f"{self.total} items were expected, but there are only {self.n}") from None
        self.n += 1
        return item

    def has_next(self) -> bool:
        """Whether items are left."""
        return self.n < self.total

    def skip(self, count: int) -> CountingIterator[T]:
        """Pass over the next `count` items."""
        for _ in range(count):
            next(self)
        return self

    def take(self, count: int) -> CountingIterator[T]:
        """End after at most `count` items, those given already among them."""
        self.total = min(self.total, count)
        return self


class GroupedIterator(CountingIterator[list[T]]):
    """Lists of `chunk_size` successive items: the batches of one update.

    Args:
        itr: the items; where it counts, counting goes on from there.
        chunk_size: items of a list; the last list may be shorter.
        skip_remainder_batch: leave a shorter last list out.
    """

    def __init__(self, itr: CountingIterator[T] | Sequence[T], chunk_size: int, skip_remainder_batch: bool = False):
        if chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size} must be at least 1")
        given = itr.n if isinstance(itr, CountingIterator) else 0
        groups = (len(itr) - given) / chunk_size
        start = math.ceil(given / chunk_size)
        if skip_remainder_batch and isinstance(itr, CountingIterator):
            itr.take(given + math.floor(groups) * chunk_size)
        super().__init__(
            _groups(itr, chunk_size),
            start=start,
            total=start + (math.floor(groups) if skip_remainder_batch else math.ceil(groups)),
        )
        self.chunk_size = chunk_size


def _groups(items: Iterable[T], chunk_size: int) -> Iterator[list[T]]:
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == chunk_size:
            yield group
            group = []
    if group:
        yield group


class EpochBatchIterator:
    """Batches of a dataset for one epoch after the other.

    The batches are cut once, from `dataset.ordered_indices` under the random seed `seed + epoch` of the first epoch;
    each epoch shuffles the list of batches under `seed + epoch`; of that list, each shard takes every
    `num_shards`-th batch. Shards that would come out short end with an empty batch (`{}`).

    Args:
        dataset: what to go over.
        max_tokens: most tokens of a batch, padding included.
        max_sentences: most items of a batch.
        max_positions: longest item, see `SequenceDataset.filter_by_size`.
        ignore_invalid_inputs: leave items out that are longer than `max_positions` or `max_tokens`, with a warning,
            instead of raising.
        required_batch_size_multiple: sizes of batches are multiples of it.
        drop_ragged_batch: drop the last batch of the list if its size is no multiple (fairseq does so always), unless
            it is the only one.
        seed: seed of all shuffling.
        num_shards: parts that share the batches of an epoch (processes).
        shard_id: number of this part, from 0.
        num_workers: processes that read ahead; 0 reads in this process.
        epoch: the first epoch, from 1.
        buffer_size: batches that the workers together read ahead (at least two each).
        grouped_shuffling: shuffle groups of `num_shards` successive batches, so that all shards work on batches of
            similar length at the same time.
        update_epoch_batch_itr: cut the batches anew for each epoch.
        update_ordered_indices_seed: add the epoch in which batches are cut to `seed`.
        skip_remainder_batch: leave out the last batch of each epoch.
        shuffle_batches: False never shuffles the list of batches.
        pin_memory: workers' batches come in page-locked memory (for copying to a GPU).

    Raises:
        DataError: (when the batches are first needed) items that are too long without `ignore_invalid_inputs`, or
            nothing left.
    """

    def __init__(
        self,
        dataset: SequenceDataset,
        *,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        max_positions: Any = None,
        ignore_invalid_inputs: bool = False,
        required_batch_size_multiple: int = 1,
        drop_ragged_batch: bool = False,
        seed: int = 1,
        num_shards: int = 1,
        shard_id: int = 0,
        num_workers: int = 0,
        epoch: int = 1,
        buffer_size: int = 0,
        grouped_shuffling: bool = False,
        update_epoch_batch_itr: bool = False,
        update_ordered_indices_seed: bool = False,
        skip_remainder_batch: bool = False,
        shuffle_batches: bool = True,
        pin_memory: bool = False,
    ) -> None:
        if not 0 <= shard_id < num_shards:
            raise DataError(f"dataset.shard_id={shard_id} must be at least 0 and below dataset.num_shards={num_shards}")
        self.dataset = dataset
        self.max_tokens = max_tokens
        self.max_sentences = max_sentences
        self.max_positions = max_positions
        self.ignore_invalid_inputs = ignore_invalid_inputs
        self.required_batch_size_multiple = required_batch_size_multiple
        self._drop_ragged_batch = drop_ragged_batch
        self.seed = seed
        self.num_shards = num_shards
        self.shard_id = shard_id
        self.num_workers = num_workers
        self.buffer_size = buffer_size
        self.grouped_shuffling = grouped_shuffling
        self.update_epoch_batch_itr = update_epoch_batch_itr
        self.update_ordered_indices_seed = update_ordered_indices_seed
        self.skip_remainder_batch = skip_remainder_batch
        self.shuffle_batches = shuffle_batches
        self.pin_memory = pin_memory

        self.epoch = max(epoch, 1)
        self.shuffle = shuffle_batches
        self._batches_epoch = self.epoch
        self._batches: list[Indices] | None = None
        self._ignored: Indices = _NO_ITEMS
        self._current: CountingIterator[Any] | None = None
        self._offset = 0
        self._fixed = False
        self._seen: _Seen | None = None
        self._checksum_of: list[Indices] | None = None
        self._checksum_value = 0
        dataset.set_epoch(self.epoch)

    # the batches

    @property
    def drop_ragged_batch(self) -> bool:
        """Whether a last batch whose size is no multiple is dropped; to change it is to cut the batches anew."""
        return self._drop_ragged_batch

    @drop_ragged_batch.setter
    def drop_ragged_batch(self, value: bool) -> None:
        self._drop_ragged_batch = value
        self._batches = None

    @property
    def frozen_batches(self) -> list[Indices]:
        """The ids of each batch of all shards, before shuffling."""
        if self._batches is None:
            self._batches = self._cut_batches()
        return self._batches

    @property
    def ignored(self) -> Indices:
        """Ids of the items left out because they are too long."""
        _ = self.frozen_batches
        return self._ignored

    @property
    def spare_batch(self) -> Any:
        """A small batch, for who has none: the first two sentences of the first of `frozen_batches`."""
        return _read_batch(self.dataset, self.frozen_batches[0][:2].tolist())

    def _cut_batches(self) -> list[Indices]:
        if len(self.dataset) == 0:
            raise DataError("the dataset is empty: there are no sentences to make batches of")
        batches = self._cut(self._ordered_indices())
        ragged = len(batches[-1]) % max(self.required_batch_size_multiple, 1) != 0
        if self.drop_ragged_batch and ragged and len(batches) > 1 and not self.dataset.has_fixed_shapes:
            batches.pop()
        return batches

    def _ordered_indices(self) -> Indices:
        rng = np.random.RandomState(self._seed_of(self._batches_epoch))
        return self._filter(self.dataset.ordered_indices(rng))

    def _cut(self, indices: Indices) -> list[Indices]:
        return self.dataset.batch_by_size(
            indices,
            max_tokens=self.max_tokens,
            max_sentences=self.max_sentences,
            required_batch_size_multiple=self.required_batch_size_multiple,
        )

    def _seed_of(self, epoch: int) -> int:
        return self.seed + epoch + (self._batches_epoch if self.update_ordered_indices_seed else 0)

    def _filter(self, indices: Indices) -> Indices:
        """The indices of items that are not too long."""
        count = len(indices)
        indices, ignored = self.dataset.filter_by_size(indices, self.max_positions)
        if len(ignored) and not self.ignore_invalid_inputs:
            first = int(ignored[0])
            raise DataError(
                f"sentence {first} is too long: its length is {self.dataset.size(first)}, the longest allowed is "
                f"{self.max_positions} ({len(ignored)} of {count} sentences are too long); set "
                "dataset.skip_invalid_size_inputs_valid_test=true to leave such sentences out, or raise "
                "task.max_source_positions, task.max_target_positions or the model's own limits"
            )
        limit = f"the longest allowed {self.max_positions}"
        if self.ignore_invalid_inputs and self.max_tokens:
            too_long = self.dataset.num_tokens_vec(indices) > self.max_tokens
            if too_long.any():
                ignored = np.concatenate([ignored, indices[too_long]])
                indices = indices[~too_long]
                limit += f" or dataset.max_tokens={self.max_tokens}"
        self._ignored = ignored
        if len(ignored):
            examples = ", ".join(f"{index}: {self.dataset.size(index)}" for index in ignored[:10].tolist())
            more = ", …" if len(ignored) > 10 else ""
            report = f"{len(ignored):,} of {count:,} sentences are longer than {limit}"
            if len(indices) == 0:
                raise DataError(
                    f"{report}, so none is left (ids and lengths: {examples}{more}); raise the limits "
                    "(task.max_source_positions, task.max_target_positions, dataset.max_tokens, the model's own)"
                )
            logger.warning("%s and are left out; ids and lengths: %s%s", report, examples, more)
        return indices

    def __len__(self) -> int:
        """Batches of one epoch in this shard."""
        count = len(self.frozen_batches)
        if self._seen is None and self.grouped_shuffling and self.shuffle and not self._fixed:
            return count // self.num_shards  # see _shuffled
        return math.ceil(count / self.num_shards)

    # going over them

    @property
    def next_epoch_idx(self) -> int:
        """The epoch that `next_epoch_itr` begins (or goes on with)."""
        finished = self._offset == 0 and self._current is not None and not self._current.has_next()
        return self.epoch + 1 if finished else self.epoch

    def next_epoch_itr(self, shuffle: bool = True, fix_batches_to_gpus: bool = False) -> CountingIterator[Any]:
        """Begin the next epoch, or go on in the one that `load_state_dict` stopped in.

        Args:
            shuffle: shuffle the list of batches.
            fix_batches_to_gpus: give a shard the same batches in every epoch, in another order (as in fairseq, only for
                datasets that prefetch).
        """
        self.epoch = self.next_epoch_idx
        self.dataset.set_epoch(self.epoch)
        if self.update_epoch_batch_itr and self._batches_epoch != self.epoch:
            self._batches_epoch = self.epoch
            self._batches = None
        offset, self._offset = self._offset, 0
        # The rest of an epoch comes in the order in which the epoch was begun.
        if not offset:
            self._seen = None
            self.shuffle = shuffle and self.shuffle_batches
            self._fixed = fix_batches_to_gpus and self.dataset.supports_prefetch
        batches = self._shard(self.shard_id)
        before = 0 if self._seen is None else self._seen.position
        if self.dataset.supports_prefetch:
            self.dataset.prefetch(int(index) for batch in batches for index in batch)
        total = before + len(batches)
        self._current = CountingIterator(self._read(batches[offset - before :]), start=offset, total=total)
        if self.skip_remainder_batch:
            self._current.take(total - 1)
        return self._current

    def _shard(self, shard_id: int) -> list[Indices]:
        """A shard's batches of the present epoch (of its rest, where others were given before), in order."""
        batches = self._candidates()
        seed = self._seed_of(self.epoch)
        if self.shuffle and not self._fixed:
            batches = self._shuffled(batches, seed)
        if self._seen is not None:
            batches = [batch for batch in batches if not self._seen.has_given[batch[0]]]
        shard = batches[shard_id :: self.num_shards]
        shard += [_NO_ITEMS] * (math.ceil(len(batches) / self.num_shards) - len(shard))
        if self.shuffle and self._fixed:
            shard = self._shuffled(shard, seed + shard_id)
        return shard

    def _candidates(self) -> list[Indices]:
        """The batches that the present epoch is made of, before shuffling."""
        seen = self._seen
        if seen is None or seen.checksum == self._checksum():
            return self.frozen_batches
        # Cut in another way, batches would have been given in part: those not given yet are cut anew, none dropped.
        indices = self._ordered_indices()
        return self._cut(indices[seen.is_due[indices] & ~seen.has_given[indices]])

    def _shuffled(self, batches: list[Indices], seed: int) -> list[Indices]:
        rng = np.random.RandomState(seed)
        if not self.grouped_shuffling:
            return [batches[number] for number in rng.permutation(len(batches))]
        size = self.num_shards
        groups = rng.permutation(len(batches) // size)
        shuffled = [batch for group in groups for batch in batches[group * size : (group + 1) * size]]
        # Batches beyond the last full group are left out, as in fairseq; but not of an epoch that is shared out anew.
        return shuffled if self._seen is None else shuffled + batches[len(groups) * size :]

    def _read(self, batches: list[Indices]) -> Iterator[Any]:
        reader = _BatchReader(self.dataset, batches)
        if self.num_workers == 0 or not batches:
            return (reader.read(number) for number in range(len(batches)))
        generator = torch.Generator()
        generator.manual_seed(self._seed_of(self.epoch))
        return _read_ahead(reader, self.num_workers, self.buffer_size, self.pin_memory, generator)

    def end_of_epoch(self) -> bool:
        """Whether the present epoch has given all its batches."""
        return self._current is not None and not self._current.has_next()

    @property
    def iterations_in_epoch(self) -> int:
        """Batches given in the present epoch."""
        if self._offset:
            return self._offset
        return 0 if self._current is None else self._current.n

    # resuming

    def state_dict(self) -> dict[str, Any]:
        """The position, in fairseq's format (version 2) with the keys that make resuming exact.

        `batches_epoch` is the epoch for which the batches were cut; `num_batches` is their number in this shard;
        `order` and `num_shards` say how they were cut, shuffled and shared; `checksum` is that of the batches;
        `earlier` is the position at which the epoch was taken over from a run that did this in another way.
        """
        finished = self._offset == 0 and self.end_of_epoch()
        state = {
            "version": 2,
            "epoch": self.epoch + 1 if finished else self.epoch,
            "iterations_in_epoch": 0 if finished else self.iterations_in_epoch,
            "shuffle": self.shuffle,
            "batches_epoch": self._batches_epoch,
            "num_batches": len(self),
            "num_shards": self.num_shards,
            "order": self._order(),
            "checksum": self._checksum(),
        }
        if self._seen is not None and not finished:
            state["earlier"] = self._seen.state
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken. Takes fairseq's states too.

        Where batches are cut, shuffled or shared in another way than before, the rest of the epoch is made of exactly
        the items that were not given yet. In a state that does not say how that was done (fairseq's), a position in an
        epoch whose number of batches has changed since is scaled to the new number, with a warning.

        Raises:
            DataError: the position is beyond the end of the epoch, and the state does not say how long that was.
        """
        self.epoch = int(state["epoch"])
        self.shuffle = bool(state.get("shuffle", True)) and self.shuffle_batches
        self._current = None
        self._offset = 0
        self._seen = None
        batches_epoch = self.epoch if self.update_epoch_batch_itr else int(state.get("batches_epoch", self.epoch))
        if batches_epoch != self._batches_epoch:
            self._batches_epoch = batches_epoch
            self._batches = None
        self.dataset.set_epoch(self.epoch)
        position = int(state.get("iterations_in_epoch", 0))
        if position == 0:
            return
        order = state.get("order")
        if order is not None:
            self._fixed = bool(order["fixed"])
        if order is None:
            self._go_on_somewhere(state, position)
        elif self._is_mine(state):
            earlier = state.get("earlier")
            self._seen = None if earlier is None else self._seen_until(earlier)
            if earlier is not None and self._seen is None:
                self._go_on_somewhere(state, position)
            else:
                self._offset = position
        else:
            seen = self._seen_until(state)
            if seen is None:
                self._go_on_somewhere(state, position)
                return
            self._seen = seen
            self._offset = seen.position
            rest = len(self._shard(self.shard_id))
            logger.info(
                "epoch %d goes on with other batches or processes than it was begun with: %s of its %s sentences have "
                "been seen, the others follow in %d batches of this process",
                self.epoch,
                f"{int(seen.has_given.sum()):,}",
                f"{int(seen.is_due.sum()):,}",
                rest,
            )
            if rest == 0:
                self.epoch, self._offset, self._seen = self.epoch + 1, 0, None

    def _go_on_somewhere(self, state: Mapping[str, Any], position: int) -> None:
        """Go on at a number of batches, which may have been other ones."""
        before, now = state.get("num_batches"), len(self)
        if before is not None and before != now:
            scaled = position * now // before
            logger.warning(
                "epoch %d had %d batches when it was interrupted and has %d now; going on at batch %d instead of %d",
                self.epoch,
                before,
                now,
                scaled,
                position,
            )
            position = scaled
        if position < now:
            self._offset = position
        elif state.get("version", 1) == 1:
            self.epoch += 1  # The first format counted a finished epoch so.
        else:
            raise DataError(
                f"cannot go on at batch {position} of epoch {self.epoch}: there are only {now} batches now (were the "
                "data, dataset.max_tokens, dataset.batch_size or the number of processes changed?); set "
                "checkpoint.reset_dataloader=true to begin the epoch anew"
            )

    def _order(self) -> dict[str, Any]:
        """All that decides, with the data, which batches an epoch gives in which order."""
        limits = self.max_positions
        return {
            "max_tokens": self.max_tokens,
            "max_sentences": self.max_sentences,
            "max_positions": list(limits) if isinstance(limits, Sequence) else limits,
            "ignore_invalid_inputs": self.ignore_invalid_inputs,
            "required_batch_size_multiple": self.required_batch_size_multiple,
            "drop_ragged_batch": self.drop_ragged_batch,
            "seed": self.seed,
            "grouped_shuffling": self.grouped_shuffling,
            "update_ordered_indices_seed": self.update_ordered_indices_seed,
            "shuffle_batches": self.shuffle_batches,
            "fixed": self._fixed,
        }

    def _checksum(self) -> int:
        """Of `frozen_batches`: of the ids in their order, and of the sizes of batches."""
        batches = self.frozen_batches
        if self._checksum_of is not batches:
            sizes = np.array([len(batch) for batch in batches], dtype=np.int64)
            ids = np.concatenate(batches) if batches else _NO_ITEMS
            self._checksum_of, self._checksum_value = batches, zlib.crc32(ids.tobytes(), zlib.crc32(sizes.tobytes()))
        return self._checksum_value

    def _is_mine(self, state: Mapping[str, Any]) -> bool:
        """Whether this iterator gives the very batches that the state's gave, whatever limits bind nothing."""
        same = ("seed", "update_ordered_indices_seed", "grouped_shuffling", "shuffle_batches")
        mine = self._order()
        return (
            state["num_shards"] == self.num_shards
            and state["checksum"] == self._checksum()
            and all(state["order"][key] == mine[key] for key in same)
        )

    def _seen_until(self, state: Mapping[str, Any]) -> _Seen | None:
        """What had been given of the epoch when the state was taken; None where the data is no longer the same."""
        order = dict(state["order"])
        del order["fixed"]
        former = EpochBatchIterator(
            self.dataset, **order, num_shards=int(state["num_shards"]), epoch=int(state["batches_epoch"])
        )
        if former._checksum() != state["checksum"]:
            return None
        former.load_state_dict(state)
        before = former._seen
        count = len(self.dataset)
        is_due = np.zeros(count, dtype=np.bool_) if before is None else before.is_due.copy()
        has_given = np.zeros(count, dtype=np.bool_) if before is None else before.has_given.copy()
        if before is None:
            for batch in former.frozen_batches:
                is_due[batch] = True
        given = former._offset - (0 if before is None else before.position)
        for shard_id in range(former.num_shards):
            for batch in former._shard(shard_id)[:given]:
                has_given[batch] = True
        self.dataset.set_epoch(self.epoch)
        # Counted in batches of this iterator, and at least 1: the epoch has begun.
        share = float(has_given.sum()) / max(1, int(is_due.sum()))
        whole = before is None or before.checksum == state["checksum"]
        checksum = int(state["checksum"]) if whole else None
        return _Seen(dict(state), checksum, max(1, round(share * len(self))), is_due, has_given)


@dataclass(frozen=True)
class _Seen:
    """What was given of an epoch before it was taken over.

    Attributes:
        state: the position at which that was.
        checksum: of the batches it was given in; None where they were cut in several ways.
        position: that position, counted in batches as they are now.
        is_due: (items,) whether an item belongs to the epoch.
        has_given: (items,) whether it was given.
    """

    state: dict[str, Any]
    checksum: int | None
    position: int
    is_due: NDArray[np.bool_]
    has_given: NDArray[np.bool_]


# reading


@dataclass
class _Failure:
    """What went wrong in a worker, on its way to the main process."""

    text: str
    is_users: bool
    trace: str


class _BatchReader(Dataset[Any]):
    """The batches of one epoch by number. In a worker, faults come back as `_Failure`."""

    def __init__(self, dataset: SequenceDataset, batches: list[Indices]) -> None:
        self.dataset = dataset
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def read(self, number: int) -> Any:
        return _read_batch(self.dataset, self.batches[number].tolist())

    def __getitem__(self, number: int) -> Any:
        try:
            return self.read(number)
        except (SampleError, UserError) as error:
            return _Failure(str(error), isinstance(error, UserError), traceback.format_exc())


def _read_batch(dataset: SequenceDataset, ids: list[int]) -> Any:
    """Read and join items.

    Raises:
        DataError: an item cannot be used; the text says which.
        SampleError: a fault in the dataset's code or files; the text says where.
    """
    items = []
    for index in ids:
        try:
            items.append(dataset[index])
        except UserError as error:
            raise DataError(f"sentence {index}: {error}") from error
        except Exception as error:
            raise SampleError(f"reading sentence {index} failed: {type(error).__name__}: {error}") from error
    try:
        return dataset.collater(items)
    except UserError as error:
        raise DataError(f"batch of sentences {_few(ids)}: {error}") from error
    except Exception as error:
        text = f"joining sentences {_few(ids)} into a batch failed: {type(error).__name__}: {error}"
        raise SampleError(text) from error


def _few(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (", …" if len(ids) > 10 else "")


def _read_ahead(
    reader: _BatchReader, num_workers: int, buffer_size: int, pin_memory: bool, generator: torch.Generator
) -> Iterator[Any]:
    """Batches in order, read by worker processes."""
    loader = DataLoader(
        reader,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_unchanged,
        pin_memory=pin_memory,
        worker_init_fn=_begin_worker,
        prefetch_factor=max(2, math.ceil(buffer_size / num_workers)),
        generator=generator,
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            if batch.is_users:
                raise DataError(batch.text)
            raise SampleError(f"{batch.text}\nin a worker process:\n{batch.trace}")
        yield batch


def _begin_worker(worker_id: int) -> None:
    # Ctrl-C reaches the whole process group; the main process alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _unchanged(batch: T) -> T:
    return batch
