from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from seqkit.checkpoint.background import Background


def test_a_job_is_done_while_the_caller_goes_on() -> None:
    background: Background[int] = Background()
    go = threading.Event()
    background.start(lambda abandoned: 3 if go.wait(20) else 4)
    assert background.busy
    assert background.poll() is None
    go.set()
    assert background.wait() == 3
    assert not background.busy
    assert background.wait() is None
    assert background.poll() is None


def test_the_caller_gets_the_error_once() -> None:
    background: Background[int] = Background()

    def job(abandoned: Callable[[], bool]) -> int:
        raise OSError("no space")

    background.start(job)
    with pytest.raises(OSError, match="no space"):
        background.wait()
    assert background.wait() is None
    background.start(lambda abandoned: 5)
    assert background.wait() == 5


def test_never_two_at_once() -> None:
    background: Background[int] = Background()
    background.start(lambda abandoned: 1)
    with pytest.raises(AssertionError, match="not collected"):
        background.start(lambda abandoned: 2)
    assert background.wait() == 1


def test_an_abandoned_job_is_told() -> None:
    background: Background[bool] = Background()

    told: list[bool] = []

    def job(abandoned: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + 20
        while not abandoned() and time.monotonic() < deadline:
            time.sleep(0.001)
        told.append(abandoned())
        return True

    background.abandon(patience=0)
    background.start(job)
    background.abandon(patience=20)
    assert told == [True]
    assert background.wait() is None
    background.start(lambda abandoned: not abandoned())
    assert background.wait() is True
