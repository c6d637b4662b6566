"""What an update does when its numbers are not finite or memory does not suffice, and how it tells."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqkit.criterions.base import LossOutput
from seqkit.distributed.communication import SingleProcess
from seqkit.errors import ConfigError, DataError
from seqkit.training.build import build_trainer
from seqkit.training.faults import (
    DivergedError,
    MemoryExhaustedError,
    NonFiniteWatch,
    TrainingFault,
    describe_batch,
    sentence_ids,
)
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer, UpdateRecord
from seqkit.training.trainer import Trainer
from tests.unit.training.toy import (
    Recorder,
    ToyCriterion,
    ToyModel,
    ToyRows,
    ToyTask,
    assert_same_state,
    run,
    toy_config,
)


def test_a_batch_is_described_by_its_sentences_and_shapes() -> None:
    rows = torch.zeros(20, 7, dtype=torch.int64)
    sample = {
        "id": torch.arange(20),
        "net_input": {"src_tokens": rows, "src_lengths": rows[:, 0]},
        "target": rows[:, 1:],
    }
    assert sentence_ids(sample) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, …]"
    assert describe_batch(sample).endswith("] (src_tokens 20x7, target 20x6)")
    assert describe_batch({"id": torch.tensor([4])}) == "sentences [4]"


# where numbers stop being finite


def _spoil(sentence: int, value: float = math.nan) -> Callable[..., Any]:
    """A hook that puts a number into a module's output for one sentence of the training set."""
    row = ToyRows(50, 12, seed=len("train")).rows[sentence]

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        tokens = hook.tokens  # type: ignore[attr-defined]
        bad = torch.tensor([[*line[: len(row)]] == row.tolist() for line in tokens.tolist()])
        bad &= (tokens != 1).sum(1) == len(row)
        return output.masked_fill(bad[:, None, None], value)

    return hook


def _spoiled(folder: Path, module: str, sentence: int, **sections: dict[str, Any]) -> tuple[Trainer, Recorder]:
    recorder = Recorder()
    trainer = build_trainer(toy_config(folder, **sections), observers=[recorder])
    hook = _spoil(sentence)
    trainer.parts.model.register_forward_pre_hook(
        lambda model, args, kwargs: setattr(hook, "tokens", kwargs["src_tokens"]), with_kwargs=True
    )
    trainer.parts.model.get_submodule(module).register_forward_hook(hook)
    return trainer, recorder


def test_the_first_module_and_the_sentence_are_named(tmp_path: Path) -> None:
    trainer, _ = _spoiled(tmp_path, "hidden", 17)
    with pytest.raises(DivergedError) as error:
        trainer.train()
    text = str(error.value)
    assert "is not finite" in text or "the loss is" in text
    assert "the first output that is not finite is that of hidden (Linear), for sentences [17]" in text
    assert "Lower the learning rate" in text


def test_numbers_that_arise_between_modules_are_told_apart() -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"y": self.second(self.first(x) / 0.0)}

    model = Between()
    with NonFiniteWatch({"": model}) as watch:
        watch.batch = {"id": torch.tensor([3, 5])}
        model(torch.ones(2, 2))
    assert watch.found == "numbers not finite enter second (Linear)"
    assert watch.faulty is watch.batch
    assert not model.second._forward_hooks


def test_masks_of_minus_infinity_are_no_fault() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return (x + mask).softmax(-1) / 0.0

    model = nn.ModuleDict({"attention": Masked()})
    with NonFiniteWatch({"": model}) as watch:
        model["attention"](torch.ones(1, 2), torch.tensor([[0.0, -math.inf]]))
    assert watch.found == "the first output that is not finite is that of attention (Masked)"


def test_the_first_gradient_is_named(tmp_path: Path) -> None:
    trainer = build_trainer(toy_config(tmp_path))
    trainer.parts.model.get_parameter("hidden.bias").register_hook(lambda grad: grad * math.inf)
    with pytest.raises(DivergedError) as error:
        trainer.train()
    assert str(error.value).startswith("update 1: the gradient is not finite in the batch of sentences [")
    assert "the first gradient that is not finite is that of hidden.bias" in str(error.value)


def test_weights_that_are_spoilt_already_are_told(tmp_path: Path) -> None:
    class Spoil(Observer):
        def on_update(self, update: UpdateRecord) -> None:
            if update.num_updates == 3:
                nn.init.constant_(trainer.parts.model.get_parameter("hidden.bias"), math.nan)

    trainer = build_trainer(toy_config(tmp_path), observers=[Spoil()])
    with pytest.raises(
        DivergedError, match=r"^update 4: .*the weights are not finite before this update: hidden\.bias"
    ):
        trainer.train()


def test_a_loss_that_is_not_finite_stops_even_with_sound_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = ToyCriterion.forward

    def infinite(self: ToyCriterion, *arguments: Any, **more: Any) -> LossOutput:
        output = original(self, *arguments, **more)
        return output._replace(loss=output.loss + math.inf)

    monkeypatch.setattr(ToyCriterion, "forward", infinite)
    with pytest.raises(DivergedError, match=r"^update 1: the loss is inf .* is that of criterion \(ToyCriterion\)"):
        run(toy_config(tmp_path))


def test_the_batch_of_several_is_found(tmp_path: Path) -> None:
    trainer, recorder = _spoiled(tmp_path, "hidden", 17, optimization={"update_freq": [4], "max_epoch": 1})
    with pytest.raises(DivergedError) as error:
        trainer.train()
    _, whole, _ = run(toy_config(tmp_path / "whole", optimization={"update_freq": [4], "max_epoch": 1}))
    ids = next(ids for ids in whole.ids[len(recorder.updates)] if 17 in ids)
    assert f"in the batch of sentences [{', '.join(map(str, ids))}]" in str(error.value)


# policies


def test_skipping(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer, recorder = _spoiled(tmp_path, "hidden", 17, optimization={"on_nonfinite": "skip"})
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.num_updates == len(recorder.updates) == 27
    assert trainer.state.skipped_updates == 3
    assert trainer.state.skips_in_a_row == 0
    assert all(17 not in ids for update in recorder.ids for ids in update)
    assert caplog.text.count("for sentences [17]") == 3
    figures = [figures["skipped"] for stream, figures, _ in recorder.lines if stream == "train"]
    assert figures == [1, 2, 3]
    assert all(torch.isfinite(param).all() for param in trainer.parts.model.parameters())


def test_runs_without_skips_log_nothing_of_them(tmp_path: Path) -> None:
    _, recorder, _ = run(toy_config(tmp_path, optimization={"max_epoch": 1}))
    assert all("skipped" not in figures for _, figures, _ in recorder.lines)


def test_too_many_skips_in_a_row(tmp_path: Path) -> None:
    optimization = {"on_nonfinite": "skip", "max_skips_in_a_row": 2}
    trainer = build_trainer(toy_config(tmp_path, optimization=optimization))
    trainer.parts.model.get_parameter("hidden.bias").register_hook(lambda grad: grad * math.nan)
    with pytest.raises(TrainingFault) as error:
        trainer.train()
    assert str(error.value).startswith(
        "update 1: 3 updates in a row were left out (optimization.max_skips_in_a_row=2); the last of them: the gradient"
    )
    assert trainer.state.num_updates == 0


def test_skips_are_counted_over_a_resume(tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {"optimization": {"on_nonfinite": "skip"}}
    whole, _ = _spoiled(tmp_path / "whole", "hidden", 17, **sections)
    whole.train()
    first, _ = _spoiled(tmp_path / "parts", "hidden", 17, **sections)
    stop = StopAfter(first, 15)
    first.parts.observers = [stop]
    assert "interrupted" in first.train()
    second, _ = _spoiled(tmp_path / "parts", "hidden", 17, **sections)
    second.train()
    assert second.state.skipped_updates == 3
    assert_same_state(second.checkpoint_state(), whole.checkpoint_state())


class StopAfter(Observer):
    """Asks to stop after an update."""

    def __init__(self, trainer: Trainer, update: int) -> None:
        self._trainer = trainer
        self._update = update

    def on_update(self, update: UpdateRecord) -> None:
        if update.num_updates == self._update:
            self._trainer.parts.stop.request()


def test_a_stop_during_a_skipped_update_repeats_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update before was followed by a validation, which the next run must not do again."""
    original, calls, stop = ToyTask.train_loss, [], StopRequest()

    def failing(self: ToyTask, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            stop.request()
            raise torch.OutOfMemoryError("out of memory")
        return original(self, *arguments)

    config = toy_config(tmp_path, dataset={"validate_interval_updates": 2}, optimization={"max_epoch": 1})
    monkeypatch.setattr(ToyTask, "train_loss", failing)
    first = Recorder()
    reason = build_trainer(config, observers=[first], stop=stop).train()
    assert "interrupted" in reason
    assert [step for stream, _, step in first.lines if stream == "valid"] == [2, 4]
    _, second, _ = run(config)
    assert [step for stream, _, step in second.lines if stream == "valid"] == [6, 8, 9]
    assert len(first.updates) + len(second.updates) == 9


def test_reducing_a_scale_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"on_nonfinite=reduce_scale needs a loss scale, which training in fp32 has"):
        build_trainer(toy_config(tmp_path, optimization={"on_nonfinite": "reduce_scale"}))


def test_fp16_may_stop_at_the_first_overflow(tmp_path: Path) -> None:
    config = toy_config(tmp_path, common={"fp16": True}, optimization={"on_nonfinite": "stop"})
    trainer = build_trainer(config)
    trainer.parts.model.get_parameter("hidden.bias").register_hook(lambda grad: grad * math.inf)
    with pytest.raises(DivergedError, match=r"^update 1: the gradient is not finite .* is that of hidden\.bias"):
        trainer.train()


def test_fp16_overflows_do_not_count_as_skips_in_a_row(tmp_path: Path) -> None:
    config = toy_config(
        tmp_path, common={"fp16": True, "fp16_init_scale": 2**40}, optimization={"max_skips_in_a_row": 0}
    )
    trainer, _, _ = run(config)
    assert trainer.state.skipped_updates > 5
    assert trainer.state.num_updates > 0


def test_fp16_skips_at_the_smallest_scale(tmp_path: Path) -> None:
    trainer, recorder = _spoiled(
        tmp_path,
        "hidden",
        17,
        common={"fp16": True, "min_loss_scale": 64.0},
        optimization={"on_nonfinite": "skip", "max_epoch": 1},
    )
    trainer.train()
    assert len(recorder.updates) == 9
    assert trainer.state.skipped_updates == 1


# memory


def _exhausting(monkeypatch: pytest.MonkeyPatch, method: str, failing: set[int]) -> list[Any]:
    original, samples = getattr(ToyTask, method), []

    def step(self: ToyTask, sample: Any, *arguments: Any) -> Any:
        samples.append(sample)
        if len(samples) in failing:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, sample, *arguments)

    monkeypatch.setattr(ToyTask, method, step)
    return samples


def test_a_batch_without_memory_is_left_out_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    samples = _exhausting(monkeypatch, "train_loss", {5})
    trainer, recorded, _ = run(toy_config(tmp_path, optimization={"max_epoch": 1}))
    assert trainer.state.num_updates == len(recorded.updates) == 9
    assert trainer.state.skipped_updates == 1
    text = f"update 5 is left out: memory did not suffice for the batch of {describe_batch(samples[4])}"
    assert text in caplog.text
    assert "src_tokens " in text


def test_a_batch_without_memory_may_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _exhausting(monkeypatch, "train_loss", {5})
    with pytest.raises(
        MemoryExhaustedError, match=r"^update 5: memory did not suffice .* Set a smaller dataset\.max_tok"
    ):
        run(toy_config(tmp_path, optimization={"on_oom": "stop"}))


def _fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, error: Exception) -> None:
    """The first call of a method raises; the others do what they should."""
    original, calls = getattr(owner, method), []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return original(*arguments)

    monkeypatch.setattr(owner, method, failing)


def _of_the_cpu() -> RuntimeError:
    """The error that PyTorch raises where main memory does not suffice."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 50)
    return error.value


def test_the_first_batch_without_main_memory_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _fail_once(monkeypatch, ToyTask, "train_loss", _of_the_cpu())
    trainer, recorded, _ = run(toy_config(tmp_path, optimization={"max_epoch": 1}))
    assert trainer.state.num_updates == len(recorded.updates) == 9
    assert trainer.state.skipped_updates == 1
    assert "update 1 is left out: memory did not suffice for the batch of sentences [" in caplog.text


@pytest.mark.parametrize("on_oom", ["skip", "stop"])
def test_gradients_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_oom: str) -> None:
    trainer = build_trainer(toy_config(tmp_path, optimization={"max_epoch": 1, "on_oom": on_oom}))
    _fail_once(monkeypatch, trainer.parts.step._precision, "gradients", _of_the_cpu())
    if on_oom == "skip":
        trainer.train()
        assert (trainer.state.num_updates, trainer.state.skipped_updates) == (9, 1)
        return
    with pytest.raises(
        MemoryExhaustedError, match=r"^update 1: memory did not suffice for the gradients of sentences \["
    ):
        trainer.train()


def test_an_optimizer_without_memory_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some weights may be updated by then."""
    trainer = build_trainer(toy_config(tmp_path))
    _fail_once(monkeypatch, trainer.parts.optimizer, "step", torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(
        MemoryExhaustedError, match=r"^update 1: memory did not suffice for the optimizer's step .* optimizer=adafactor"
    ):
        trainer.train()


def test_other_errors_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (owner, method) in enumerate([(ToyTask, "train_loss"), (torch.optim.Adam, "step")]):
        with monkeypatch.context() as patched:
            trainer = build_trainer(toy_config(tmp_path / str(number)))
            _fail_once(patched, trainer.parts.optimizer if method == "step" else owner, method, RuntimeError("a bug"))
            with pytest.raises(RuntimeError, match=r"^a bug$"):
                trainer.train()


class _Two(SingleProcess):
    """One process that takes itself for one of two."""

    world_size = 2


@pytest.mark.parametrize(
    ("failing", "text"),
    [
        ({1}, ""),
        ({1, 2}, r"^update 1: memory did not suffice for a batch, nor for a small one in its place\. Set a smaller"),
    ],
)
def test_a_process_takes_part_with_a_small_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: set[int], text: str
) -> None:
    samples = _exhausting(monkeypatch, "train_loss", failing)
    trainer = build_trainer(toy_config(tmp_path))
    trainer.parts.step._communication = _Two()
    batch = next(trainer.parts.data.begin_epoch(shuffle=True))
    if text:
        with pytest.raises(MemoryExhaustedError, match=text):
            trainer.parts.step.run([batch], 0)
        return
    result = trainer.parts.step.run([batch], 0)
    assert result.skipped == f"memory did not suffice for the batch of {describe_batch(batch)}"
    assert [len(sample["id"]) for sample in samples] == [len(batch["id"]), 2]


def test_an_exchange_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has begun, zeros are sent instead; afterwards the others cannot be told."""
    trainer = build_trainer(toy_config(tmp_path))
    step, batch = trainer.parts.step, next(trainer.parts.data.begin_epoch(shuffle=True))
    with monkeypatch.context() as patched:
        _fail_once(patched, step._parallel, "finish", _of_the_cpu())
        assert step.run([batch], 0).skipped == "memory did not suffice for the exchange of gradients"
    _fail_once(monkeypatch, step._parallel, "finish", _of_the_cpu())
    monkeypatch.setattr(step._parallel, "is_broken", True)
    with pytest.raises(MemoryExhaustedError, match="in the midst of the exchange of gradients"):
        step.run([batch], 0)


def test_validation_is_tried_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole, _ = run(toy_config(tmp_path / "whole", optimization={"max_epoch": 1}))
    _exhausting(monkeypatch, "valid_step", {1})
    _, again, _ = run(toy_config(tmp_path / "again", optimization={"max_epoch": 1}))
    losses = [
        [figures["loss"] for stream, figures, _ in lines if stream == "valid"] for lines in (whole.lines, again.lines)
    ]
    assert losses[0] == losses[1]


def test_validation_without_main_memory_is_tried_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_once(monkeypatch, ToyTask, "valid_step", _of_the_cpu())
    trainer, _, _ = run(toy_config(tmp_path, optimization={"max_epoch": 1}))
    assert trainer.state.num_updates == 10


def test_validation_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = _exhausting(monkeypatch, "valid_step", {1, 2})
    with pytest.raises(MemoryExhaustedError) as error:
        run(toy_config(tmp_path))
    assert f"validation: memory did not suffice for the batch of {describe_batch(samples[0])}" in str(error.value)
    assert "dataset.max_tokens_valid" in str(error.value)


# sentences that are too long


def test_a_validation_sentence_that_is_too_long_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyModel, "max_positions", lambda self: 5)
    with pytest.raises(
        DataError, match=r"^valid: sentence \d+ is too long: its length is 6, the longest allowed is 5 "
    ):
        build_trainer(toy_config(tmp_path))


def test_training_sentences_that_are_too_long_are_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ToyModel, "max_positions", lambda self: 5)
    lengths = ToyRows(50, 12, seed=len("train")).sizes
    config = toy_config(tmp_path, dataset={"disable_validation": True}, optimization={"max_epoch": 1})
    with caplog.at_level(logging.WARNING):
        _, recorded, _ = run(config)
    seen = {index for update in recorded.ids for ids in update for index in ids}
    assert seen == {index for index in range(50) if lengths[index] <= 5}
    first = next(index for index in range(50) if lengths[index] > 5)
    assert "are longer than the longest allowed 5" in caplog.text
    assert f"{first}: 6" in caplog.text
