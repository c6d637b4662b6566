"""A command in as many processes as the config and the environment say: one, one of several, or the starter of several.

Knows nothing of what the command does. Imports torch.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from seqkit.config.root import RootConfig, root_from_dict
from seqkit.config.validate import to_dict
from seqkit.distributed.communication import Communication, SingleProcess
from seqkit.distributed.launch import run_member, start_members, told
from seqkit.distributed.plan import Plan, plan_processes
from seqkit.distributed.watch import Failure
from seqkit.errors import UserError
from seqkit.registry import import_user_dir

logger = logging.getLogger(__name__)

_INTERRUPTED = 128 + int(signal.SIGINT)

Work = Callable[[RootConfig, Communication], int]
"""What a command does in each process: an importable function."""


def run_processes(config: RootConfig, work: Work, command: str, *, log_to_stderr: bool = False) -> int:
    """Run `work` in all the processes that are to share it.

    Args:
        config: what the command was told. In each process, its section `distributed_training` says which one that is.
        work: returns the exit code; in the only process, its errors pass through.
        command: the command's name, for messages.
        log_to_stderr: started processes log to standard error, for commands whose results are on standard output.

    Returns:
        the exit code. Errors of several processes have been shown by then.

    Raises:
        UserError: options and environment contradict each other.
        KeyboardInterrupt: Ctrl-C has ended the processes.
    """
    cpu = config.common.cpu or not torch.cuda.is_available()
    gpus = 0 if cpu else torch.cuda.device_count()
    plan = plan_processes(config.distributed_training, gpus=gpus, environ=os.environ)
    if plan.is_alone:
        config.distributed_training.device_id = plan.device_id
        return work(config, SingleProcess())
    tell = functools.partial(_tell, command)
    if plan.starts == 0:
        code = _be_member(plan, config, work, tell)
    else:
        logger.info("starting %d of %d processes on this machine (%s)", plan.starts, plan.world_size, plan.origin)
        content = to_dict(config)
        code = start_members(plan, _begin, (content, config.given, work, log_to_stderr), tell=tell)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt  # as it would in a single process
    return code


def interrupted_by(code: int) -> signal.Signals | None:
    """The signal that an exit code of 128 and above stands for."""
    try:
        return signal.Signals(code - 128)
    except ValueError:
        return None


def _begin(plan: Plan, content: Mapping[str, Any], given: dict[str, Any], work: Work, log_to_stderr: bool) -> int:
    """A started process begins where the command had composed its config."""
    from seqkit_cli._main import command_logging
    from seqkit_cli._memory import keep_freed_memory

    user_dir = content["common"]["user_dir"]
    if user_dir:
        import_user_dir(user_dir)
    config = root_from_dict(content)
    config.given = given
    keep_freed_memory()
    with command_logging(sys.stderr if log_to_stderr else sys.stdout):
        return _be_member(plan, config, work, None)


def _be_member(plan: Plan, config: RootConfig, work: Work, tell: Callable[[Failure, int], None] | None) -> int:
    distributed = config.distributed_training
    distributed.distributed_world_size = plan.world_size
    distributed.distributed_rank = plan.first_rank
    distributed.device_id = plan.device_id
    with _quiet(plan.first_rank):
        return run_member(
            plan,
            functools.partial(work, config),
            device=_device(config, plan),
            backend=distributed.distributed_backend,
            heartbeat_timeout=distributed.heartbeat_timeout if distributed.heartbeat_timeout > 0 else None,
            tell=tell,
        )


def _device(config: RootConfig, plan: Plan) -> torch.device:
    if config.common.cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if plan.device_id >= count:
        raise UserError(
            f"{plan.origin} has started a process for GPU {plan.device_id} of a machine that has {count}; start one "
            "process for each GPU"
        )
    torch.cuda.set_device(plan.device_id)
    return torch.device("cuda", plan.device_id)


@contextmanager
def _quiet(rank: int) -> Iterator[None]:
    """Only rank 0 logs; the others would say the same again."""
    root = logging.getLogger()
    before = root.level
    if rank == 0:
        yield
        return
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)


def _tell(command: str, failure: Failure, world_size: int) -> None:
    if failure.exit_code != _INTERRUPTED:  # which the command tells itself
        print(f"{command}: error: {told(failure, world_size)}", file=sys.stderr, flush=True)
