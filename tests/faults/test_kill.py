"""SIGKILL, at any moment: the same command goes on, and ends with the very parameters of a run that was left alone."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.faults.conftest import UPDATES


def test_at_random_moments(training: Any, goes_on_the_same: Any, survived: Any, rounds: int) -> None:
    for number in range(max(2, rounds)):
        rng = random.Random(number)
        interrupted = training(f"random-{number}")
        killed = 0
        while killed < 1 + number % 2:  # every other one twice in a row
            at = rng.randrange(UPDATES)
            interrupted.start()
            interrupted.wait_for_update(at)
            time.sleep(rng.uniform(0, 0.03))
            if not interrupted.kill():
                break  # it had reached the end before
            killed += 1
        during = "a checkpoint half-written" if interrupted.half_written() else "whole files only"
        goes_on_the_same(interrupted)
        survived("SIGKILL at a random moment" + (", twice in a row" if killed > 1 else ""), during)


def test_while_a_checkpoint_is_written(training: Any, goes_on_the_same: Any, survived: Any, rounds: int) -> None:
    for number in range(rounds):
        rng = random.Random(1000 + number)
        interrupted = training(f"saving-{number}")
        at = rng.randrange(UPDATES - 1)
        interrupted.start()
        interrupted.wait_for_update(at, saving=True)
        time.sleep(rng.choice([0.0, rng.uniform(0, 0.002)]))
        interrupted.kill()
        during = "a checkpoint half-written" if interrupted.half_written() else "whole files only"
        goes_on_the_same(interrupted)
        survived("SIGKILL while a checkpoint is written", during)


# The steps of one save: fsync of the file, rename, fsync of the folder; for every further name a link, its rename, the
# folder's fsync; then the deletions.
_STEPS = ("fsync", "replace", "link", "unlink")


@pytest.mark.parametrize("function", _STEPS)
def test_between_the_steps_of_a_save(
    training: Any, goes_on_the_same: Any, survived: Any, rounds: int, function: str
) -> None:
    for number in range(max(1, rounds // 2)):
        rng = random.Random(2000 + number)
        interrupted = training(f"{function}-{number}")
        interrupted.start(kill_at=(function, rng.randint(3, 12)))
        assert interrupted.wait() == -9, interrupted.said()
        during = "a checkpoint half-written" if interrupted.half_written() else "whole files only"
        goes_on_the_same(interrupted)
        survived(f"SIGKILL in a save, before {function}", during)
