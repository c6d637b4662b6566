"""One of two processes of a training killed: the other ends too, says why, and the same command goes on."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import Training
from tests.unit.training.toy import assert_same_state

_ENOUGH_ROUNDS = 5


def _ranks(training: Training) -> list[int]:
    """The processes that train, by id: children of the one that was started."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == training.process and b"spawn_main" in command:
            found.append(int(place.name))
    return sorted(found)


def test_one_of_two_ranks(training: Any, survived: Any, rounds: int) -> None:
    if rounds < _ENOUGH_ROUNDS:
        pytest.skip(f"takes minutes: by hand, with --fault-rounds={_ENOUGH_ROUNDS} or more")
    two = (
        "distributed_training.distributed_world_size=2",
        "optimization.update_freq=[1]",
        "optimization.max_update=42",  # long enough to be found at work
    )
    whole = training("whole", *two)
    assert whole.run() == 0, whole.said()
    for number in range(max(1, rounds // 5)):
        rng = random.Random(4000 + number)
        killed = training(f"killed-{number}", *two)
        killed.start()
        killed.wait_for_update(rng.randint(1, 21))
        ranks = _ranks(killed)
        assert len(ranks) == 2, killed.said()
        os.kill(rng.choice(ranks), signal.SIGKILL)
        assert killed.wait() > 0
        assert "of 2" in killed.said()
        assert "SIGKILL" in killed.said()
        assert all(not Path(f"/proc/{rank}").exists() for rank in ranks), "a process was left behind"
        assert killed.run() == 0, killed.said()
        assert_same_state(killed.state(), whole.state())
        survived("SIGKILL of one of two ranks")
