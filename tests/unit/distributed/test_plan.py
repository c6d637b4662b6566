from __future__ import annotations

import logging
import subprocess
from typing import Any

import pytest

from seqkit.config.sections import DistributedTrainingConfig
from seqkit.distributed.plan import Plan, plan_processes
from seqkit.errors import ConfigError

TORCHRUN = {"MASTER_ADDR": "head", "MASTER_PORT": "29500", "WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "3",
}


@pytest.fixture(autouse=True)
def _without_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Any:
        raise FileNotFoundError("scontrol")

    monkeypatch.setattr(subprocess, "run", missing)


def plan(gpus: int = 0, environ: dict[str, str] | None = None, **options: Any) -> Plan:
    return plan_processes(DistributedTrainingConfig(**options), gpus=gpus, environ=environ or {})


class TestOnOneMachine:
    def test_one_process(self) -> None:
        for found in (plan(), plan(gpus=1), plan(gpus=8, distributed_world_size=1)):
            assert found.is_alone
            assert found.starts == 0
        assert plan(gpus=8, distributed_world_size=1, device_id=3).device_id == 3
        assert plan(gpus=8, distributed_no_spawn=True, device_id=2) == Plan(1, device_id=2)

    def test_one_process_for_each_gpu(self) -> None:
        found = plan(gpus=4)
        assert (found.world_size, found.starts, found.keeps_store, found.port) == (4, 4, True, 0)
        assert plan(gpus=4, distributed_num_procs=2).world_size == 2
        assert plan(gpus=4, nprocs_per_node=3).world_size == 3

    def test_processes_on_a_cpu(self) -> None:
        found = plan(distributed_world_size=2, distributed_port=4000)
        assert (found.world_size, found.starts, found.host, found.port) == (2, 2, "127.0.0.1", 4000)

    def test_members(self) -> None:
        second = plan(gpus=4, device_id=1, distributed_world_size=2).member(1, 5000)
        assert (second.first_rank, second.starts, second.device_id, second.port) == (1, 0, 2, 5000)
        assert not second.keeps_store

    def test_more_processes_than_gpus(self) -> None:
        with pytest.raises(ConfigError, match=r"distributed_world_size=8, but this machine has 4 GPUs; for several"):
            plan(gpus=4, distributed_world_size=8)
        with pytest.raises(ConfigError, match=r"distributed_num_procs=5, but this machine has 4 GPUs"):
            plan(gpus=4, distributed_num_procs=5)

    def test_a_process_of_which_nothing_says_which_it_is(self) -> None:
        with pytest.raises(ConfigError, match="distributed_no_spawn is set and nothing says which process this is"):
            plan(distributed_world_size=2, distributed_no_spawn=True)


class TestByOptions:
    def test_one_process_of_several(self) -> None:
        options = {"distributed_init_method": "tcp://head:4000", "distributed_world_size": 4, "distributed_rank": 3}
        found = plan(distributed_no_spawn=True, device_id=1, gpus=2, **options)
        assert (found.first_rank, found.starts, found.device_id) == (3, 0, 1)
        assert (found.host, found.port, found.keeps_store) == ("head", 4000, False)
        assert plan(**options).starts == 0  # on a CPU there is nothing to start one process for each of

    def test_first_process_of_a_machine(self) -> None:
        options = {"distributed_init_method": "tcp://head:4000", "distributed_world_size": 8}
        assert plan(gpus=4, **options).keeps_store
        second = plan(gpus=4, distributed_rank=4, **options)
        assert (second.first_rank, second.starts, second.keeps_store) == (4, 4, False)
        assert plan(gpus=4, distributed_rank=6, **options).starts == 2

    def test_mistakes(self) -> None:
        for method in ("tcp://head", "file:///tmp/x", "head:4000", "tcp://head:port"):
            with pytest.raises(ConfigError, match="is not understood; give tcp://HOST:PORT"):
                plan(distributed_init_method=method, distributed_world_size=2)
        with pytest.raises(ConfigError, match=r"needs distributed_training\.distributed_world_size"):
            plan(distributed_init_method="tcp://head:1")
        with pytest.raises(ConfigError, match="distributed_rank=2 must be below distributed_world_size=2"):
            plan(distributed_init_method="tcp://head:1", distributed_world_size=2, distributed_rank=2)
        with pytest.raises(ConfigError, match="needs the environment variables MASTER_ADDR"):
            plan(distributed_init_method="env://")


class TestTorchrun:
    def test_variables(self) -> None:
        found = plan(gpus=4, environ=TORCHRUN)
        assert (found.world_size, found.first_rank, found.starts, found.device_id) == (8, 5, 0, 1)
        assert (found.host, found.port, found.origin) == ("head", 29500, "torchrun")
        assert plan(environ={**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}).is_alone

    def test_the_agent_keeps_the_store(self) -> None:
        first = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}
        assert plan(environ=first).keeps_store
        agent = plan(environ={**first, "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2"})
        assert not agent.keeps_store
        assert agent.attempt == 2

    def test_a_process_that_sees_only_its_own_gpu(self) -> None:
        assert plan(gpus=1, environ=TORCHRUN).device_id == 0

    def test_it_goes_before_the_option(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        assert plan(environ=TORCHRUN, distributed_world_size=16).world_size == 8
        assert "distributed_world_size=16 is not looked at: torchrun has started 8 processes" in caplog.text

    def test_bad_number(self) -> None:
        with pytest.raises(ConfigError, match="RANK=x must be a whole number"):
            plan(environ={**TORCHRUN, "RANK": "x"})


class TestSlurm:
    def test_one_task_for_each_process(self) -> None:
        found = plan(gpus=4, environ={**SLURM, "SLURM_NTASKS": "8", "SLURM_PROCID": "7"})
        assert (found.world_size, found.first_rank, found.starts, found.device_id) == (8, 7, 0, 3)
        assert found.host == "n1"
        assert found.port > 0

    def test_one_task_for_each_machine(self) -> None:
        environ = {**SLURM, "SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
        found = plan(gpus=4, environ=environ)
        assert (found.world_size, found.first_rank, found.starts) == (8, 4, 4)
        alone = plan(gpus=4, environ=environ, distributed_no_spawn=True)
        assert (alone.world_size, alone.first_rank, alone.starts) == (2, 1, 0)
        assert plan(environ=environ).world_size == 2  # without GPUs

    def test_port(self) -> None:
        environ = {**SLURM, "SLURM_NTASKS": "8", "SLURM_PROCID": "7"}
        assert plan(gpus=4, environ=environ, distributed_port=5000).port == 5000

    def test_a_single_task_is_a_machine_of_its_own(self) -> None:
        environ = {"SLURM_STEP_NODELIST": "n1", "SLURM_NNODES": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
        assert plan(gpus=4, environ=environ).starts == 4
        assert plan(gpus=0, environ=environ).is_alone
