"""How many processes train, which of them this one is, and which it has to start: read from options and environment.

In this order: `distributed_init_method`, torchrun's variables, SLURM's variables, the GPUs of this machine. Decides
only: starts nothing and connects to nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlparse

from seqkit.config.sections import DistributedTrainingConfig
from seqkit.distributed.slurm import SlurmTask, find_task
from seqkit.errors import ConfigError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Plan:
    """The processes of a training, as this one sees them.

    Attributes:
        world_size: how many there are, over all machines.
        first_rank: rank of this process, or of the first one that it starts.
        starts: how many it starts; 0: it is itself one of them.
        device_id: GPU of this process, or of the first one that it starts.
        host: where they meet: name or address of the machine of rank 0.
        port: and at which port; 0: any free one (only where all processes are started from here).
        store_is_there: somebody else (torchrun) keeps the meeting place.
        attempt: how often the processes were started before.
        origin: what said so, in words.
        store: an open connection to the meeting place, None where there is none yet.
    """

    world_size: int
    first_rank: int = 0
    starts: int = 0
    device_id: int = 0
    host: str = LOOPBACK
    port: int = 0
    store_is_there: bool = False
    attempt: int = 0
    origin: str = "one process"
    store: Any = None

    @property
    def is_alone(self) -> bool:
        """Whether this process trains by itself."""
        return self.world_size == 1

    @property
    def keeps_store(self) -> bool:
        """Whether the processes meet at this one."""
        return self.first_rank == 0 and not self.store_is_there

    def member(self, index: int, port: int) -> Plan:
        """The plan of the `index`-th process that is started, which finds the meeting place kept by its starter."""
        return replace(
            self,
            first_rank=self.first_rank + index,
            starts=0,
            device_id=self.device_id + index,
            port=port,
            store_is_there=True,
        )


def plan_processes(config: DistributedTrainingConfig, *, gpus: int, environ: Mapping[str, str]) -> Plan:
    """Find out who trains.

    Args:
        config: the section `distributed_training`.
        gpus: GPUs that this process may use (0 with `common.cpu`).
        environ: the environment variables.

    Raises:
        ConfigError: options contradict each other or the environment.
    """
    if config.distributed_init_method not in (None, "env://"):
        return _from_options(config, gpus)
    if all(environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")):
        return _from_torchrun(config, gpus, environ)
    if config.distributed_init_method == "env://":
        raise ConfigError(
            "distributed_training.distributed_init_method=env:// needs the environment variables MASTER_ADDR, "
            "MASTER_PORT, WORLD_SIZE and RANK (torchrun sets them)"
        )
    task = find_task(environ, in_batch_script=config.distributed_port > 0)
    if task is not None and (task.tasks > 1 or task.nodes > 1):
        return _from_slurm(config, gpus, task)
    return _on_this_machine(config, gpus)


def _from_options(config: DistributedTrainingConfig, gpus: int) -> Plan:
    method = config.distributed_init_method
    assert method is not None
    address = urlparse(method)
    try:
        port = address.port
    except ValueError:
        port = None
    if address.scheme != "tcp" or not address.hostname or not port:
        raise ConfigError(
            f"distributed_training.distributed_init_method={method} is not understood; give tcp://HOST:PORT of the "
            "machine of rank 0, or env:// for torchrun's variables"
        )
    world_size, rank = config.distributed_world_size, config.distributed_rank or 0
    if world_size is None:
        raise ConfigError(
            "distributed_training.distributed_init_method needs distributed_training.distributed_world_size, the "
            "number of processes over all machines"
        )
    if rank >= world_size:
        raise ConfigError(
            f"distributed_training.distributed_rank={rank} must be below distributed_world_size={world_size}"
        )
    starts = 1 if config.distributed_no_spawn else min(_processes_here(config, gpus), world_size - rank)
    return Plan(
        world_size,
        first_rank=rank,
        starts=0 if starts <= 1 else starts,
        device_id=config.device_id,
        host=address.hostname,
        port=port,
        origin="distributed_training.distributed_init_method",
    )


def _from_torchrun(config: DistributedTrainingConfig, gpus: int, environ: Mapping[str, str]) -> Plan:
    numbers = {name: _number(environ, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
    local = _number(environ, "LOCAL_RANK") if environ.get("LOCAL_RANK") else config.device_id
    _note_world_size(config, numbers["WORLD_SIZE"], "torchrun")
    return Plan(
        numbers["WORLD_SIZE"],
        first_rank=numbers["RANK"],
        device_id=_visible(local, gpus),
        host=environ["MASTER_ADDR"],
        port=numbers["MASTER_PORT"],
        store_is_there=environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=_number(environ, "TORCHELASTIC_RESTART_COUNT") if environ.get("TORCHELASTIC_RESTART_COUNT") else 0,
        origin="torchrun",
    )


def _from_slurm(config: DistributedTrainingConfig, gpus: int, task: SlurmTask) -> Plan:
    port = config.distributed_port if config.distributed_port > 0 else task.port
    here = 1 if config.distributed_no_spawn else _processes_here(config, gpus)
    if task.tasks == task.nodes and here > 1:
        # One task on each machine: it starts the machine's processes.
        _note_world_size(config, task.nodes * here, "SLURM")
        return Plan(
            task.nodes * here,
            first_rank=task.node * here,
            starts=here,
            host=task.first_host,
            port=port,
            origin="SLURM (one task on each machine)",
        )
    _note_world_size(config, task.tasks, "SLURM")
    return Plan(
        task.tasks,
        first_rank=task.task,
        device_id=_visible(task.local, gpus),
        host=task.first_host,
        port=port,
        origin="SLURM",
    )


def _on_this_machine(config: DistributedTrainingConfig, gpus: int) -> Plan:
    world_size = config.distributed_world_size
    if config.distributed_no_spawn:
        if world_size is not None and world_size > 1:
            raise ConfigError(
                f"distributed_training.distributed_world_size={world_size}, but distributed_no_spawn is set and "
                "nothing says which process this is; start it with torchrun or srun, or give distributed_init_method"
            )
        return Plan(1, device_id=config.device_id)
    if world_size is None:
        world_size = _processes_here(config, gpus)
    if gpus and config.device_id + world_size > gpus:
        if world_size == 1:
            return Plan(1, device_id=config.device_id)
        raise ConfigError(
            f"distributed_training.distributed_world_size={world_size}, but this machine has {gpus} GPU"
            f"{'s' if gpus > 1 else ''}; for several machines use torchrun or srun, or give distributed_init_method, "
            "distributed_rank and distributed_world_size on each of them"
        )
    if world_size == 1:
        return Plan(1, device_id=config.device_id)
    return Plan(
        world_size,
        starts=world_size,
        device_id=config.device_id,
        port=max(config.distributed_port, 0),
        origin="this machine's GPUs" if gpus else "distributed_training.distributed_world_size",
    )


def _processes_here(config: DistributedTrainingConfig, gpus: int) -> int:
    """Processes that this machine gets: as many as the options say, else one for each GPU."""
    given = config.distributed_num_procs if config.distributed_num_procs is not None else config.nprocs_per_node
    if given is None:
        return max(gpus, 1)
    if gpus and given > gpus:
        raise ConfigError(
            f"distributed_training.distributed_num_procs={given}, but this machine has {gpus} GPU"
            f"{'s' if gpus > 1 else ''}; leave it out to get one process for each"
        )
    return max(given, 1)


def _visible(local: int, gpus: int) -> int:
    """A launcher may show each process only its own GPU, which is then number 0."""
    return 0 if gpus == 1 else local


def _note_world_size(config: DistributedTrainingConfig, world_size: int, who: str) -> None:
    given = config.distributed_world_size
    if given is not None and given != world_size:
        logger.warning(
            "distributed_training.distributed_world_size=%d is not looked at: %s has started %d processes",
            given,
            who,
            world_size,
        )


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ[name]
    if not text.isdecimal():
        raise ConfigError(f"the environment variable {name}={text} must be a whole number")
    return int(text)
