"""SLURM's environment: which process of the job this one is, and which machine is the first.

Reads variables and asks `scontrol` at most; starts nothing. Knows nothing of torch.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from seqkit.errors import ConfigError

_FIRST_PORT = 12000
_PORTS = 20000
"""Ports from 12000 to 31999: below those that systems hand out by themselves."""

_RANGES = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True)
class SlurmTask:
    """One task of a job step.

    Attributes:
        task: its number among the step's tasks, from 0.
        tasks: how many there are.
        node: number of its machine, from 0.
        nodes: how many machines there are.
        local: its number on its machine, from 0.
        first_host: name of the first machine.
        port: a port that all tasks of the step agree on and other jobs hardly choose.
    """

    task: int
    tasks: int
    node: int
    nodes: int
    local: int
    first_host: str
    port: int


def find_task(environ: Mapping[str, str], *, in_batch_script: bool = False) -> SlurmTask | None:
    """This process's task, None where it was not started by `srun`.

    Args:
        environ: the environment variables.
        in_batch_script: also believe the variables of a job outside a step, as fairseq does where
            `--distributed-port` is given.

    Raises:
        ConfigError: tasks are spread unevenly over the machines, or a variable makes no sense.
    """
    nodes = environ.get("SLURM_STEP_NODELIST")
    if nodes is None and in_batch_script:
        nodes = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST")
    if not nodes or "SLURM_PROCID" not in environ:
        return None
    node_count = _number(environ, "SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES") or 1
    tasks = _number(environ, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    if tasks is None:
        tasks = (_number(environ, "SLURM_NTASKS_PER_NODE") or 1) * node_count
    if tasks % node_count != 0:
        raise ConfigError(
            f"SLURM has started {tasks} tasks on {node_count} machines; give each the same number, with "
            "srun --ntasks-per-node"
        )
    return SlurmTask(
        task=_number(environ, "SLURM_PROCID") or 0,
        tasks=tasks,
        node=_number(environ, "SLURM_NODEID") or 0,
        nodes=node_count,
        local=_number(environ, "SLURM_LOCALID") or 0,
        first_host=first_host(nodes),
        port=_FIRST_PORT + (7 * (_job(environ)) + (_number(environ, "SLURM_STEP_ID") or 0)) % _PORTS,
    )


def first_host(nodes: str) -> str:
    """The first name of SLURM's compact list of machines, as `scontrol` tells it or, without it, as we read it."""
    try:
        told = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, timeout=60, check=True
        )
        names = told.stdout.split()
    except (OSError, subprocess.SubprocessError):
        names = []
    return names[0] if names else expand_hosts(nodes)[0]


def expand_hosts(nodes: str) -> list[str]:
    """All names of a compact list: `a[08-10,12],b` is a08, a09, a10, a12, b.

    Raises:
        ConfigError: it is not such a list.
    """
    hosts: list[str] = []
    for part in re.split(r",(?![^\[]*\])", nodes.strip()):
        hosts += _expand_one(part.strip(), nodes)
    return hosts


def _expand_one(name: str, nodes: str) -> list[str]:
    found = _RANGES.search(name)
    if found is None:
        if not re.fullmatch(r"[\w.-]+", name):
            raise ConfigError(f"SLURM's list of machines {nodes!r} cannot be read at {name!r}")
        return [name]
    head, rest = name[: found.start()], name[found.end() :]
    tails = _expand_one(rest, nodes) if rest else [""]
    return [f"{head}{number}{tail}" for number in _numbers(found.group(1), nodes) for tail in tails]


def _numbers(ranges: str, nodes: str) -> list[str]:
    numbers: list[str] = []
    for part in ranges.split(","):
        first, _, last = part.strip().partition("-")
        last = last or first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ConfigError(f"SLURM's list of machines {nodes!r} cannot be read at [{ranges}]")
        numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return numbers


def _job(environ: Mapping[str, str]) -> int:
    return _number(environ, "SLURM_JOB_ID", "SLURM_JOBID") or 0


def _number(environ: Mapping[str, str], *names: str) -> int | None:
    for name in names:
        text = environ.get(name)
        if text:
            if not text.isdecimal():
                raise ConfigError(f"SLURM's variable {name}={text} is not a number")
            return int(text)
    return None
