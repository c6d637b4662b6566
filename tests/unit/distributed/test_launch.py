"""How failures are told. What the processes do: tests/integration/test_distributed.py."""

from __future__ import annotations

import os
import signal
import socket

import pytest
import torch

from seqkit.distributed import launch
from seqkit.distributed.launch import (
    _environment,
    _exit_in_words,
    _failure_of,
    _settings_for,
    open_store,
    run_member,
    told,
)
from seqkit.distributed.plan import Plan
from seqkit.distributed.process_group import ProcessGroup
from seqkit.distributed.watch import Failure
from seqkit.errors import ConfigError, DataError, SeqkitError

CPU = torch.device("cpu")


def test_failures_in_words() -> None:
    assert told(Failure(1, "no data", 2, is_users=True), 4) == "no data (from rank 1 of 4)"
    assert told(Failure(1, "was killed"), 4) == "rank 1 of 4 was killed"
    assert told(Failure(1, "Traceback\nValueError"), 4) == "rank 1 of 4 failed:\nTraceback\nValueError"


def test_errors_become_failures() -> None:
    assert _failure_of(DataError("sentence 7"), 1) == Failure(1, "sentence 7", 2, is_users=True)
    assert _failure_of(SeqkitError("diverged"), 0) == Failure(0, "diverged", 1, is_users=True)
    assert _failure_of(KeyboardInterrupt(), 0).exit_code == 130
    assert _failure_of(SystemExit(7), 0).exit_code == 7
    assert _failure_of(SystemExit(0), 0).exit_code == 1
    bug = _failure_of(ZeroDivisionError("a bug"), 2)
    assert (bug.exit_code, bug.is_users) == (1, False)
    assert bug.text.endswith("ZeroDivisionError: a bug")


def test_exits_in_words() -> None:
    assert _exit_in_words(3, 99) == ("(process 99) ended with exit code 3", 3)
    text, code = _exit_in_words(-int(signal.SIGKILL), 99)
    assert code == 137
    assert text == "(process 99) was killed by SIGKILL; the system does so when memory runs out"
    assert _exit_in_words(-int(signal.SIGSEGV), 99) == ("(process 99) was killed by SIGSEGV", 139)


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with _environment(_settings_for(Plan(3, starts=3))):
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    with _environment(_settings_for(Plan(3, starts=3))):
        assert os.environ["OMP_NUM_THREADS"] == "5"


def test_processes_of_one_machine_meet_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    assert _settings_for(Plan(2, starts=2))["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert "GLOO_SOCKET_IFNAME" not in _settings_for(Plan(4, starts=2, host="node7"))


def test_the_meeting_place_of_one_machine_is_on_no_network() -> None:
    store = open_store(Plan(2), keep=True)
    with pytest.raises(OSError), socket.socket(socket.AF_INET6) as other:
        other.connect(("::1", store.port))
    client = open_store(Plan(2, port=store.port), keep=False)
    client.set("a", "b")
    assert store.get("a") == b"b"


def test_a_port_that_is_taken() -> None:
    store = open_store(Plan(2), keep=True)
    with pytest.raises(ConfigError, match=r"port \d+ of 127\.0\.0\.1, .* cannot be opened: .*distributed_port"):
        open_store(Plan(2, port=store.port), keep=True)


def test_the_absent_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MEETING_SECONDS", 0.3)
    shown: list[str] = []

    def work(group: ProcessGroup) -> int:
        raise AssertionError("nobody else came")

    code = run_member(
        Plan(3),
        work,
        device=CPU,
        backend="gloo",
        heartbeat_timeout=None,
        tell=lambda failure, size: shown.append(told(failure, size)),
    )
    assert code == 2
    assert "2 of 3 processes have not come to 127.0.0.1:0: ranks 1, 2." in shown[0]
