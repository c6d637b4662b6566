"""Training in two gloo processes: the same numbers as in one, stopping and failing together."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint
from seqkit.config.root import RootConfig
from seqkit.distributed import launch
from seqkit.distributed.launch import run_member, start_members, told
from seqkit.distributed.plan import Plan
from seqkit.distributed.process_group import InconsistentGradientsError, ProcessGroup
from seqkit.errors import DataError
from seqkit.training.build import build_trainer
from seqkit.training.faults import DivergedError
from seqkit.training.interrupt import StopRequest
from seqkit_cli.train import main as train
from tests.integration.tiny_training import tiny_data, tiny_training
from tests.unit.training.toy import Recorder, ToyTask, assert_same_state, run, toy_config

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
TWO = Plan(2, starts=2)


def settings(folder: Path, name: str, **sections: dict[str, Any]) -> RootConfig:
    """A toy run without dropout in a folder of its own."""
    sections["model"] = {"dropout": 0.0} | sections.get("model", {})
    return toy_config(folder / name, **sections)


def start(member: Callable[..., int], *arguments: Any) -> tuple[int, list[str]]:
    """Run `member` in two processes; the exit code, and the failures shown."""
    shown: list[str] = []
    code = start_members(TWO, member, arguments, tell=lambda failure, size: shown.append(told(failure, size)))
    return code, shown


# what the two processes do


class Member:
    """One of two processes, doing one training after the other."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self.group = group
        self.folder = folder

    def train(
        self, name: str, *, stop_on: int | None = None, stop_after: int | None = None, **sections: dict[str, Any]
    ) -> dict[str, Any]:
        """Train; `stop_on` is the rank that gets a signal after so many updates."""
        stop = StopRequest()
        recorder = Recorder(stop_after if stop_on == self.group.rank else None, stop)
        config = settings(self.folder, name, **sections)
        trainer = build_trainer(config, observers=[recorder], stop=stop, communication=self.group)
        reason = trainer.train()
        weights = {key: value.tolist() for key, value in trainer.checkpoint_state().model.items()}
        return {
            "losses": recorder.losses,
            "norms": [update.grad_norm for update in recorder.updates],
            "sizes": [update.sample_size for update in recorder.updates],
            "ids": recorder.ids,
            "valid": [figures for stream, figures, _ in recorder.lines if stream == "valid"],
            "reason": reason,
            "exit_code": stop.exit_code,
            "saves": [written for _, written, _ in recorder.saves],
            "updates": trainer.state.num_updates,
            "skipped": trainer.state.skipped_updates,
            "weights": weights,
        }

    def failing(self, name: str, prepare: Callable[[Any], None], **sections: dict[str, Any]) -> str:
        """The error of a training."""
        trainer = build_trainer(settings(self.folder, name, **sections), communication=self.group)
        prepare(trainer)
        try:
            trainer.train()
        except (DivergedError, InconsistentGradientsError) as error:
            return str(error)
        return "none"

    def different_figures(self) -> list[Any]:
        """Figures of other names in each process, and in one none at all."""
        rank = self.group.rank
        figures = ([{"both": 1, f"only {rank}": 2}], [{"late": 3.0}] if rank else [])
        seen = [self.group.share_update(out, 1, torch.tensor(0.0), exhausted=False).logging for out in figures]
        state = {"a": torch.arange(3), "b": [1, "x", None]}
        taken = self.group.from_main(state if rank == 0 else None)
        return [*seen, taken["a"].tolist(), taken["b"]]


def _distort(trainer: Any, rank: int) -> None:
    """On rank 1, gradients are changed after the exchange of the third update."""
    step, updates = trainer.parts.step, []

    def finish() -> None:
        updates.append(1)
        if rank == 1 and len(updates) == 3:
            trainer.parts.model.hidden.bias.grad.add_(1.0)

    step._parallel.finish = finish


def _exhaust(rank: int, failing_calls: set[int]) -> Callable[[], None]:
    """On rank 1, memory does not suffice for some batches; returns what undoes it."""
    original, calls = ToyTask.train_loss, []

    def failing(self: ToyTask, *arguments: Any) -> Any:
        calls.append(1)
        if rank == 1 and len(calls) in failing_calls:
            raise torch.OutOfMemoryError("no memory")
        return original(self, *arguments)

    ToyTask.train_loss = failing  # type: ignore[method-assign]

    def undo() -> None:
        ToyTask.train_loss = original  # type: ignore[method-assign]

    return undo


def trainings(plan: Plan, folder: str) -> int:
    """All that the tests look at, in one pair of processes."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]

    def work(group: ProcessGroup) -> int:
        member, rank = Member(group, Path(folder)), group.rank
        results: dict[str, Any] = {"plain": member.train("plain")}
        results["starts by"] = multiprocessing.get_start_method()
        for backend, options in (("legacy_ddp", {}), ("pytorch_ddp", {"gradient_as_bucket_view": True})):
            distributed = {"ddp_backend": backend, "find_unused_parameters": True, **options}
            results[backend] = member.train(backend, distributed_training=distributed)
        accumulating = {"optimization": {"update_freq": [2], "clip_norm": 1.0}}
        results["accumulating"] = member.train("accumulating", **accumulating)
        results["bf16"] = member.train("bf16", common={"bf16": True})
        results["hook"] = member.train("hook", distributed_training={"ddp_comm_hook": "fp16"})
        results["first part"] = member.train("parts", stop_on=1, stop_after=7, model={"dropout": 0.3})
        results["second part"] = member.train("parts", model={"dropout": 0.3})
        results["whole"] = member.train("whole", model={"dropout": 0.3})
        results["shrinking"] = member.train("shrinking", stop_on=0, stop_after=2)
        results["one row"] = member.train("one row", task={"rows": 1})
        explode = {"explode_at": 3 if rank == 1 else 0}
        fp16 = {"fp16": True, "fp16_scale_window": 100}
        results["overflow"] = member.train("overflow", common=fp16, criterion=explode)
        undo = _exhaust(rank, {3, 7})  # the third and the sixth batch: the fourth is a spare one
        results["exhausted"] = member.train("exhausted")
        undo()
        for backend in ("pytorch_ddp", "legacy_ddp"):
            undo, name = _exhaust(rank, {1}), f"exhausted at once, {backend}"
            results[name] = member.train(name, distributed_training={"ddp_backend": backend})
            undo()
        results["diverged"] = member.failing("diverged", lambda trainer: None, criterion=explode)
        results["inconsistent"] = member.failing("inconsistent", lambda trainer: _distort(trainer, rank))
        results["figures"] = member.different_figures()
        (Path(folder) / f"{rank}.json").write_text(json.dumps(results))
        return 0

    return run_member(plan, work, device=CPU, backend="nccl", heartbeat_timeout=None, tell=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """The results of both processes."""
    code, shown = start(trainings, str(folder))
    assert code == 0, shown
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def flat(ids: list[list[list[int]]]) -> list[list[list[int]]]:
    return [[batch for batch in update if batch] for update in ids]


class TestSameNumbers:
    @pytest.mark.parametrize("name", ["plain", "legacy_ddp", "pytorch_ddp"])
    def test_as_one_process_that_accumulates(self, ranks: list[dict[str, Any]], tmp_path: Path, name: str) -> None:
        trainer, alone, _ = run(settings(tmp_path, "alone", optimization={"update_freq": [2]}))
        first, second = ranks[0][name], ranks[1][name]
        assert first["losses"] == second["losses"]
        assert first["weights"] == second["weights"]
        assert first["losses"] == pytest.approx(alone.losses, rel=1e-5)
        assert first["norms"] == pytest.approx([update.grad_norm for update in alone.updates], rel=1e-4)
        assert first["sizes"] == [update.sample_size for update in alone.updates]
        together = [one + other for one, other in zip(first["ids"], second["ids"], strict=True)]
        assert flat(together) == flat(alone.ids)
        lines = [figures for stream, figures, _ in alone.lines if stream == "valid"]
        assert [line["loss"] for line in first["valid"]] == pytest.approx([line["loss"] for line in lines], abs=1e-3)
        assert [line["bsz"] for line in first["valid"]] == [9.0] * 3  # both processes' batches count as one
        weights = trainer.checkpoint_state().model
        for key, value in first["weights"].items():
            assert torch.allclose(torch.tensor(value), weights[key], atol=1e-5)

    def test_accumulation_in_two_processes(self, ranks: list[dict[str, Any]], tmp_path: Path) -> None:
        _, alone, _ = run(settings(tmp_path, "alone", optimization={"update_freq": [4], "clip_norm": 1.0}))
        assert ranks[0]["accumulating"]["losses"] == pytest.approx(alone.losses, rel=1e-5)

    @pytest.mark.parametrize("name", ["bf16", "hook"])
    def test_half_precision_is_alike_in_both(self, ranks: list[dict[str, Any]], name: str) -> None:
        assert ranks[0][name]["weights"] == ranks[1][name]["weights"]
        assert ranks[0][name]["losses"] == pytest.approx(ranks[0]["plain"]["losses"], rel=0.05)

    def test_only_the_main_process_saves(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        assert [names[0] for names in ranks[0]["plain"]["saves"]] == [f"checkpoint{n}.pt" for n in (1, 2, 3)]
        assert ranks[1]["plain"]["saves"] == [[], [], []]
        assert read_checkpoint(folder / "plain/checkpoints/checkpoint_last.pt").progress["num_updates"] == 15

    def test_a_process_without_data_takes_part(self, ranks: list[dict[str, Any]], tmp_path: Path) -> None:
        _, alone, _ = run(settings(tmp_path, "alone", task={"rows": 1}))
        assert ranks[1]["one row"]["ids"] == [[], [], []]
        assert ranks[1]["one row"]["losses"] == pytest.approx(alone.losses, rel=1e-5)


class TestTogether:
    def test_processes_that_read_data_are_started_as_by_one_process(self, ranks: list[dict[str, Any]]) -> None:
        """Those that begin by importing torch take seconds, in every epoch."""
        assert [results["starts by"] for results in ranks] == [multiprocessing.get_start_method()] * 2

    def test_a_signal_to_one_stops_both_at_the_same_update(self, ranks: list[dict[str, Any]]) -> None:
        for results in ranks:
            part = results["first part"]
            assert part["updates"] == 8  # the signal came after the seventh, and is told with the next one
            assert part["exit_code"] == 143
            assert part["reason"].startswith("interrupted by SIGTERM; saved ")

    def test_resumed_bit_for_bit(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        for results in ranks:
            first, second, whole = results["first part"], results["second part"], results["whole"]
            assert first["losses"] + second["losses"] == whole["losses"]
            assert first["norms"] + second["norms"] == whole["norms"]
            assert first["ids"] + second["ids"] == whole["ids"]
        parts = read_checkpoint(folder / "parts/checkpoints/checkpoint_last.pt")
        assert_same_state(parts, read_checkpoint(folder / "whole/checkpoints/checkpoint_last.pt"))

    def test_one_process_goes_on_with_the_rest_of_the_epoch(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        begun = [index for results in ranks for ids in results["shrinking"]["ids"] for batch in ids for index in batch]
        dataset = {"max_tokens": 40}
        config = settings(folder, "shrinking", optimization={"max_epoch": 1}, dataset=dataset)
        _, alone, _ = run(config)
        assert alone.updates[0].num_updates == 4
        rest = [index for ids in alone.ids for batch in ids for index in batch]
        assert sorted(begun + rest) == list(range(50))

    def test_overflow_on_one_leaves_the_update_out_on_both(self, ranks: list[dict[str, Any]]) -> None:
        for results in ranks:
            assert (results["overflow"]["updates"], results["overflow"]["skipped"]) == (14, 1)
        assert ranks[0]["overflow"]["weights"] == ranks[1]["overflow"]["weights"]

    def test_memory_that_does_not_suffice_on_one_leaves_the_update_out_on_both(
        self, ranks: list[dict[str, Any]]
    ) -> None:
        for results in ranks:
            assert (results["exhausted"]["updates"], results["exhausted"]["skipped"]) == (13, 2)
        assert ranks[0]["exhausted"]["weights"] == ranks[1]["exhausted"]["weights"]

    @pytest.mark.parametrize("backend", ["pytorch_ddp", "legacy_ddp"])
    def test_memory_that_does_not_suffice_for_the_first_batch(self, ranks: list[dict[str, Any]], backend: str) -> None:
        first, second = (results[f"exhausted at once, {backend}"] for results in ranks)
        assert (first["updates"], first["skipped"]) == (second["updates"], second["skipped"]) == (14, 1)
        assert first["weights"] == second["weights"]

    def test_nan_on_one_is_told_with_its_rank(self, ranks: list[dict[str, Any]]) -> None:
        for results in ranks:
            assert results["diverged"].startswith("update 3: rank 1: the loss is nan in the batch of sentences [")

    def test_inconsistent_gradients_name_update_and_rank(self, ranks: list[dict[str, Any]]) -> None:
        for results in ranks:
            assert results["inconsistent"].startswith("update 3: inconsistent gradients: rank")
            assert "(norms: rank 0: " in results["inconsistent"]

    def test_figures_of_different_names(self, ranks: list[dict[str, Any]]) -> None:
        expected = [[{"both": 2.0, "only 0": 2.0, "only 1": 2.0}], [{"late": 3.0}], [0, 1, 2], [1, "x", None]]
        assert ranks[0]["figures"] == ranks[1]["figures"] == expected


# failures


def fail_in_a_save(plan: Plan, kind: str, path: str) -> int:
    """Rank 0 writes a file, for longer than it is given to end; rank 1 fails, or both do."""

    def write(saving: Any) -> None:
        with saving:
            time.sleep(5.0)
            Path(path).write_text("whole")

    def work(group: ProcessGroup) -> int:
        group.step("update 1")
        writing = None
        if group.rank == 0:
            saving = contextlib.ExitStack()
            saving.enter_context(group.saving())
            writing = threading.Thread(target=write, args=[saving], daemon=True)
            writing.start()
        group.barrier("update 1")
        if kind == "killed" and group.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            if kind == "killed":
                group.barrier("update 2")
            raise DivergedError("the loss is nan")
        finally:
            if writing is not None:
                writing.join()

    return run_member(plan, work, device=CPU, backend="gloo", heartbeat_timeout=None, tell=None)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("kind", "code"), [("diverged", 1), ("killed", 137)])
def test_a_checkpoint_that_is_being_written_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, code: int
) -> None:
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 2.0)
    ended, shown = start(fail_in_a_save, kind, str(tmp_path / "checkpoint"))
    assert (ended, len(shown)) == (code, 1)
    assert (tmp_path / "checkpoint").read_text() == "whole"


def fail(plan: Plan, kind: str, place: str) -> int:
    """Updates until rank 1 fails."""

    def work(group: ProcessGroup) -> int:
        for update in range(1, 100):
            group.step(f"update {update}")
            if group.rank == 1 and update == 3:
                _go_wrong(kind, Path(place))
            group.share_update([{"loss": 1.0}], 1, torch.tensor(1.0), exhausted=False)
        return 0

    return run_member(plan, work, device=CPU, backend="gloo", heartbeat_timeout=4.0, tell=None)


def _go_wrong(kind: str, place: Path) -> None:
    if kind == "killed":
        # A process that reads data lives on for a while, and holds what its parent had open.
        reader = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        reader.start()
        (place / "reader").write_text(str(reader.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "user":
        raise DataError("sentence 7 is damaged")
    time.sleep(1000)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("killed", 137, "was killed by SIGKILL; the system does so when memory runs out"),
        ("user", 2, "sentence 7 is damaged (from rank 1 of 2)"),
        (
            "asleep",
            1,
            "rank 1 of 2 stalls: no progress for 4 s (distributed_training.heartbeat_timeout=4) in 'update 3'",
        ),
    ],
)
def test_the_one_that_fails_is_told_and_the_other_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, code: int, text: str
) -> None:
    before = time.monotonic()
    ended, shown = start(fail, kind, str(tmp_path))
    if kind == "killed":
        os.kill(int((tmp_path / "reader").read_text()), signal.SIGKILL)  # it was not waited for
    assert ended == code
    assert len(shown) == 1
    assert text in shown[0]
    assert "rank 1 of 2" in shown[0]
    assert time.monotonic() - before < 200  # no process has hung
    assert "Traceback" not in capfd.readouterr().err


# the command


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_command_on_two_processes_is_interrupted_and_goes_on_in_one(tmp_path: Path) -> None:
    arguments = tiny_training(tiny_data(tmp_path, train=100, valid=11), tmp_path)
    command = [sys.executable, "-m", "seqkit_cli.train", *arguments, "distributed_training.distributed_world_size=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "log").exists() and "train_loss" in (tmp_path / "log").read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 143, error
    assert "Traceback" not in error
    assert error.count("SIGTERM: finishing this update") == 1
    assert "starting 2 of 2 processes on this machine" in output
    assert "2 processes (pytorch_ddp), each on CPU" in output
    assert output.count("the same command goes on from there") == 1
    checkpoint = read_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt")
    assert checkpoint.iterator["num_shards"] == 2
    done = checkpoint.progress["num_updates"]
    assert train([*arguments, f"optimization.max_update={done + 2}"]) == 0
    assert read_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt").progress["num_updates"] == done + 2
