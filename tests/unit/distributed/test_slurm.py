from __future__ import annotations

import subprocess
from typing import Any

import pytest

from seqkit.distributed import slurm
from seqkit.distributed.slurm import expand_hosts, find_task, first_host
from seqkit.errors import ConfigError

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}


@pytest.fixture(autouse=True)
def _without_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: Any, **options: Any) -> Any:
        raise FileNotFoundError("scontrol")

    monkeypatch.setattr(subprocess, "run", missing)


@pytest.mark.parametrize(
    ("nodes", "hosts"),
    [
        ("node7", ["node7"]),
        ("a,b.example-3", ["a", "b.example-3"]),
        ("gpu[08-10,12],login", ["gpu08", "gpu09", "gpu10", "gpu12", "login"]),
        ("r[1-2]n[1,3]-ib", ["r1n1-ib", "r1n3-ib", "r2n1-ib", "r2n3-ib"]),
        ("n[099-101]", ["n099", "n100", "n101"]),
    ],
)
def test_lists_of_machines(nodes: str, hosts: list[str]) -> None:
    assert expand_hosts(nodes) == hosts
    assert first_host(nodes) == hosts[0]


@pytest.mark.parametrize("nodes", ["a[1-", "a[3-1]", "a[x]", "a b"])
def test_what_is_no_list_of_machines(nodes: str) -> None:
    with pytest.raises(ConfigError, match=r"SLURM's list of machines .* cannot be read"):
        expand_hosts(nodes)


def test_scontrol_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(command: list[str], **options: Any) -> Any:
        assert command == ["scontrol", "show", "hostnames", "x[1-2]"]
        return subprocess.CompletedProcess(command, 0, "first\nsecond\n")

    monkeypatch.setattr(slurm.subprocess, "run", told)
    assert first_host("x[1-2]") == "first"


def test_task_of_a_step() -> None:
    task = find_task(STEP)
    assert task is not None
    assert (task.task, task.tasks, task.node, task.nodes, task.local) == (5, 8, 1, 2, 1)
    assert task.first_host == "gpu07"
    assert task.port == find_task({**STEP, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}).port  # type: ignore[union-attr]
    assert 12000 <= task.port < 32000
    assert task.port != find_task({**STEP, "SLURM_STEP_ID": "1"}).port  # type: ignore[union-attr]


def test_without_srun_there_is_no_task() -> None:
    assert find_task({}) is None
    batch = {"SLURM_JOB_NODELIST": "a,b", "SLURM_PROCID": "0", "SLURM_NNODES": "2", "SLURM_NTASKS": "2"}
    assert find_task(batch) is None
    task = find_task(batch, in_batch_script=True)
    assert task is not None
    assert (task.tasks, task.first_host) == (2, "a")


def test_tasks_by_node() -> None:
    variables = {"SLURM_STEP_NODELIST": "a,b", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "0"}
    task = find_task(variables)
    assert task is not None
    assert task.tasks == 8


def test_uneven_tasks_and_bad_numbers() -> None:
    with pytest.raises(ConfigError, match=r"started 7 tasks on 2 machines; give each the same number"):
        find_task({**STEP, "SLURM_STEP_NUM_TASKS": "7"})
    with pytest.raises(ConfigError, match="SLURM_PROCID=x is not a number"):
        find_task({**STEP, "SLURM_PROCID": "x"})
