from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch.distributed as dist

from seqkit.distributed.watch import Failure, Watch, claim_failure, find_failure, is_saving

INTERVAL = 0.02


class Watches:
    """Watches of several processes, all in this one, and what they did."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.left: dict[int, Failure] = {}
        self.told: list[tuple[int, Failure]] = []
        self.watches: list[Watch] = []

    def add(self, rank: int, world_size: int = 2, **options: Any) -> Watch:
        def leave(failure: Failure) -> None:
            self.left[rank] = failure

        def tell(failure: Failure) -> None:
            self.told.append((rank, failure))

        settings = {"interval": INTERVAL, "grace": 0.0, **options}
        watch = Watch(self.store, rank, world_size, leave=leave, tell=tell, **settings)
        self.watches.append(watch)
        watch.start()
        return watch


@pytest.fixture
def watches() -> Iterator[Watches]:
    made = Watches(dist.HashStore())
    yield made
    for watch in made.watches:
        watch.stop()


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_the_first_failure_counts() -> None:
    store = dist.HashStore()
    assert find_failure(store) is None
    first = Failure(1, "sentence 7", 2, is_users=True)
    assert claim_failure(store, first) == first
    assert claim_failure(store, Failure(0, "connection closed")) == first
    assert find_failure(store) == first


def test_a_failure_ends_the_others(watches: Watches) -> None:
    first, _ = watches.add(0), watches.add(1)
    failure = first.fail(Failure(0, "a bug"))
    until(lambda: set(watches.left) == {0, 1})
    assert set(watches.left.values()) == {failure}
    assert watches.told == []  # the one that fails shows it itself


def test_who_ends_in_time_is_not_ended(watches: Watches) -> None:
    first = watches.add(0, grace=30.0)
    watches.add(1)
    first.fail(Failure(0, "a bug"))
    until(lambda: 1 in watches.left)
    first.stop()
    assert 0 not in watches.left


def test_a_save_is_not_cut_short(watches: Watches) -> None:
    first, second = watches.add(0), watches.add(1)
    with first.saving():
        second.fail(Failure(1, "a bug"))
        time.sleep(0.3)
        assert not watches.left  # neither the one that saves, nor the one whose end would end it
    until(lambda: set(watches.left) == {0, 1})


def test_the_one_that_fails_waits_for_the_others_save(watches: Watches) -> None:
    first, second = watches.add(0, grace=30.0), watches.add(1, grace=30.0)
    begin = time.monotonic()
    second.wait_for_saves()
    assert time.monotonic() - begin < 5
    saving = first.saving()
    saving.__enter__()
    threading.Timer(0.3, saving.__exit__, [None, None, None]).start()
    begin = time.monotonic()
    second.wait_for_saves()
    assert time.monotonic() - begin >= 0.25


def test_a_save_that_hangs_is_not_waited_for_for_ever(watches: Watches) -> None:
    first, second = watches.add(0, patience=0.2), watches.add(1, patience=0.2)
    with first.saving():
        second.fail(Failure(1, "a bug"))
        second.wait_for_saves()
        until(lambda: set(watches.left) == {0, 1})


def test_who_was_killed_in_a_save_is_not_waited_for(watches: Watches) -> None:
    first, second = watches.add(0, grace=30.0), watches.add(1, grace=30.0)
    with first.saving():
        first._ended.set()  # as if killed: without a last word
        until(lambda: is_saving(watches.store, 0))
        second.wait_for_saves()


def test_whose_exchange_broke_down_hears_of_the_others_failure(watches: Watches) -> None:
    first, second = watches.add(0, grace=30.0), watches.add(1, grace=30.0)
    with pytest.raises(RuntimeError), first.waiting("an exchange"):
        raise RuntimeError("connection closed")
    assert first.broke_while_waiting
    assert first.failure_of_others(0.0) is None
    threading.Timer(0.1, second.fail, [Failure(1, "out of memory")]).start()
    assert first.failure_of_others(10.0) == Failure(1, "out of memory")


def test_who_is_silent_when_an_exchange_breaks_down_is_named(watches: Watches) -> None:
    """Under `srun` and between machines nobody else sees that a process was killed."""
    first, second, third = (watches.add(rank, world_size=3, grace=30.0) for rank in range(3))
    second.step("update 9")
    until(lambda: first.beats_of_others().keys() == {1, 2})
    until(lambda: first.beats_of_others()[1].doing == "update 9")
    second._ended.set()  # as if killed: without a last word
    time.sleep(3 * INTERVAL)
    beats = first.beats_of_others()
    until(lambda: first.beats_of_others()[2].alive > beats[2].alive + 2)
    failure = first.silent_since(beats)
    assert failure is not None
    assert failure.rank == 1
    assert failure.text.startswith("is gone: the exchange with it broke off")
    assert "it was last 'update 9'. It was killed" in failure.text
    third.stop()
    assert first.beats_of_others().keys() == {1}  # who has ended in order is not missed


def test_who_stalls_is_named(watches: Watches) -> None:
    first, second = watches.add(0, timeout=0.3), watches.add(1, timeout=0.3)
    first.step("update 4")
    second.step("update 4")
    with first.waiting("the exchange of gradients"):
        until(lambda: set(watches.left) == {0, 1})
    failure = watches.left[0]
    assert failure.rank == 1
    assert "stalls: no progress for 0.3 s (distributed_training.heartbeat_timeout=0.3) in 'update 4'" in failure.text
    assert "process " in failure.text
    assert len(watches.told) == 1


def test_the_network_is_named_where_nobody_is_missing(watches: Watches) -> None:
    first, second = watches.add(0, timeout=0.3), watches.add(1, timeout=0.3)
    first.step("update 4")
    second.step("update 4")
    with first.waiting("the exchange of gradients"), second.waiting("the exchange of gradients"):
        until(lambda: watches.left)
    assert "no process is missing: all are in 'the exchange of gradients'" in next(iter(watches.left.values())).text


def test_who_waits_for_one_that_gets_on_does_not_stall(watches: Watches) -> None:
    first, second = watches.add(0, timeout=0.3), watches.add(1, timeout=0.3)
    first.step("validation")
    with first.waiting("the exchange of figures"):
        for number in range(20):
            second.step(f"validation {number}")
            time.sleep(0.05)
    assert not watches.left


def test_before_the_first_step_nobody_stalls(watches: Watches) -> None:
    watches.add(0, timeout=0.05)
    watches.add(1, timeout=0.05)
    time.sleep(0.3)
    assert not watches.left


def test_who_gives_no_sign_of_life_is_gone(watches: Watches) -> None:
    watches.add(0, gone_after=0.3)
    silent = watches.add(1)
    silent.step("update 9")
    time.sleep(5 * INTERVAL)
    silent._ended.set()  # as if killed: without a last word
    until(lambda: 0 in watches.left)
    assert watches.left[0].rank == 1
    assert "has given no sign of life for 0 s" in watches.left[0].text
    assert "'update 9'" in watches.left[0].text
    assert watches.told == [(0, watches.left[0])]


def test_a_job_that_was_stopped_as_a_whole_goes_on(watches: Watches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z and `fg`, or SLURM's suspension: meanwhile nobody was waited for."""
    real, ahead = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + ahead[0])
    first, second = (watches.add(rank, gone_after=2.0, timeout=2.0, longest_turn=1.0) for rank in (0, 1))
    first.step("update 4")
    second.step("update 4")
    time.sleep(10 * INTERVAL)
    ahead[0] = 3600.0
    time.sleep(20 * INTERVAL)
    assert not watches.left
    second._ended.set()  # what comes afterwards counts as ever
    until(lambda: 0 in watches.left)
    assert watches.left[0].rank == 1


def test_who_has_ended_in_order_is_not_missed(watches: Watches) -> None:
    watches.add(0, gone_after=0.2)
    watches.add(1).stop()
    time.sleep(0.5)
    assert not watches.left


def test_a_store_that_is_gone_is_asked_once(watches: Watches) -> None:
    class Gone:
        asked = 0

        def set(self, key: str, value: str) -> None:
            self.asked += 1
            raise RuntimeError("connection refused")

    watches.store = gone = Gone()
    watch = watches.add(0)
    until(lambda: 0 in watches.left)
    assert "lost the others: the process that keeps their meeting place" in watches.left[0].text
    failure = Failure(0, "a bug")
    assert watch.fail(failure) == failure
    assert watch.failure_of_others(5.0) is None
    watch.stop()
    assert gone.asked == 1
    assert watch.store_is_gone
