"""`seqkit-train` as one of two processes that `srun` or torchrun started: signals, and a process that is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.io import read_checkpoint
from tests.integration.tiny_training import tiny_data, tiny_training

REPOSITORY = Path(__file__).resolve().parents[2]
_TIMEOUT = 240.0

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_data(tmp_path_factory.mktemp("launchers"), train=100, valid=8)


def of_srun(rank: int, port: int) -> dict[str, str]:
    """The variables of one of two tasks, each on a machine of its own."""
    return {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "localhost,node[02-03,7]",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_NODEID": str(rank),
        "SLURM_LOCALID": "0",
    }


def of_torchrun(rank: int, port: int) -> dict[str, str]:
    address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return address | {"RANK": str(rank), "LOCAL_RANK": "0"}


class Two:
    """The two processes of one training that does not end by itself."""

    def __init__(self, data: Path, folder: Path, environment: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.save_dir = folder / "checkpoints"
        self._log = folder / "log"
        self._outputs = [folder / f"output-{rank}" for rank in range(2)]
        arguments = tiny_training(data, folder)
        self.processes = []
        for rank in range(2):
            variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **environment(rank, port)}
            with open(self._outputs[rank], "w") as output:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "seqkit_cli.train", *arguments],
                        stdout=output,
                        stderr=output,
                        env=os.environ | variables,
                    )
                )

    def wait_for_updates(self) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while not (self._log.exists() and "train_loss" in self._log.read_text()):
            assert all(process.poll() is None for process in self.processes), self.said(0) + self.said(1)
            assert time.monotonic() < deadline, self.said(0) + self.said(1)
            time.sleep(0.05)

    def codes(self) -> list[int]:
        return [process.wait(_TIMEOUT) for process in self.processes]

    def said(self, rank: int) -> str:
        return self._outputs[rank].read_text()


@pytest.fixture
def two(data: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Two]:
    training = Two(data, tmp_path, request.param)
    yield training
    for process in training.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.parametrize("two", [of_srun, of_torchrun], indirect=True)
def test_a_signal_to_one_ends_both_with_its_code(two: Two) -> None:
    two.wait_for_updates()
    two.processes[1].send_signal(signal.SIGUSR1)
    assert two.codes() == [138, 138], two.said(0) + two.said(1)
    assert two.said(0).count("the same command goes on from there") == 1
    assert "2 processes (pytorch_ddp), each on CPU" in two.said(0)
    assert two.said(1) == ""
    assert read_checkpoint(two.save_dir / "checkpoint_last.pt").iterator["num_shards"] == 2


@pytest.mark.parametrize("two", [of_srun], indirect=True)
def test_one_that_is_killed_is_named_by_the_other(two: Two) -> None:
    two.wait_for_updates()
    two.processes[1].kill()
    assert two.codes() == [1, -signal.SIGKILL]
    assert "rank 1 of 2 is gone: the exchange with it broke off" in two.said(0)
    assert f"process {two.processes[1].pid}" in two.said(0)
    assert "Traceback" not in two.said(0)
