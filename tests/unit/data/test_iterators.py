import logging
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from seqkit.data.iterators import CountingIterator, EpochBatchIterator, GroupedIterator, SampleError
from seqkit.data.sequence_dataset import SequenceDataset
from seqkit.errors import DataError, SeqkitError

# Python 3.12 and later warn about forking a process that has threads, as torch's always has.
workers_fork = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Lengths(SequenceDataset):
    """Items are their ids; batches are lists of ids; items of `bad` cannot be read."""

    def __init__(self, sizes, bad=None):
        self._sizes = np.array(sizes)
        self.bad = bad or {}
        self.epochs = []

    def __getitem__(self, index):
        if index in self.bad:
            raise self.bad[index]
        return index

    def __len__(self):
        return len(self._sizes)

    def collater(self, samples):
        return {"id": torch.tensor(samples)} if samples else {}

    @property
    def sizes(self):
        return self._sizes

    def ordered_indices(self, rng=None):
        return np.arange(len(self)) if rng is None else rng.permutation(len(self))

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def iterator(count=10, **settings):
    return EpochBatchIterator(Lengths([2] * count), **{"max_sentences": 2, **settings})


def ids(batches):
    return [batch["id"].tolist() if batch else [] for batch in batches]


class TestCountingIterator:
    def test_counts(self):
        itr = CountingIterator([4, 5, 6])
        assert (itr.n, itr.total, len(itr), itr.has_next()) == (0, 3, 3, True)
        assert next(itr) == 4
        assert itr.n == 1
        assert list(itr) == [5, 6]
        assert not itr.has_next()
        with pytest.raises(StopIteration):
            next(itr)

    def test_start_counts_as_given(self):
        itr = CountingIterator([4, 5, 6], start=7)
        assert (itr.n, itr.total) == (7, 10)
        assert list(itr) == [4, 5, 6]

    def test_skip_and_take(self):
        itr = CountingIterator(range(9)).skip(2).take(4)
        assert list(itr) == [2, 3]

    def test_goes_on_counting_of_another(self):
        first = CountingIterator([4, 5, 6]).skip(1)
        assert (CountingIterator(first).n, CountingIterator(first).total) == (1, 3)

    def test_source_that_ends_early(self):
        itr = CountingIterator(iter([4]), total=3)
        assert next(itr) == 4
        with pytest.raises(SeqkitError, match="3 items were expected, but there are only 1"):
            next(itr)

    def test_length_must_be_known(self):
        with pytest.raises(TypeError, match="total must be given"):
            CountingIterator(iter([4]))


class TestGroupedIterator:
    def test_groups(self):
        itr = GroupedIterator([1, 2, 3, 4, 5], 2)
        assert (itr.n, itr.total) == (0, 3)
        assert list(itr) == [[1, 2], [3, 4], [5]]

    def test_skips_the_remainder(self):
        source = CountingIterator([1, 2, 3, 4, 5])
        assert list(GroupedIterator(source, 2, skip_remainder_batch=True)) == [[1, 2], [3, 4]]
        assert not source.has_next()

    def test_goes_on_where_its_source_is(self):
        itr = GroupedIterator(CountingIterator([5, 6, 7], start=4), 2)
        assert (itr.n, itr.total) == (2, 4)
        assert list(itr) == [[5, 6], [7]]

    def test_other_chunk_size_after_resuming_loses_nothing(self):
        assert list(GroupedIterator(CountingIterator([6, 7, 8, 9], start=5), 3)) == [[6, 7, 8], [9]]

    def test_chunk_size(self):
        with pytest.raises(ValueError, match="chunk_size=0"):
            GroupedIterator([1], 0)


class TestOrder:
    def test_same_seed_same_order(self):
        first, second = iterator(seed=3), iterator(seed=3)
        for _ in range(3):
            assert ids(first.next_epoch_itr()) == ids(second.next_epoch_itr())
        assert ids(iterator(seed=4).next_epoch_itr()) != ids(iterator(seed=3).next_epoch_itr())

    def test_epochs_shuffle_the_same_batches(self):
        batches = iterator(20)
        first, second = ids(batches.next_epoch_itr()), ids(batches.next_epoch_itr())
        assert first != second
        assert sorted(first) == sorted(second)
        assert ids(batches.next_epoch_itr(shuffle=False)) == [batch.tolist() for batch in batches.frozen_batches]

    def test_fairseqs_recipe(self):
        """Cut under seed + first epoch, shuffle under seed + epoch."""
        batches = iterator(12, seed=5, epoch=2)
        order = np.random.RandomState(7).permutation(12)
        frozen = [order[start : start + 2].tolist() for start in range(0, 12, 2)]
        assert [batch.tolist() for batch in batches.frozen_batches] == frozen
        for epoch in (2, 3):
            np.random.RandomState(5 + epoch).shuffle(shuffled := list(frozen))
            assert ids(batches.next_epoch_itr()) == shuffled

    def test_batches_cut_anew(self):
        batches = iterator(20, update_epoch_batch_itr=True, seed=1)
        batches.next_epoch_itr().skip(10)
        batches.next_epoch_itr()
        again = iterator(20, seed=1, epoch=2)
        assert [b.tolist() for b in batches.frozen_batches] == [b.tolist() for b in again.frozen_batches]

    def test_seed_of_the_order(self):
        batches = iterator(20, seed=1, epoch=3, update_ordered_indices_seed=True)
        assert np.concatenate(batches.frozen_batches).tolist() == np.random.RandomState(7).permutation(20).tolist()

    def test_never_shuffled(self):
        batches = iterator(20, shuffle_batches=False)
        assert ids(batches.next_epoch_itr()) == [batch.tolist() for batch in batches.frozen_batches]

    def test_global_random_state_is_left_alone(self):
        np.random.seed(1)
        torch.manual_seed(1)
        before = (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
        list(iterator(20).next_epoch_itr())
        assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before

    def test_dataset_is_told_the_epoch(self):
        batches = iterator(2, epoch=4)
        list(batches.next_epoch_itr())
        list(batches.next_epoch_itr())
        assert batches.dataset.epochs == [4, 4, 5]


class TestShards:
    def test_shards_share_an_epoch(self):
        whole = ids(iterator(14).next_epoch_itr())
        shards = [ids(iterator(14, num_shards=3, shard_id=shard).next_epoch_itr()) for shard in range(3)]
        assert shards == [whole[0::3], [*whole[1::3], []], [*whole[2::3], []]]
        assert len(iterator(14, num_shards=3)) == 3

    def test_grouped_shuffling_counts_no_batch_that_it_leaves_out(self):
        batches = iterator(14, num_shards=2, grouped_shuffling=True)
        assert len(batches.frozen_batches) == 7
        assert len(batches) == len(list(batches.next_epoch_itr())) == 3
        assert len(list(batches.next_epoch_itr(shuffle=False))) == len(batches) == 4

    def test_grouped_shuffling_keeps_neighbours_together(self):
        batches = [iterator(16, num_shards=2, shard_id=shard, grouped_shuffling=True) for shard in range(2)]
        frozen = [batch.tolist() for batch in batches[0].frozen_batches]
        first, second = (ids(shard.next_epoch_itr()) for shard in batches)
        assert first != frozen[0::2]
        assert [frozen.index(b) - frozen.index(a) for a, b in zip(first, second, strict=True)] == [1] * 4

    def test_shard_out_of_range(self):
        with pytest.raises(DataError, match=r"dataset\.shard_id=3 must be at least 0 and below dataset\.num_shards=3"):
            iterator(num_shards=3, shard_id=3)


class TestRaggedBatches:
    def test_kept_by_default(self):
        assert [
            len(batch) for batch in iterator(10, max_sentences=4, required_batch_size_multiple=4).frozen_batches
        ] == [
            4,
            4,
            2,
        ]

    def test_dropped_on_request(self):
        batches = iterator(10, max_sentences=4, required_batch_size_multiple=4, drop_ragged_batch=True)
        assert [len(batch) for batch in batches.frozen_batches] == [4, 4]

    def test_the_only_batch_is_kept(self):
        batches = iterator(3, max_sentences=4, required_batch_size_multiple=4, drop_ragged_batch=True)
        assert [len(batch) for batch in batches.frozen_batches] == [3]

    def test_last_batch_of_the_epoch_is_skipped(self):
        batches = iterator(10, skip_remainder_batch=True)
        assert len(ids(batches.next_epoch_itr())) == 4
        assert batches.end_of_epoch()


class TestFilter:
    def test_too_long_is_an_error(self):
        batches = EpochBatchIterator(Lengths([3, 9, 4, 12]), max_sentences=2, max_positions=8)
        with pytest.raises(DataError) as caught:
            len(batches)
        text = str(caught.value)
        assert "the longest allowed is 8 (2 of 4 sentences are too long)" in text
        assert "skip_invalid_size_inputs_valid_test=true" in text

    def test_too_long_is_left_out_and_reported(self, caplog):
        batches = EpochBatchIterator(
            Lengths([3, 9, 4, 12]), max_sentences=2, max_positions=8, ignore_invalid_inputs=True
        )
        assert sorted(np.concatenate(batches.frozen_batches).tolist()) == [0, 2]
        assert sorted(batches.ignored.tolist()) == [1, 3]
        assert "2 of 4 sentences are longer than the longest allowed 8" in caplog.text
        assert "1: 9" in caplog.text
        assert "3: 12" in caplog.text

    def test_longer_than_a_batch(self, caplog):
        sizes = [3, 9, 4]
        batches = EpochBatchIterator(Lengths(sizes), max_tokens=8, ignore_invalid_inputs=True)
        assert batches.ignored.tolist() == [1]
        assert "dataset.max_tokens=8" in caplog.text
        with pytest.raises(DataError, match=r"dataset\.max_tokens=8 is smaller than the longest sentence \(id 1, 9"):
            len(EpochBatchIterator(Lengths(sizes), max_tokens=8))

    def test_nothing_left(self):
        batches = EpochBatchIterator(Lengths([3, 9]), max_sentences=2, max_positions=2, ignore_invalid_inputs=True)
        with pytest.raises(DataError, match=r"2 of 2 sentences are longer .* so none is left .*raise the limits"):
            len(batches)

    def test_empty_dataset(self):
        with pytest.raises(DataError, match="the dataset is empty"):
            len(EpochBatchIterator(Lengths([])))

    def test_nothing_to_report(self, caplog):
        assert iterator(max_positions=8).ignored.tolist() == []
        assert caplog.text == ""


class TestResume:
    def test_mid_epoch(self):
        before = iterator(20, seed=6)
        list(before.next_epoch_itr())
        whole = ids(before.next_epoch_itr())
        after_that = ids(before.next_epoch_itr())

        stopped = iterator(20, seed=6)
        list(stopped.next_epoch_itr())
        stopped.next_epoch_itr().skip(4)
        state = stopped.state_dict()
        assert state["version"] == 2
        assert (state["epoch"], state["iterations_in_epoch"], state["shuffle"]) == (2, 4, True)

        resumed = iterator(20, seed=6, epoch=state["epoch"])
        resumed.load_state_dict(state)
        assert (resumed.next_epoch_idx, resumed.iterations_in_epoch) == (2, 4)
        assert {**resumed.state_dict()} == state
        itr = resumed.next_epoch_itr()
        assert (itr.n, itr.total) == (4, 10)
        assert ids(itr) == whole[4:]
        assert ids(resumed.next_epoch_itr()) == after_that

    def test_at_the_end_of_an_epoch(self):
        stopped = iterator(20, seed=6)
        list(stopped.next_epoch_itr())
        state = stopped.state_dict()
        assert (state["epoch"], state["iterations_in_epoch"]) == (2, 0)
        resumed = iterator(20, seed=6, epoch=2)
        resumed.load_state_dict(state)
        assert ids(resumed.next_epoch_itr()) == ids(stopped.next_epoch_itr())
        assert resumed.epoch == 2

    def test_before_the_first_batch(self):
        state = iterator(20).state_dict()
        assert (state["epoch"], state["iterations_in_epoch"]) == (1, 0)

    def test_rest_of_an_epoch_keeps_its_order(self):
        stopped = iterator(20)
        rest = ids(iterator(20).next_epoch_itr(shuffle=False))[3:]
        stopped.next_epoch_itr(shuffle=False).skip(3)
        resumed = iterator(20)
        resumed.load_state_dict(stopped.state_dict())
        assert ids(resumed.next_epoch_itr(shuffle=True)) == rest

    def test_fairseqs_state(self):
        """Without further keys, batches are cut for the epoch of the state."""
        resumed = iterator(20, seed=6, epoch=3)
        resumed.load_state_dict({"version": 2, "epoch": 3, "iterations_in_epoch": 4, "shuffle": True})
        assert ids(resumed.next_epoch_itr()) == ids(iterator(20, seed=6, epoch=3).next_epoch_itr())[4:]

    def test_batches_cut_anew_each_epoch(self):
        settings = {"seed": 6, "update_epoch_batch_itr": True}
        stopped = iterator(20, **settings)
        list(stopped.next_epoch_itr())
        state = stopped.state_dict()
        resumed = iterator(20, epoch=2, **settings)
        resumed.load_state_dict(state)
        assert ids(resumed.next_epoch_itr()) == ids(stopped.next_epoch_itr())

    def test_other_number_of_batches_in_a_state_that_does_not_say_how_they_were_cut(self, caplog):
        state = {"version": 2, "epoch": 1, "iterations_in_epoch": 5, "shuffle": True, "num_batches": 10}
        resumed = iterator(20, num_shards=2)
        resumed.load_state_dict(state)
        assert "had 10 batches when it was interrupted and has 5 now; going on at batch 2 instead of 5" in caplog.text
        assert resumed.next_epoch_itr().n == 2

    def test_other_data(self, caplog):
        stopped = iterator(20)
        stopped.next_epoch_itr().skip(5)
        resumed = iterator(40)
        resumed.load_state_dict(stopped.state_dict())
        assert "had 10 batches when it was interrupted and has 20 now; going on at batch 10" in caplog.text

    def test_position_beyond_the_end(self):
        state = {"version": 2, "epoch": 3, "iterations_in_epoch": 10, "shuffle": True}
        with pytest.raises(DataError, match=r"batch 10 of epoch 3: there are only 10 .*checkpoint\.reset_dataloader"):
            iterator(20).load_state_dict(state)
        first_format = iterator(20)
        first_format.load_state_dict({"epoch": 3, "iterations_in_epoch": 10})
        assert first_format.next_epoch_idx == 4
        assert first_format.iterations_in_epoch == 0


class TestOtherRunsOfAnEpoch:
    """Processes, sizes of batches and limits may change in mid-epoch: nothing is seen twice, nothing is left out."""

    @staticmethod
    def _runs(seed):
        """Settings of successive runs of one epoch, with how many batches each does."""
        rng = np.random.RandomState(seed)
        common = {
            "seed": int(rng.randint(9)),
            "grouped_shuffling": bool(rng.randint(2)),
            "drop_ragged_batch": bool(rng.randint(2)),
            "update_epoch_batch_itr": bool(rng.randint(2)),
        }
        settings = {"max_tokens": 24, "num_shards": 1, "required_batch_size_multiple": 1}
        for _ in range(rng.randint(2, 6)):
            # Often only one thing changes, sometimes nothing does.
            if rng.rand() < 0.5:
                settings["num_shards"] = int(rng.randint(1, 5))
            if rng.rand() < 0.4:
                settings["max_tokens"] = int(rng.randint(12, 60))
            if rng.rand() < 0.2:
                settings["required_batch_size_multiple"] = int(rng.choice([1, 4]))
            yield {**common, **settings}, int(rng.randint(1, 4))

    @pytest.mark.parametrize("seed", range(60))
    def test_every_sentence_once(self, seed):
        sizes = np.random.RandomState(seed).randint(2, 13, size=90)
        dataset = Lengths(sizes)
        state, given, due, taken_over = None, [], None, False
        for settings, count in self._runs(seed):
            shards = [EpochBatchIterator(dataset, shard_id=n, **settings) for n in range(settings["num_shards"])]
            if state is None:
                for shard in shards:
                    list(shard.next_epoch_itr())
                # With grouped shuffling, an epoch that is not interrupted leaves out what fills no group.
                due = np.concatenate(shards[0].frozen_batches).tolist()
                batches = [shard.next_epoch_itr() for shard in shards]
                if shards[0]._batches_epoch == 2:
                    due = np.concatenate(shards[0].frozen_batches).tolist()
            else:
                for shard in shards:
                    shard.load_state_dict(state)
                if shards[0].next_epoch_idx == 3:
                    break
                batches = [shard.next_epoch_itr() for shard in shards]
                taken_over |= shards[0]._seen is not None
            assert len({(itr.n, itr.total) for itr in batches}) == 1
            for itr in batches:
                for _ in range(min(count, itr.total - itr.n)):
                    given += ids([next(itr)])[0]
            states = [shard.state_dict() for shard in shards]
            assert all(other == states[0] for other in states)
            state = states[0]
            if state["epoch"] == 3:
                break
        else:
            for shard in shards:
                shard.load_state_dict(state)
            if shards[0].next_epoch_idx == 2:
                for shard in shards:
                    given += [index for batch in ids(shard.next_epoch_itr()) for index in batch]
        assert len(set(given)) == len(given)
        assert set(given) <= set(due)
        if taken_over or not settings["grouped_shuffling"]:
            assert set(given) == set(due)

    def test_other_number_of_processes_keeps_the_order(self):
        whole = ids(iterator(40).next_epoch_itr())
        stopped = [iterator(40, num_shards=4, shard_id=n) for n in range(4)]
        for shard in stopped:
            shard.next_epoch_itr().skip(2)
        resumed = iterator(40)
        resumed.load_state_dict(stopped[0].state_dict())
        rest = resumed.next_epoch_itr()
        assert (rest.n, rest.total) == (8, 20)
        assert ids(rest) == whole[8:]
        assert resumed.next_epoch_idx == 2

    def test_larger_batches_are_filled(self):
        stopped = iterator(40)
        stopped.next_epoch_itr().skip(5)
        resumed = iterator(40, max_sentences=6)
        resumed.load_state_dict(stopped.state_dict())
        assert [len(batch) for batch in ids(resumed.next_epoch_itr())] == [6, 6, 6, 6, 6]
        assert [len(batch) for batch in ids(resumed.next_epoch_itr())].count(6) == 6  # of the next, whole epoch

    def test_the_rest_can_be_resumed_too(self):
        stopped = iterator(40)
        stopped.next_epoch_itr().skip(5)
        second = iterator(40, max_sentences=6)
        second.load_state_dict(stopped.state_dict())
        rest = second.next_epoch_itr()
        next(rest)
        state = second.state_dict()
        after = ids(rest)
        third = iterator(40, max_sentences=6)
        third.load_state_dict(state)
        assert third.state_dict() == state
        assert ids(third.next_epoch_itr()) == after
        assert "earlier" not in third.state_dict()

    def test_everything_was_seen(self):
        shards = [iterator(6, num_shards=2, shard_id=n, skip_remainder_batch=False) for n in range(2)]
        state = {**shards[0].state_dict(), "iterations_in_epoch": 2}
        resumed = iterator(6)
        resumed.load_state_dict(state)
        assert resumed.next_epoch_idx == 2
        assert len(ids(resumed.next_epoch_itr())) == 3

    def test_limits_that_bind_nothing_change_nothing(self):
        stopped = iterator(20, max_tokens=1000)
        whole = ids(iterator(20).next_epoch_itr())
        stopped.next_epoch_itr().skip(4)
        resumed = iterator(20, max_tokens=2000, max_positions=99)
        resumed.load_state_dict(stopped.state_dict())
        assert "earlier" not in resumed.state_dict()
        assert ids(resumed.next_epoch_itr()) == whole[4:]


class TestFailures:
    def test_user_error_names_the_sentence(self):
        batches = EpochBatchIterator(Lengths([2, 2], bad={1: DataError("truncated file")}), max_sentences=1)
        with pytest.raises(DataError, match="sentence 1: truncated file"):
            list(batches.next_epoch_itr())

    def test_fault_names_the_sentence(self):
        batches = EpochBatchIterator(Lengths([2, 2], bad={1: KeyError("x")}), max_sentences=1)
        with pytest.raises(SampleError, match="reading sentence 1 failed: KeyError: 'x'") as caught:
            list(batches.next_epoch_itr())
        assert isinstance(caught.value.__cause__, KeyError)

    def test_fault_in_joining_names_the_batch(self):
        dataset = Lengths([2, 2])
        dataset.collater = lambda samples: 1 // 0
        batches = EpochBatchIterator(dataset, max_sentences=2)
        with pytest.raises(SampleError, match=r"joining sentences [01], [01] into a batch failed: ZeroDivisionError"):
            list(batches.next_epoch_itr())

    @workers_fork
    def test_in_workers(self):
        bad = {1: DataError("truncated file")}
        batches = EpochBatchIterator(Lengths([2, 2], bad), max_sentences=2, num_workers=1)
        with pytest.raises(DataError, match=r"^sentence 1: truncated file$"):
            list(batches.next_epoch_itr())
        batches = EpochBatchIterator(Lengths([2, 2], {1: KeyError("x")}), max_sentences=2, num_workers=1)
        with pytest.raises(SampleError, match=r"(?s)reading sentence 1 failed: KeyError: 'x'.*Traceback.*__getitem__"):
            list(batches.next_epoch_itr())


@workers_fork
def test_workers_give_the_same_batches():
    alone, helped = iterator(20), iterator(20, num_workers=2, buffer_size=8)
    torch.manual_seed(1)
    before = torch.get_rng_state().tolist()
    assert ids(helped.next_epoch_itr()) == ids(alone.next_epoch_itr())
    assert torch.get_rng_state().tolist() == before
    state = {"version": 2, "epoch": 1, "iterations_in_epoch": 4, "shuffle": True}
    helped.load_state_dict(state)
    alone.load_state_dict(state)
    assert ids(helped.next_epoch_itr()) == ids(alone.next_epoch_itr())


def test_spare_batch():
    batches = iterator(6)
    assert batches.spare_batch["id"].tolist() == batches.frozen_batches[0][:2].tolist()


def test_prefetch_and_fixed_batches():
    class Prefetching(Lengths):
        supports_prefetch = True

        def prefetch(self, indices):
            self.read = sorted(indices)

    def shard(number):
        dataset = Prefetching([2] * 16)
        return EpochBatchIterator(dataset, max_sentences=2, num_shards=2, shard_id=number)

    first, second = shard(0), shard(1)
    epochs = [[ids(one.next_epoch_itr(fix_batches_to_gpus=True)) for one in (first, second)] for _ in range(2)]
    assert sorted(epochs[0][0]) == sorted(epochs[1][0]) == sorted(b.tolist() for b in first.frozen_batches[0::2])
    assert epochs[0][0] != epochs[1][0]
    assert first.dataset.read == sorted(index for batch in epochs[0][0] for index in batch)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a process group")
def test_ctrl_c_ends_workers_quietly():
    """Ctrl-C reaches main process and workers; only the main process says so, and no process stays."""
    program = textwrap.dedent("""
        import sys, time
        import numpy as np
        from seqkit.data.iterators import EpochBatchIterator
        from seqkit.data.sequence_dataset import SequenceDataset

        class Slow(SequenceDataset):
            sizes = np.full(100, 2)
            def __len__(self): return 100
            def __getitem__(self, index): time.sleep(0.05); return index
            def collater(self, samples): return samples

        try:
            for batch in EpochBatchIterator(Slow(), max_sentences=1, num_workers=2).next_epoch_itr():
                print("batch", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(130)
    """)
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "batch\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, err
        assert out.splitlines()[-1] == "interrupted"
        assert "Traceback" not in err
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_report_goes_to_the_log_once(caplog):
    caplog.set_level(logging.WARNING)
    batches = EpochBatchIterator(Lengths([3, 9]), max_sentences=2, max_positions=8, ignore_invalid_inputs=True)
    for _ in range(3):
        list(batches.next_epoch_itr())
    assert caplog.text.count("are left out") == 1
