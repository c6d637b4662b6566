"""A function applied to items side by side by forked processes, with the results in the items' order.

Threads of one Python process take turns at everything that is not a long operation; processes do not. A forked one
has all that its parent had loaded, without copying it. Knows nothing of what the items are.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import torch
from torch import Tensor

from seqkit.errors import SeqkitError

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_HAND = 2
"""Items that a process has: the one it works at, and the next."""
_PATIENCE = 5.0
"""Seconds that a process whose results are no longer wanted may take to end."""


def can_fork() -> bool:
    """Whether processes may be forked here: on Linux, if no GPU is in use (which does not survive a fork)."""
    return sys.platform == "linux" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def forked_map(function: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """`function(item)` of each item, in the order of the items; errors are raised where their result would be.

    Processes are started when there is something for them to do, each with one thread for PyTorch's operations. They
    end with the iterator, also when it is closed early. Ctrl-C is left to the caller.

    Args:
        function: is called in the processes; what it changes is not seen here.
        items: read here, at most two for each process ahead. They are pickled, and so are the results.
        processes: how many to use.

    Raises:
        SeqkitError: a process ended before it was done.
    """
    pool = _Pool(function)
    waiting: deque[_Worker] = deque()
    try:
        for item in items:
            worker = pool.worker_for_next(processes)
            worker.give(item)
            waiting.append(worker)
            if len(waiting) >= _IN_HAND * processes:
                yield pool.result_of(waiting.popleft())
        while waiting:
            yield pool.result_of(waiting.popleft())
    finally:
        pool.stop()


class _Worker:
    """A process, the pipe to it, and its results that nobody has asked for yet."""

    def __init__(self, function: Callable[[Any], Any], others: list[_Worker], number: int) -> None:
        self.connection, theirs = get_context("fork").Pipe()
        self.unfinished = 0
        self.results: deque[bytes] = deque()
        inherited = [*(other.connection for other in others), self.connection]
        self.process = get_context("fork").Process(
            target=_serve, args=(function, theirs, inherited, number), name=f"seqkit-worker-{number}", daemon=True
        )
        with warnings.catch_warnings():
            # Python warns of every fork beside other threads. PyTorch's are idle, and are not used by the child.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()

    def give(self, item: Any) -> None:
        self.unfinished += 1
        # if it has ended, why is told where its result is missed
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(_pickled(item))

    def take(self) -> None:
        """Receive its next result.

        Raises:
            SeqkitError: it has ended.
        """
        try:
            self.results.append(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise SeqkitError(
                f"{self.process.name} ended with exit code {self.process.exitcode} before it was done "
                "(if the machine ran out of memory, use fewer processes or smaller batches)"
            ) from None
        self.unfinished -= 1


class _Pool:
    """The processes."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function
        self._workers: list[_Worker] = []

    def worker_for_next(self, processes: int) -> _Worker:
        """One that has room for an item; a new one while there are fewer than `processes`."""
        if len(self._workers) < processes:
            self._workers.append(_Worker(self._function, self._workers, len(self._workers)))
            return self._workers[-1]
        while True:
            self._take(timeout=0.0)
            idlest = min(self._workers, key=lambda worker: worker.unfinished)
            if idlest.unfinished < _IN_HAND:
                return idlest
            self._take(timeout=None)

    def result_of(self, worker: _Worker) -> Any:
        """The oldest result of a worker that was not asked for yet."""
        while not worker.results:
            self._take(timeout=None)
        result, error, trace = pickle.loads(worker.results.popleft())
        if error is not None:
            raise error from SeqkitError(f"in {worker.process.name}:\n{trace}")
        return result

    def stop(self) -> None:
        for worker in self._workers:
            worker.connection.close()  # the process ends then
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _take(self, timeout: float | None) -> None:
        """Receive what has come; wait for it, if that is asked for."""
        busy = {worker.connection: worker for worker in self._workers if worker.unfinished}
        for connection in wait(list(busy), timeout):
            assert isinstance(connection, Connection)
            busy[connection].take()


def _serve(function: Callable[[Any], Any], connection: Connection, inherited: list[Connection], number: int) -> None:
    """What a process does until its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in inherited:
        other.close()  # or nobody would see them closed by the parent
    gc.freeze()  # what the parent made is not looked through, and so not copied
    torch.set_num_threads(1)
    torch.manual_seed(torch.initial_seed() + 1 + number)
    items: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_receive, args=(connection, items), daemon=True).start()
    while True:
        item = pickle.loads(items.get())
        try:
            answer = _pickled((function(item), None, ""))
        except Exception as error:
            answer = _pickled((None, _as_it_travels(error), traceback.format_exc()))
        try:
            connection.send_bytes(answer)
        except OSError:
            return


def _receive(connection: Connection, items: SimpleQueue[bytes]) -> None:
    """Take items as they come: else the parent could wait for room in the pipe, and results for the parent."""
    try:
        while True:
            items.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)  # nobody wants what is being computed


def _as_it_travels(error: Exception) -> Exception:
    """The error, or, where that cannot be pickled, another with its text."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        return SeqkitError(f"{type(error).__name__}: {error}")
    return error if type(again) is type(error) and str(again) == str(error) else SeqkitError(str(error))


class _Pickler(pickle.Pickler):
    """Takes the values of tensors along, by way of NumPy, in a tenth of the time that PyTorch's own way takes."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Tensor and obj.device.type == "cpu" and not obj.requires_grad and obj.dtype in _OF_NUMPY:
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


_OF_NUMPY = {torch.int64, torch.int32, torch.float32, torch.float64, torch.bool, torch.uint8}


def _pickled(item: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(item)
    return buffer.getvalue()
