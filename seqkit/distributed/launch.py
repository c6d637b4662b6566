"""Starting the processes of a training, connecting them, and ending all of them when one fails.

The processes are torch.multiprocessing's; a `Watch` beside each knows why a job ends. What the processes do is handed
in. Knows nothing of training or of commands.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.multiprocessing.spawn import ProcessContext, start_processes

from seqkit.distributed.plan import LOOPBACK, Plan
from seqkit.distributed.process_group import ProcessGroup, backend_for
from seqkit.distributed.watch import STORE_GONE, Failure, Watch, claim_failure, find_failure, is_saving
from seqkit.errors import ConfigError, SeqkitError, UserError

MEETING_SECONDS = 600.0
"""How long processes wait for each other at the start."""
_GRACE_SECONDS = 8.0
"""How long those that are left get to end by themselves."""
_SAVING_SECONDS = 90.0
"""How long processes that are asked to stop get to finish an update and to save."""
_WRITING_SECONDS = 330.0
"""How long those that are left get while one of them is writing a checkpoint; more than `Watch` gives."""
_LOOK_SECONDS = 1.0
"""How often it is looked whether processes have ended."""
_ANSWER_SECONDS = 6.0
"""How long a process whose exchange broke down waits to hear of another's failure."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

Work = Callable[[ProcessGroup], int]
Tell = Callable[[Failure, int], None]
"""Shows a failure, given how many processes there are."""


def told(failure: Failure, world_size: int) -> str:
    """A failure in words, with the process that it comes from."""
    who = f"rank {failure.rank} of {world_size}"
    if failure.is_users:
        return f"{failure.text} (from {who})"
    return f"{who} {failure.text}" if "\n" not in failure.text else f"{who} failed:\n{failure.text}"


# one process of several


def run_member(
    plan: Plan,
    work: Work,
    *,
    device: torch.device,
    backend: str,
    heartbeat_timeout: float | None,
    tell: Tell | None,
) -> int:
    """Be one of the processes: meet the others, work, and leave together.

    Args:
        plan: says which one.
        work: gets the connection; returns the exit code.
        device: where this process's model will be.
        backend: `distributed_training.distributed_backend`.
        heartbeat_timeout: seconds without progress after which the job ends; None: never.
        tell: shows the failure that ends the job, in the process that found it; None: the starter does.

    Returns:
        the exit code: that of `work`, or the job's failure's.
    """
    show: Tell = tell or (lambda failure, world_size: None)
    try:
        store, other_store = _meet(plan)
    except UserError as error:
        show(Failure(plan.first_rank, str(error), error.exit_code, is_users=True), plan.world_size)
        if tell is None:
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    watch = Watch(
        other_store,
        plan.first_rank,
        plan.world_size,
        timeout=heartbeat_timeout,
        tell=lambda failure: show(failure, plan.world_size),
    )
    watch.start()
    try:
        _wait_for_all(store, plan)
        group = ProcessGroup(
            store,
            plan.first_rank,
            plan.world_size,
            device=device,
            backend=backend_for(backend, device),
            watch=watch,
        )
        code = work(group)
        group.barrier("the end")
    except BaseException as error:
        return _failed(error, watch, plan, show)
    finally:
        watch.stop()
    group.close()
    return code


def _failed(error: BaseException, watch: Watch, plan: Plan, show: Tell) -> int:
    """Make this process's error known, unless it only follows from another's; returns the exit code."""
    first, beats = None, {}
    if watch.broke_while_waiting or isinstance(error, _EndedByOthers):
        beats = watch.beats_of_others()
        first = watch.failure_of_others(_ANSWER_SECONDS)
    if first is None:
        gone = watch.silent_since(beats) if watch.broke_while_waiting else None
        failure = gone or _failure_of(error, plan.first_rank)
        if watch.broke_while_waiting and watch.store_is_gone:
            failure = Failure(plan.first_rank, f"lost the others: {STORE_GONE} ({error})")
        first = watch.fail(failure)
        if first == failure:
            show(failure, plan.world_size)
            if isinstance(error, Exception) and not failure.is_users and gone is None:
                get_error_handler().record_exception(error)  # torchrun's report names it
    if isinstance(error, Exception):
        watch.wait_for_saves()
    return first.exit_code


def _failure_of(error: BaseException, rank: int) -> Failure:
    if isinstance(error, KeyboardInterrupt):
        return Failure(rank, "interrupted", 128 + int(signal.SIGINT), is_users=True)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
        return Failure(rank, f"left with exit code {code}", code or 1)
    if isinstance(error, SeqkitError):
        return Failure(rank, str(error), error.exit_code, is_users=True)
    return Failure(rank, "".join(traceback.format_exception(error)).rstrip())


class _EndedByOthers(SeqkitError):
    """Another process has failed before all had met."""


def _meet(plan: Plan) -> tuple[Any, Any]:
    """Two connections to the store where the processes meet: one for exchanges, one for the watch.

    Raises:
        ConfigError: there is none at the address.
    """
    if plan.store is not None:
        return _of_attempt(plan, plan.store), _of_attempt(plan, open_store(plan, keep=False))
    first = open_store(plan, keep=plan.keeps_store)
    second = open_store(plan, keep=False, port=first.port)
    return _of_attempt(plan, first), _of_attempt(plan, second)


def _of_attempt(plan: Plan, store: Any) -> Any:
    """Its part of the store: what earlier attempts of torchrun have left is not looked at."""
    return dist.PrefixStore(f"attempt {plan.attempt}", store)  # type: ignore[attr-defined]


def open_store(plan: Plan, *, keep: bool, port: int | None = None) -> Any:
    """A connection to the store of the job.

    Args:
        keep: be the one that keeps it.
        port: instead of the plan's.

    Raises:
        ConfigError: the port is taken, or nobody keeps a store there.
    """
    number = plan.port if port is None else port
    settings: dict[str, Any] = {"timeout": timedelta(seconds=MEETING_SECONDS), "wait_for_workers": False}
    try:
        if keep and plan.host == LOOPBACK:
            return _local_store(number, settings)
        return dist.TCPStore(plan.host, number, is_master=keep, **settings)  # type: ignore[attr-defined]
    except (RuntimeError, OSError) as error:
        what = "cannot be opened" if keep else "does not answer"
        raise ConfigError(
            f"the port {number} of {plan.host}, where the processes of the training meet, {what}: {error}; give "
            "another by distributed_training.distributed_port"
        ) from error


def _local_store(port: int, settings: Mapping[str, Any]) -> Any:
    """A store for processes of this machine only.

    torch's own socket would listen on all networks, and take an address such as ::ffff:127.0.0.1 for each process that
    connects, whose name it then asks a name server for: with one that does not answer, all wait for a minute or more.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, port))
        listening.listen(1024)
        port = listening.getsockname()[1]
        store = dist.TCPStore(  # type: ignore[attr-defined]
            LOOPBACK, port, is_master=True, master_listen_fd=listening.fileno(), use_libuv=False, **settings
        )
        listening.detach()  # the store closes it
    return store


def _wait_for_all(store: Any, plan: Plan) -> None:
    """Come to the meeting place, and wait until all are there.

    Raises:
        ConfigError: some do not come.
        _EndedByOthers: some have failed.
    """
    store.set(_present(plan.first_rank), "here")
    keys = [_present(rank) for rank in range(plan.world_size)]
    deadline = time.monotonic() + MEETING_SECONDS
    while not store.check(keys):
        if find_failure(store) is not None:
            raise _EndedByOthers("another process has failed")
        if time.monotonic() > deadline:
            absent = [str(rank) for rank in range(plan.world_size) if not store.check([_present(rank)])]
            raise ConfigError(
                f"after {MEETING_SECONDS:.0f} s, {len(absent)} of {plan.world_size} processes have not come to "
                f"{plan.host}:{plan.port}: ranks {', '.join(absent)}. All must be started with the same address and "
                "distributed_training.distributed_world_size"
            )
        time.sleep(0.05)


def _present(rank: int) -> str:
    return f"seqkit/present/{rank}"


# the process that starts others


def start_members(
    plan: Plan,
    member: Callable[..., int],
    arguments: Sequence[Any],
    *,
    tell: Tell,
) -> int:
    """Start this machine's processes and wait for them.

    Signals that ask to stop are passed on to them. Where one fails, the others end within seconds, and its error is
    shown once.

    Args:
        plan: says how many, and which.
        member: what each process runs, an importable function: `member(plan, *arguments)`, with its own plan; returns
            the exit code.
        arguments: plain data.
        tell: shows the failure that ends the job.

    Returns:
        the exit code: the largest of the processes', or that of the failure.
    """
    with _environment(_settings_for(plan)):
        store = open_store(plan, keep=plan.keeps_store)
        plans = [plan.member(index, store.port) for index in range(plan.starts)]
        context = start_processes(  # type: ignore[no-untyped-call]
            _run_started,
            args=(member, plans, tuple(arguments)),
            nprocs=plan.starts,
            join=False,
            start_method="spawn",
        )
    shared = _of_attempt(plan, store)
    assert isinstance(context, ProcessContext)
    with _passing_on(context):
        try:
            failure = _wait(context, shared, plan)
        except BaseException:
            # Somebody else's handler of a signal (submitit's) has raised: the processes save and end.
            _end(context, _SAVING_SECONDS)
            raise
    if failure is None:
        codes = [int(shared.get(_result(own.first_rank))) for own in plans if shared.check([_result(own.first_rank)])]
        return max(codes) if len(codes) == len(plans) else 128 + int(signal.SIGINT)
    here = range(plan.first_rank, plan.first_rank + plan.starts)
    if failure.rank in here or plan.host == LOOPBACK:
        tell(failure, plan.world_size)
    else:
        print(f"ended, because rank {failure.rank} has failed on another machine", file=sys.stderr)
    return failure.exit_code


def _run_started(index: int, member: Callable[..., int], plans: Sequence[Plan], arguments: Sequence[Any]) -> None:
    """A started process: its exit code of 0 means that it ended in order, and its result lies in the store."""
    # What starts this process has made its own way that of this process too, in which each process that reads data
    # would import torch anew, for seconds, in every epoch.
    multiprocessing.set_start_method(None, force=True)
    connection = open_store(plans[index], keep=False)
    plan = dataclasses.replace(plans[index], store=connection)
    store = _of_attempt(plan, connection)
    try:
        code = member(plan, *arguments)
    except Exception as error:
        code = claim_failure(store, _failure_of(error, plan.first_rank)).exit_code
    with contextlib.suppress(RuntimeError):
        if find_failure(store) is None:
            store.set(_result(plan.first_rank), str(code))
            return
    sys.exit(code or 1)


def _result(rank: int) -> str:
    return f"seqkit/result/{rank}"


def _wait(context: ProcessContext, store: Any, plan: Plan) -> Failure | None:
    """Wait for the processes; the failure that ended them, None where they ended in order."""
    while True:
        codes = [process.exitcode for process in context.processes]
        for index, code in enumerate(codes):
            if code:
                # Before anything else, so that the others learn why they are to end.
                words = _exit_in_words(code, context.processes[index].pid)
                found = claim_failure(store, Failure(plan.first_rank + index, *words))
                _await_end(context, store, plan)
                _end(context, _GRACE_SECONDS)
                return found
        running = [process.sentinel for process, code in zip(context.processes, codes, strict=True) if code is None]
        if not running:
            return find_failure(store)
        # Processes that a killed one has forked (they read data) live on for seconds, and look like it from here.
        multiprocessing.connection.wait(running, timeout=_LOOK_SECONDS)


def _await_end(context: ProcessContext, store: Any, plan: Plan) -> None:
    """Let the processes that are left end by themselves: within seconds, or once a checkpoint is written."""
    last = time.monotonic() + _WRITING_SECONDS
    until = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < min(until, last):
        running = [index for index, process in enumerate(context.processes) if process.is_alive()]
        if not running:
            return
        if any(is_saving(store, plan.first_rank + index) for index in running):
            until = time.monotonic() + _GRACE_SECONDS
        multiprocessing.connection.wait([context.processes[index].sentinel for index in running], timeout=0.5)


def _end(context: ProcessContext, seconds: float) -> None:
    """Ask the processes that are left to stop, and kill those that have not after so long."""
    for process in context.processes:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + seconds
    for process in context.processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
        process.join()


def _exit_in_words(code: int, process: int | None) -> tuple[str, int]:
    if code >= 0:
        return f"(process {process}) ended with exit code {code}", code
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = "; the system does so when memory runs out" if name == "SIGKILL" else ""
    return f"(process {process}) was killed by {name}{hint}", 128 - code


@contextlib.contextmanager
def _passing_on(context: ProcessContext) -> Iterator[None]:
    """Signals that ask to stop go to the processes; this one waits for their end."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in context.processes:
            if process.is_alive() and process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    former = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        for number in _SIGNALS:
            former[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _settings_for(plan: Plan) -> dict[str, str]:
    """Environment variables for processes that are started here, but for those that the user has set."""
    settings = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // plan.starts))}  # they share the cores
    if plan.host == LOOPBACK:
        # Gloo would look this machine's name up, and take a network that comes and goes.
        loopback = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)
        if loopback is not None:
            settings["GLOO_SOCKET_IFNAME"] = loopback
        # torch asks for the name of the address that it has connected to; a name server may be slow, or lose questions.
        settings["RES_OPTIONS"] = "timeout:1 attempts:3"
    return {name: value for name, value in settings.items() if name not in os.environ}


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Processes that start now have these environment variables."""
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]
