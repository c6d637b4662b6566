"""A function applied by forked processes."""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import Any

import pytest
import torch

from seqkit.distributed.forked_map import can_fork, forked_map
from seqkit.errors import ConfigError, SeqkitError

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes can be forked on Linux alone")


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_results_come_in_the_order_of_the_items_from_several_processes() -> None:
    def slow_at_first(number: int) -> tuple[int, int]:
        time.sleep(0.2 if number == 0 else 0.0)
        return number, os.getpid()

    found = list(forked_map(slow_at_first, range(20), 2))
    assert [number for number, _ in found] == list(range(20))
    processes = {process for _, process in found}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert all(gone(process) for process in processes)


def test_a_process_that_is_busy_gets_no_more_items_than_it_must() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.5 if number == 0 else 0.0)
        return os.getpid()

    found = list(forked_map(slow_at_first, range(4), 2))
    assert found.count(found[0]) <= 2


def test_no_more_processes_than_items() -> None:
    assert len(set(forked_map(lambda _: os.getpid(), range(2), 16))) == 2
    assert list(forked_map(lambda _: os.getpid(), [], 16)) == []


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(5),
        torch.tensor([True, False]),
        torch.randn(2, 3).half(),
        torch.randn(4, 4)[:, 1:3],
        torch.tensor(3.0),
        {"text": "ä", "list": [torch.zeros(0, 2)]},
    ],
)
def test_tensors_travel_there_and_back(value: Any) -> None:
    (there_and_back,) = forked_map(lambda item: item, [value], 2)
    if isinstance(value, torch.Tensor):
        assert there_and_back.dtype == value.dtype
        assert torch.equal(there_and_back, value)
    else:
        assert there_and_back["text"] == "ä"
        assert there_and_back["list"][0].shape == (0, 2)


def test_large_items_and_results_do_not_wait_for_each_other() -> None:
    large = b"x" * 4_000_000
    assert all(len(result) == len(large) for result in forked_map(lambda item: item, [large] * 8, 2))


def test_an_error_is_raised_in_its_place_with_where_it_came_from() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ConfigError("three is too many")
        return number

    results = forked_map(work, range(6), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ConfigError, match="three is too many") as raised:
        next(results)
    assert "in work" in str(raised.value.__cause__)


def test_an_error_that_cannot_be_pickled_keeps_its_text() -> None:
    class Peculiar(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def work(_: int) -> None:
        raise Peculiar(1, 2)

    with pytest.raises(SeqkitError, match="1 and 2"):
        list(forked_map(work, range(1), 2))


def test_a_process_that_is_killed_is_named() -> None:
    def work(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(SeqkitError, match=r"seqkit-worker-\d ended with exit code -9"):
        list(forked_map(work, range(6), 2))


def test_processes_end_when_no_more_results_are_wanted() -> None:
    def work(number: int) -> int:
        time.sleep(60 if number > 2 else 0)
        return os.getpid()

    results = forked_map(work, itertools.count(), 2)
    processes = {next(results) for _ in range(3)}
    started = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5
    assert all(gone(process) for process in processes)


def test_each_process_has_one_thread_and_draws_its_own_numbers() -> None:
    def work(_: int) -> tuple[int, int, float]:
        time.sleep(0.05)  # long enough for both to get something
        return os.getpid(), torch.get_num_threads(), float(torch.rand(()))

    found = list(forked_map(work, range(4), 2))
    assert {threads for _, threads, _ in found} == {1}
    assert len({number for _, _, number in found}) == 4
