import pytest

from seqkit.metrics import run_clock
from seqkit.metrics.run_clock import RunClock


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(run_clock.time, "perf_counter", lambda: now[0])
    return now


def test_time_left_by_updates(clock):
    run = RunClock(max_update=1000)
    run.begin(0, 0.0)
    clock[0] += 50
    assert run.left(100, 0.5) == pytest.approx(450)
    assert run.left(1000, 5.0) == 0


def test_what_was_done_before_a_resume_took_no_time_of_this_run(clock):
    run = RunClock(max_update=1000)
    run.begin(900, 4.5)
    clock[0] += 10
    assert run.left(920, 4.6) == pytest.approx(40)


def test_the_first_bound_to_be_reached_counts(clock):
    run = RunClock(max_update=1000, max_epoch=2, max_seconds=3600)
    run.begin(0, 0.0, seconds=3000)
    clock[0] += 60
    assert run.left(100, 1.0) == pytest.approx(60), "epochs"
    assert run.left(500, 0.1) == pytest.approx(60), "updates"
    assert run.left(1, 0.01) == pytest.approx(540), "seconds, those of the run before too"


def test_nobody_can_tell(clock):
    unbounded = RunClock()
    clock[0] += 5
    assert unbounded.left(10, 0.1) is None
    just_begun = RunClock(max_update=10)
    assert just_begun.left(0, 0.0) is None
