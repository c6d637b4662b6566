"""What `seqkit-generate` decodes, batch by batch: in this process, or in several whose results are put in order.

Every process decodes batches of its own, loads its own models, and talks to nobody but the process that started it.
Knows nothing of output lines or scorers.
"""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from seqkit.config.base import Config
from seqkit.config.root import RootConfig, root_from_dict
from seqkit.errors import SeqkitError, UserError
from seqkit.registry import import_user_dir

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from seqkit.distributed.plan import Plan
    from seqkit.generation.output import SentenceResult


@dataclass
class Split:
    """A split that is being decoded.

    Attributes:
        batches: lists of sentences in their order, one for each batch, and one for those that were left out.
        count: how many lists there are at most.
        scoring: the section `scoring` of the checkpoint's config with what was given.
        symbols: of the target dictionary.
        stop: ends the decoding, wherever it stands, even before the first batch was asked for.
    """

    batches: Generator[list[SentenceResult], None, None]
    count: int
    scoring: Config | None
    symbols: list[str]
    stop: Callable[[], None]


def decode_split(config: RootConfig, shard: tuple[int, int] = (0, 1)) -> Split:
    """Load the models and the split of `dataset.gen_subset`; the batches are decoded as they are asked for.

    Args:
        config: of the command.
        shard: this process's number and how many there are; they share the batches of `dataset.shard_id`.
    """
    import torch

    from seqkit.hub import Hub

    rank, processes = shard
    settings = config.dataset
    own = {
        "num_shards": settings.num_shards * processes,
        "shard_id": settings.shard_id + rank * settings.num_shards,
    }
    config.given["dataset"] = {**config.given.get("dataset", {}), **own}
    hub = Hub.load(config)
    hub.forks = True
    if not config.generation.no_seed_provided:
        torch.manual_seed(config.common.seed + rank)
    dataset = hub.task.load_dataset(config.dataset.gen_subset)
    epoch = hub.batch_iterator(dataset, leave_out_too_long=True)
    batches = epoch.next_epoch_itr(shuffle=False)
    reports_left_out = settings.shard_id == 0 and not settings.skip_invalid_size_inputs_valid_test

    def decoded() -> Generator[list[SentenceResult], None, None]:
        yield from hub.decode_batches(batches, dataset)
        # the last process's turn is the last of all
        if reports_left_out and rank == processes - 1 and len(epoch.ignored):
            yield hub.left_out(dataset, epoch.ignored.tolist())

    lists = decoded()
    symbols = list(hub.target_dictionary.symbols)
    return Split(lists, len(batches) + 1, hub.config.scoring, symbols, lists.close)


def decode_split_in_processes(config: RootConfig, plan: Plan) -> Split:
    """The same, by the processes that `plan` has this one start.

    Raises:
        UserError: what a process raised as one.
        SeqkitError: a process failed.
    """
    workers = _Workers(config, plan)
    try:
        first = workers.headers()
    except BaseException:
        workers.stop()
        raise
    return Split(workers.batches(), first.lists * plan.starts, first.scoring, first.symbols, workers.stop)


class _Header(NamedTuple):
    lists: int
    scoring: Config | None
    symbols: list[str]


class _Failure(NamedTuple):
    text: str
    is_users: bool


_END = "end"
_PATIENCE = 60.0
"""Seconds that a process which is done may take to end."""
_PATIENCE_WHEN_STOPPED = 10.0
"""Seconds that a process whose results are no longer wanted may take for what it has in hand."""


class _Workers:
    """Processes that decode, and the pipes that they send their results through."""

    def __init__(self, config: RootConfig, plan: Plan) -> None:
        import torch
        from torch import multiprocessing

        context = multiprocessing.get_context("spawn")
        threads = max(1, torch.get_num_threads() // plan.starts)
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []
        self._waiting: list[deque[Any]] = [deque() for _ in range(plan.starts)]
        for index in range(plan.starts):
            member = plan.member(index, plan.port)
            given = {**config.given}
            given["distributed_training"] = {**given.get("distributed_training", {}), "device_id": member.device_id}
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_work,
                args=(given, config.common.user_dir, (member.first_rank, plan.world_size), index == 0, threads, theirs),
                name=f"seqkit-generate-{index}",
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)

    def headers(self) -> _Header:
        """What the first process says of the split, once all are ready."""
        headers = [self._next(index) for index in range(len(self._processes))]
        header = headers[0]
        assert isinstance(header, _Header)
        return header

    def batches(self) -> Generator[list[SentenceResult], None, None]:
        """The processes' lists in turn, until all have ended."""
        try:
            going_on = list(range(len(self._processes)))
            while going_on:
                for index in list(going_on):
                    item = self._next(index)
                    if item == _END:
                        going_on.remove(index)
                    else:
                        yield item
            for process in self._processes:
                process.join(_PATIENCE)
        finally:
            self.stop()

    def stop(self) -> None:
        """End all processes, whatever they are doing."""
        for connection in self._connections:
            connection.close()
        # Each ends by itself when nobody takes its next results, and in order, which a signal would not let it.
        until = time.monotonic() + _PATIENCE_WHEN_STOPPED
        for process in self._processes:
            process.join(max(until - time.monotonic(), 0))
            if process.is_alive():
                process.terminate()
                process.join()

    def _next(self, index: int) -> Any:
        """The next thing that a process sent. Meanwhile what others send is taken too, so that none has to wait."""
        while not self._waiting[index]:
            for ready in wait([connection for connection in self._connections if not connection.closed]):
                assert isinstance(ready, Connection)
                sender = self._connections.index(ready)
                try:
                    item = ready.recv()
                except EOFError:
                    self._processes[sender].join()
                    code = self._processes[sender].exitcode
                    raise SeqkitError(
                        f"decoding process {sender} ended with exit code {code} before it was done (if the machine "
                        "ran out of memory, use fewer processes or smaller batches)"
                    ) from None
                if isinstance(item, _Failure):
                    raise (UserError if item.is_users else SeqkitError)(item.text)
                if item == _END:
                    ready.close()
                self._waiting[sender].append(item)
        return self._waiting[index].popleft()


def _work(
    given: dict[str, Any],
    user_dir: str | None,
    shard: tuple[int, int],
    logs: bool,
    threads: int,
    connection: Connection,
) -> None:
    """What a process does."""
    import torch

    from seqkit_cli._main import command_logging
    from seqkit_cli._memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    split: Split | None = None
    try:
        with command_logging(None):
            if not logs:
                logging.getLogger().setLevel(logging.WARNING)
            if user_dir:
                import_user_dir(user_dir)
            config = root_from_dict(given, partial=True)
            config.given = given
            split = decode_split(config, shard)
            connection.send(_Header(split.count, split.scoring, split.symbols))
            for batch in split.batches:
                connection.send(batch)
            connection.send(_END)
    except (BrokenPipeError, KeyboardInterrupt):
        pass  # nobody listens any more
    except UserError as error:
        _tell(connection, _Failure(str(error), is_users=True))
    except Exception:
        text = f"decoding process {shard[0]} failed:\n{traceback.format_exc()}"
        _tell(connection, _Failure(text, is_users=False))
    finally:
        if split is not None:
            split.stop()
        connection.close()


def _tell(connection: Connection, failure: _Failure) -> None:
    with contextlib.suppress(BrokenPipeError):
        connection.send(failure)
