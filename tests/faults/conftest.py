"""The trainings that the fault suite interrupts, and the table of what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.io import read_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit_cli.preprocess import main as preprocess
from tests.unit.training.toy import assert_same_state

REPOSITORY = Path(__file__).resolve().parents[2]
UPDATES = 14
"""Updates of an uninterrupted run: two epochs of seven."""
_TIMEOUT = 900.0

_RESULTS = pytest.StashKey[dict[str, list[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-rounds", type=int, default=1, help="times that each fault is tried (by hand: 30)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and not sys.platform.startswith("linux"):
            item.add_marker(pytest.mark.skip("processes are looked at in /proc"))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = config.stash.get(_RESULTS, {})
    if not results:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line("| fault | rounds | went on, bitwise equal in the end | found after the kill |")
    terminalreporter.write_line("|---|---|---|---|")
    for fault, notes in results.items():
        counts = ", ".join(f"{notes.count(note)} {note}" for note in dict.fromkeys(notes) if note)
        terminalreporter.write_line(f"| {fault} | {len(notes)} | {len(notes)} | {counts} |")


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("fault_rounds", default=1))


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Any:
    """Call with the fault's name, and a note, after a round that ended as it should."""

    def note(fault: str, what: str = "") -> None:
        request.config.stash[_RESULTS].setdefault(fault, []).append(what)

    return note


class Server:
    """`tests/faults/server.py`, seen from a test."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=REPOSITORY,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults-data")
    rng = random.Random(1)
    for split, count in (("train", 112), ("valid", 16)):
        lines = [[rng.choice("abcdefgh") for _ in range(rng.randint(2, 7))] for _ in range(count)]
        (folder / f"{split}.de").write_text("".join(" ".join(line) + "\n" for line in lines))
        (folder / f"{split}.en").write_text("".join(" ".join(line[::-1]).upper() + "\n" for line in lines))
    flags = ["-s", "de", "-t", "en", "--trainpref", str(folder / "train"), "--validpref", str(folder / "valid")]
    assert preprocess([*flags, "--destdir", str(folder / "bin")]) == 0
    return folder / "bin"


class Training:
    """One command line of `seqkit-train`, started as often as it takes to end."""

    def __init__(self, server: Server, data: Path, folder: Path, *more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.save_dir = folder / "checkpoints"
        self.log = folder / "log.json"
        self.output = folder / "output"
        self._server = server
        self.process = 0
        self._arguments = [
            "task=translation",
            f"task.data={data}",
            "model=transformer",
            *(f"model.{side}_embed_dim=64" for side in ("encoder", "decoder")),
            *(f"model.{side}_ffn_embed_dim=256" for side in ("encoder", "decoder")),
            *(f"model.{side}_layers=1" for side in ("encoder", "decoder")),
            *(f"model.{side}_attention_heads=2" for side in ("encoder", "decoder")),
            "criterion=label_smoothed_cross_entropy",
            "criterion.label_smoothing=0.1",
            "optimizer=adam",
            "optimization.lr=[0.01]",
            "optimization.update_freq=[2]",
            f"optimization.max_update={UPDATES}",
            "lr_scheduler=inverse_sqrt",
            "lr_scheduler.warmup_updates=10",
            "dataset.batch_size=8",
            "dataset.num_workers=0",
            "ema.store_ema=true",
            "ema.ema_decay=0.9",
            "common.cpu=true",
            "common.log_format=json",
            "common.log_interval=1",
            f"common.log_file={self.log}",
            "checkpoint.save_interval_updates=2",
            "checkpoint.keep_interval_updates=2",
            "checkpoint.keep_best_checkpoints=1",
            f"checkpoint.save_dir={self.save_dir}",
            *more,
        ]

    def start(self, kill_at: tuple[str, int] | None = None) -> None:
        """Begin, or go on; `kill_at` is a function of `os` before whose n-th call the process dies."""
        answer = self._server.ask(start=self._arguments, log=str(self.output), kill_at=kill_at)
        self.process = answer["process"]

    def wait(self) -> int:
        """The exit code, negative for a signal."""
        return int(self._server.ask(wait=self.process)["code"])

    def run(self) -> int:
        """Start and wait."""
        self.start()
        return self.wait()

    def kill(self) -> bool:
        """SIGKILL; whether the process was still at work."""
        os.kill(self.process, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    @property
    def is_running(self) -> bool:
        """Whether it has not ended. (Ended processes stay until `wait`.)"""
        status = Path(f"/proc/{self.process}/stat")
        with contextlib.suppress(OSError):
            return status.read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    def wait_until(self, condition: Any) -> None:
        """Return as soon as `condition()` holds or the process has ended."""
        deadline = time.monotonic() + _TIMEOUT
        while not condition() and self.is_running:
            assert time.monotonic() < deadline, f"nothing happened: {self.said()}"
            time.sleep(0.0005)

    def wait_for_update(self, number: int, *, saving: bool = False) -> None:
        """Return as soon as an update is done (and a checkpoint is being written) or the process has ended."""
        self.wait_until(lambda: self.updates_logged() >= number and (not saving or self.half_written()))

    def updates_logged(self) -> int:
        """Updates done so far, over all starts of this training, as the log says."""
        if not self.log.exists():
            return 0
        found = re.findall(r'"num_updates": "(\d+)"', self.log.read_text())
        return int(found[-1]) if found else 0

    def said(self) -> str:
        """What it has printed, over all starts."""
        return self.output.read_text() if self.output.exists() else ""

    def half_written(self) -> list[Path]:
        """Temporary files in the folder of checkpoints."""
        return list(self.save_dir.glob(".*.tmp"))

    def state(self) -> CheckpointState:
        """What the last checkpoint holds."""
        return read_checkpoint(self.save_dir / "checkpoint_last.pt")

    def files(self) -> list[Path]:
        """The checkpoints that are there."""
        return sorted(self.save_dir.glob("*.pt"))


@pytest.fixture
def training(server: Server, data: Path, tmp_path: Path) -> Iterator[Any]:
    """Makes trainings in folders of their own: `training("name", *more_options)`."""
    made: list[Training] = []

    def make(name: str, *more: str, folder: Path | None = None) -> Training:
        made.append(Training(server, data, tmp_path / name if folder is None else folder, *more))
        return made[-1]

    yield make
    for one in made:
        shutil.rmtree(one.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def whole(server: Server, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The training that nothing happens to."""
    training = Training(server, data, tmp_path_factory.mktemp("whole"))
    assert training.run() == 0, training.said()
    return training


@pytest.fixture
def goes_on_the_same(whole: Training) -> Any:
    """Call with a training that was interrupted: it is started again and must end as the uninterrupted one did."""

    def check(training: Training, *, intact: bool = True) -> None:
        for path in training.half_written():
            os.utime(path, (0, 0))  # as if it had been a while ago
        for path in training.files() if intact else ():
            read_checkpoint(path)  # a killed writer leaves no half of a file under a checkpoint's name
        assert training.run() == 0, training.said()
        assert_same_state(training.state(), whole.state())
        assert training.half_written() == []
        missing = {path.name for path in whole.files()} - {path.name for path in training.files()}
        assert not missing, f"not there in the end: {missing}"

    return check
