"""A channel beside the collectives: which process failed first, which stalls, which is gone.

Each process has a thread that tells the others, through torch's key-value store, that it is alive and what it is doing,
and that ends the process when another one has failed: a main thread that waits in a collective could not. The store is
a connection of its own, so a process stuck in a collective can be told from the one that did not come to it. Knows
nothing of training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

T = TypeVar("T")

_FAILURE = "seqkit/failure"
STORE_GONE = "the process that keeps their meeting place (the starter of the job, or rank 0) is gone"
_INTERVAL = 1.0
"""Seconds from one sign of life to the next."""
_GONE_AFTER = 60.0
"""Seconds without a sign of life after which a process counts as gone."""
_LONGEST_TURN = 10.0
"""Seconds between two looks that count at most. A job may be stopped as a whole and go on later (Ctrl-Z, SLURM's
suspension, SIGSTOP); then nobody was waited for meanwhile."""
_LOOKS_AT_END = 20
_GRACE = 3.0
"""Seconds that a main thread gets to end by itself once another process has failed."""
_PATIENCE = 300.0
"""Seconds that a job which has failed waits for a checkpoint that a process is writing."""
_SILENT_AFTER = 10.0
"""Seconds without a sign of life after which a process that was writing a checkpoint is no longer waited for."""


class Store(Protocol):
    """What is used of torch's key-value stores. Operations raise RuntimeError where the store is gone."""

    def set(self, key: str, value: str, /) -> None:
        """Write."""
        ...

    def get(self, key: str, /) -> bytes:
        """Read; waits for a key that is not there."""
        ...

    def check(self, keys: list[str], /) -> bool:
        """Whether all keys are there."""
        ...

    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes:
        """Write where the value is `expected` (empty: not there); returns the value that is there afterwards."""
        ...


@dataclass(frozen=True)
class Failure:
    """Why a job ends.

    Attributes:
        rank: whose failure it is.
        text: the error as it is shown.
        exit_code: the job's exit code.
        is_users: `text` is a message to the user, not a traceback.
        by: rank of the process that noticed it from outside and shows it; below 0 where it is shown by `rank` itself.
    """

    rank: int
    text: str
    exit_code: int = 1
    is_users: bool = False
    by: int = field(default=-1, compare=False)


@dataclass(frozen=True)
class Beat:
    """What a process says of itself.

    Attributes:
        alive: rises with every sign of life.
        steps: rises with every step of its main thread.
        doing: what the main thread does, in words.
        waits: whether it waits for the others in that.
        still: seconds since the last step.
        where: machine and process number.
        done: it has ended in order.
        saves: it is writing a checkpoint, whatever its main thread does.
    """

    alive: int
    steps: int
    doing: str
    waits: bool
    still: float
    where: str
    done: bool = False
    saves: bool = False


def claim_failure(store: Store, failure: Failure) -> Failure:
    """Make `failure` the one that ends the job, unless there is one already; returns the one that does."""
    text = json.dumps(dataclasses.asdict(failure))
    return Failure(**json.loads(store.compare_set(_FAILURE, "", text)))


def find_failure(store: Store) -> Failure | None:
    """The failure that ends the job, if there is one."""
    return Failure(**json.loads(store.get(_FAILURE))) if store.check([_FAILURE]) else None


def is_saving(store: Store, rank: int) -> bool:
    """Whether a process has said last that it is writing a checkpoint; False where the store does not answer."""
    with contextlib.suppress(RuntimeError):
        beat = _beat_of(store, rank)
        return beat is not None and beat.saves and not beat.done
    return False


class Watch:
    """One process's end of the channel. `start` and `stop` it.

    Args:
        store: a connection that nobody else uses.
        timeout: seconds without a step, on any process, after which the job ends; None: never. Counted from the first
            step.
        leave: ends this process, called in the watching thread, at most once; tests replace it.
        tell: shows the failure of a process that cannot do so itself.
        interval: seconds between signs of life.
        gone_after: seconds without one after which a process is gone.
        grace: seconds that the main thread gets to end by itself once the job has failed.
        patience: seconds beyond that for a checkpoint that any process is writing.
        longest_turn: seconds between two signs of life that count at most: the process was stopped for the others.

    Attributes:
        broke_while_waiting: an error came while the main thread waited for the others.
        store_is_gone: the process that keeps the store no longer answers.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        world_size: int,
        *,
        timeout: float | None = None,
        leave: Callable[[Failure], None] | None = None,
        tell: Callable[[Failure], None] | None = None,
        interval: float = _INTERVAL,
        gone_after: float = _GONE_AFTER,
        grace: float = _GRACE,
        patience: float = _PATIENCE,
        longest_turn: float = _LONGEST_TURN,
    ) -> None:
        self._store = store
        self._rank = rank
        self._world_size = world_size
        self._timeout = timeout
        self._leave = leave or _leave
        self._tell = tell or (lambda failure: None)
        self._interval = interval
        self._gone_after = gone_after
        self._grace = grace
        self._patience = patience
        self._longest_turn = longest_turn
        self._where = f"{socket.gethostname()}, process {os.getpid()}"
        self._steps = 0
        self._doing = "starting"
        self._waits = False
        self.broke_while_waiting = False
        self.store_is_gone = False
        self._stopped = 0.0
        self._stepped_at = self._now()
        self._alive = 0
        self._saves = 0
        self._seen_saving: dict[int, tuple[int, float]] = {}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, name="seqkit-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End in order: the others no longer expect signs of life."""
        if not self._ended.is_set():
            self._ended.set()
            with contextlib.suppress(RuntimeError):
                self._ask(lambda store: store.set(_key(self._rank), self._beat(done=True)))
        # A thread that is using the store when the interpreter ends would have the process killed (SIGABRT). In pieces,
        # as no time is given to it while the process is stopped.
        for _ in range(_LOOKS_AT_END):
            if not self._thread.is_alive():
                break
            self._thread.join(10 * self._interval / _LOOKS_AT_END)

    # called by any thread

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is written in what follows: if the job fails meanwhile, no process ends before it is done."""
        self._count_saves(1)
        try:
            yield
        finally:
            self._count_saves(-1)

    def _count_saves(self, change: int) -> None:
        with self._lock:
            self._saves += change
        with contextlib.suppress(RuntimeError):
            self._ask(self._give_sign)

    # called by the main thread

    def step(self, doing: str) -> None:
        """The main thread has come to something new."""
        self._doing = doing
        self._steps += 1
        self._stepped_at = self._now()

    @contextlib.contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        """The main thread waits for the other processes in what follows."""
        before, self._doing, self._waits = (self._doing, self._waits), doing, True
        try:
            yield
        except BaseException:
            self.broke_while_waiting = True
            raise
        finally:
            self._doing, self._waits = before

    def fail(self, failure: Failure) -> Failure:
        """This process has failed; returns the failure that ends the job, which may be an earlier one."""
        try:
            return self._ask(lambda store: claim_failure(store, failure))
        except RuntimeError:
            return failure

    def failure_of_others(self, within: float) -> Failure | None:
        """The failure that ends the job, where it becomes known within so many seconds.

        For a process whose exchange with the others broke down: that is mostly for want of one of them, and then the
        other's failure is the one to tell.
        """
        deadline = time.monotonic() + within
        while True:
            try:
                failure = self._ask(find_failure)
            except RuntimeError:
                return None
            if failure is not None or time.monotonic() >= deadline:
                return failure
            time.sleep(0.1)

    def beats_of_others(self) -> dict[int, Beat]:
        """What the others have said last, those that have ended in order left out; nothing where the store is gone."""
        beats: dict[int, Beat] = {}
        with contextlib.suppress(RuntimeError):
            for rank in range(self._world_size):
                beat = self._ask(lambda store, rank=rank: _beat_of(store, rank))  # type: ignore[misc]
                if rank != self._rank and beat is not None and not beat.done:
                    beats[rank] = beat
        return beats

    def silent_since(self, before: dict[int, Beat]) -> Failure | None:
        """The failure of the first process that has given no sign of life since `before`, which is seconds ago."""
        now = self.beats_of_others()
        silent = [rank for rank, beat in before.items() if rank in now and now[rank].alive == beat.alive]
        if not silent:
            return None
        beat = now[silent[0]]
        others = f"; nor have ranks {', '.join(map(str, silent[1:]))}" if len(silent) > 1 else ""
        return Failure(
            silent[0],
            f"is gone: the exchange with it broke off, and it gives no sign of life any more ({beat.where}); it was "
            f"last {_told(beat)}{others}. It was killed, or its machine is down",
        )

    def wait_for_saves(self) -> None:
        """Until no process is writing a checkpoint, as far as patience goes; for a process that is about to fail.

        Those that start processes (torchrun, SLURM) end all of them soon after one has failed.
        """
        deadline = time.monotonic() + self._patience
        while self._someone_saves() and time.monotonic() < deadline:
            time.sleep(0.2 * self._interval)

    def _someone_saves(self) -> bool:
        """Whether a process that gives signs of life is writing a checkpoint."""
        if self._saves:
            return True
        for rank in range(self._world_size):
            if rank == self._rank:
                continue
            try:
                beat = self._ask(lambda store, rank=rank: _beat_of(store, rank))  # type: ignore[misc]
            except RuntimeError:
                return False
            if beat is None or beat.done or not beat.saves:
                continue
            alive, since = self._seen_saving.get(rank, (-1, 0.0))
            if beat.alive != alive:
                since = time.monotonic()
                self._seen_saving[rank] = beat.alive, since
            if time.monotonic() - since < _SILENT_AFTER * self._interval / _INTERVAL:
                return True
        return False

    # the thread

    def _now(self) -> float:
        """Seconds on a clock that stands still while this process is stopped."""
        return time.monotonic() - self._stopped

    def _watch(self) -> None:
        neighbour = (self._rank + 1) % self._world_size
        seen, seen_at = -1, self._now()
        failure, failed_at = None, 0.0
        looked_at = self._now()
        while not self._ended.wait(self._interval):
            self._stopped += max(0.0, self._now() - looked_at - self._longest_turn)
            looked_at = self._now()
            try:
                found, beat = self._exchange(neighbour)
            except RuntimeError:
                found, beat = Failure(self._rank, f"lost the others: {STORE_GONE}"), None
                if failure is None and not self._ended.is_set():
                    self._tell(found)
            if beat is not None and (beat.alive != seen or beat.done):
                seen, seen_at = beat.alive, self._now()
            if found is None and beat is not None and self._now() - seen_at > self._gone_after:
                found = self._claim(
                    Failure(
                        neighbour,
                        f"has given no sign of life for {self._gone_after:.0f} s ({beat.where}); it was last "
                        f"{_told(beat)}. It was killed, or its machine is down",
                    )
                )
            if found is None and self._stalls():
                verdict = self._verdict()
                found = None if verdict is None else self._claim(verdict)
            if failure is None and found is not None:
                failure, failed_at = found, self._now()
            if failure is not None and self._may_leave(self._now() - failed_at):
                self._leave(failure)
                return

    def _may_leave(self, since: float) -> bool:
        """Whether the main thread has had its time, so many seconds after the job failed, and no save is cut short."""
        if since < self._grace or self._ended.is_set():
            return False
        return since >= self._grace + self._patience or not self._someone_saves()

    def _claim(self, failure: Failure) -> Failure:
        first = self.fail(dataclasses.replace(failure, by=self._rank))
        if first == failure and first.by == self._rank:  # two may notice the same
            self._tell(failure)
        return first

    def _exchange(self, neighbour: int) -> tuple[Failure | None, Beat | None]:
        """Give a sign of life; the job's failure and the neighbour's last sign, where there are such."""

        def work(store: Store) -> tuple[Failure | None, Beat | None]:
            self._give_sign(store)
            return find_failure(store), _beat_of(store, neighbour)

        return self._ask(work)

    def _give_sign(self, store: Store) -> None:
        if not self._ended.is_set():
            self._alive += 1
            store.set(_key(self._rank), self._beat())

    def _ask(self, question: Callable[[Store], T]) -> T:
        """Use the store. Once it does not answer it is left alone, for torch writes a page about each attempt.

        Raises:
            RuntimeError: it does not answer.
        """
        with self._lock:
            if self.store_is_gone:
                raise RuntimeError(STORE_GONE)
            try:
                return question(self._store)
            except RuntimeError:
                self.store_is_gone = True
                raise

    def _stalls(self) -> bool:
        started = self._steps > 0
        return self._timeout is not None and started and self._now() - self._stepped_at > self._timeout

    def _verdict(self) -> Failure | None:
        """Who holds the job up: those that are not waiting for the others; of these, the one that is furthest behind.

        None where a process still gets on, so that the others wait for good reason.
        """
        assert self._timeout is not None
        beats: dict[int, Beat] = {}
        for rank in range(self._world_size):
            try:
                beat = self._ask(lambda store, rank=rank: _beat_of(store, rank))  # type: ignore[misc]
            except RuntimeError:
                return None
            if beat is not None:
                beats[rank] = beat
        if any(beat.still + 2 * self._interval < self._timeout and not beat.done for beat in beats.values()):
            return None
        timeout = f"distributed_training.heartbeat_timeout={self._timeout:g}"
        late = {rank: beat for rank, beat in beats.items() if not beat.waits and not beat.done} or {
            rank: beat
            for rank, beat in beats.items()
            if beat.steps < max(other.steps for other in beats.values()) and not beat.done
        }
        if not late:
            return Failure(
                self._rank,
                f"no progress for {self._timeout:g} s ({timeout}), though no process is missing: all are in "
                f"{self._doing!r}. Look at the network between the machines",
            )
        rank = min(late, key=lambda number: late[number].steps)
        others = f"; so do ranks {', '.join(map(str, sorted(set(late) - {rank})))}" if len(late) > 1 else ""
        return Failure(
            rank,
            f"stalls: no progress for {self._timeout:g} s ({timeout}) in {_told(late[rank])} ({late[rank].where})"
            f"{others}; the other processes wait for it",
        )

    def _beat(self, *, done: bool = False) -> str:
        still = round(self._now() - self._stepped_at, 1)
        beat = Beat(
            self._alive, self._steps, self._doing, self._waits, still, self._where, done=done, saves=self._saves > 0
        )
        return json.dumps(dataclasses.asdict(beat))


def _key(rank: int) -> str:
    return f"seqkit/beat/{rank}"


def _beat_of(store: Store, rank: int) -> Beat | None:
    key = _key(rank)
    return Beat(**json.loads(store.get(key))) if store.check([key]) else None


def _told(beat: Beat) -> str:
    return f"{'waiting for the others in ' if beat.waits else ''}{beat.doing!r}"


def _leave(failure: Failure) -> None:
    """End this process although its main thread may hang; its own children too."""
    for child in multiprocessing.active_children():
        child.terminate()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(failure.exit_code)
