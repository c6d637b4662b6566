"""Training runs, save policies and validations, in this process, through fairseq's flags."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqkit.config.recipes import variant_names
from seqkit.config.root import RootConfig
from seqkit.criterions.adaptive_loss import AdaptiveLossConfig
from seqkit.interop.fairseq.flags import to_root_config
from seqkit.interop.open_checkpoint import open_checkpoint
from seqkit.metrics.progress import format_figure
from seqkit.modules import transformer_layer
from seqkit.modules.dropout import Dropout
from seqkit.optim.adafactor import AdafactorConfig
from seqkit.registry import registry
from seqkit.training.build import build_trainer
from seqkit.training.observer import Observer, UpdateRecord
from seqkit.training.trainer import Trainer
from seqkit.training.validation import Validator
from seqkit_cli.validate import load_validator
from tests.parity.fairseqs_text import fairseqs_text
from tests.parity.loader import Case

_DESCRIPTIVE = {"what", "area", "tool", "inputs", "versions", "informational", "kind"}
_READ = {
    "train": {"files", "n_updates", "first_loss", "last_loss", "tolerance"},
    "save_policy": {"events", "final_files", "stop_messages", "tolerance"},
    "validate": {"log", "tolerance"},
}
_SELECTING_FLAGS = {
    "--task": "task",
    "--arch": "model",
    "-a": "model",
    "--criterion": "criterion",
    "--optimizer": "optimizer",
    "--lr-scheduler": "lr_scheduler",
}
_TIMES = {"wps", "ups", "train_wall", "wall", "gb_free"}


def run(case: Case) -> None:
    """Run the recorded command and compare everything that was recorded of it."""
    kind = case.spec.get("kind", "train")
    assert kind in _READ, f"a kind of case that no one reads: {kind}"
    unknown = {key for key in case.spec if not key.startswith("flags")} - _READ[kind] - _DESCRIPTIVE
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    argv = next(list(value) for key, value in case.spec.items() if key.startswith("flags"))
    _require_built(case, argv)
    with _inside(case.area_folder), _one_thread(), _fairseqs_dropout(), fairseqs_text():
        {"train": _run_training, "save_policy": _run_policy, "validate": _run_validation}[kind](case, argv)


def _require_built(case: Case, argv: Sequence[str]) -> None:
    for flag, name in itertools.pairwise(argv):
        kind = _SELECTING_FLAGS.get(flag)
        if kind is not None and name not in [*registry(kind).names(), *variant_names(kind)]:
            case.not_built(f"{kind} {name}: a later issue")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Recorded flags are relative to the area's folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The recorded models are so small that threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _TimeMajorDropout(Dropout):
    """Dropout of (B, T, C) that draws its random numbers in the order of fairseq's layers, which have (T, B, C)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input.transpose(0, 1).contiguous()).transpose(0, 1)


@contextlib.contextmanager
def _fairseqs_dropout() -> Iterator[None]:
    """Draw the random numbers of a Transformer's dropout as fairseq does: torch's own, in its order.

    seqkit draws others, which are cheaper on a CPU. Where they are dropped is the same, as this shows.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dropout, "_draws_cheaply", lambda *_: False)
        patch.setattr(transformer_layer, "Dropout", _TimeMajorDropout)
        yield


# training


class _Recorder(Observer):
    """Keeps what is compared of each update, and the folder's content after each save."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.updates: list[UpdateRecord] = []
        self.events: list[dict[str, Any]] = []
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def on_update(self, update: UpdateRecord) -> None:
        self.updates.append(update)

    def on_log(self, stream: str, figures: Any, num_updates: int) -> None:
        self.lines.append((stream, dict(figures)))

    def on_save(self, event: Any, written: Sequence[str], deleted: Sequence[str]) -> None:
        self.events.append(
            {
                "epoch": event.epoch,
                "updates": event.num_updates,
                "end_of_epoch": event.end_of_epoch,
                "val_loss": event.value,
                "returned": written[0] if written else None,
                "files_after": sorted(path.name for path in self.folder.iterdir()),
            }
        )


def _train(case: Case, argv: list[str]) -> tuple[Trainer, _Recorder, str, list[dict[str, Any]]]:
    """Train with the recorded flags; returns also why it ended and the lines of the log."""
    config = to_root_config("train", argv)
    folder = case.tmp / "checkpoints"
    log_file = case.tmp / "log.jsonl"
    config.checkpoint.save_dir = str(folder)
    config.common.log_file = str(log_file)
    _use_fairseqs_validation(config)
    _use_fairseqs_figures(config)
    folder.mkdir()  # fairseq makes it even where nothing is saved
    recorder = _Recorder(folder)
    trainer = build_trainer(config, read=open_checkpoint, observers=[recorder])
    _drop_ragged_batch(trainer.parts.validator)
    reason = trainer.train()
    lines = [line for line in log_file.read_text().splitlines() if line.startswith("{")]
    return trainer, recorder, reason, [json.loads(line) for line in lines]


def _use_fairseqs_validation(config: RootConfig) -> None:
    """fairseq validates on one batch more than it is told; seqkit on as many as it is told."""
    if config.dataset.max_valid_steps is not None:
        config.dataset.max_valid_steps += 1


def _use_fairseqs_figures(config: RootConfig) -> None:
    """Where fairseq is wrong and seqkit has an option that gives its figures, choose it."""
    if config.dataset.curriculum:
        # fairseq goes on with the first epoch's loader, which does not shuffle
        config.dataset.curriculum = sys.maxsize
    if isinstance(config.criterion, AdaptiveLossConfig):
        config.criterion.skip_pad_offset = True
    if isinstance(config.optimizer, AdafactorConfig):
        config.optimizer.compound_scale = True


def _drop_ragged_batch(validator: Validator) -> None:
    """fairseq leaves the last batch of a validation set out; seqkit does only when told."""
    for iterator in validator.iterators.values():
        iterator.drop_ragged_batch = True


def _run_training(case: Case, argv: list[str]) -> None:
    unknown = set(case.spec["files"]) - {"steps.json", "log.json", "final_params.npz"}
    assert not unknown, f"files that no one reads: {sorted(unknown)}"
    trainer, recorder, _, log = _train(case, argv)
    recorded = json.loads((case.folder / "steps.json").read_text())
    unknown = set(recorded) - {"steps", "final_parameters", "final_lr", "num_updates"}
    assert not unknown, f"parts of steps.json that no one reads: {sorted(unknown)}"
    tolerance = _Tolerance(case.spec["tolerance"])
    assert len(recorder.updates) == len(recorded["steps"]) == case.spec["n_updates"]
    for number, (update, step) in enumerate(zip(recorder.updates, recorded["steps"], strict=True)):
        _compare_update(number, update, step, tolerance)
    tolerance.close("first loss", recorder.updates[0].total("loss"), case.spec["first_loss"], tolerance.loss(0))
    last = len(recorder.updates) - 1
    tolerance.close("last loss", recorder.updates[-1].total("loss"), case.spec["last_loss"], tolerance.loss(last))
    state = trainer.checkpoint_state()
    tolerance.close("final rate", trainer.parts.lr_scheduler.lr, recorded["final_lr"], 1e-6)
    assert trainer.state.num_updates == recorded["num_updates"]
    moved = _moved_by_rounding(trainer, recorded["steps"])
    _compare_parameters(state.model, recorded["final_parameters"], tolerance, moved)
    if (case.folder / "final_params.npz").exists():
        arrays = np.load(case.folder / "final_params.npz")
        for name in arrays.files:
            expected = torch.from_numpy(arrays[name])
            difference = float((state.model[name] - expected).norm() / expected.norm())
            assert difference <= tolerance.param_norm, f"final {name} differs by {difference:.2e} of its norm"
    _compare_log(log, json.loads((case.folder / "log.json").read_text()), tolerance)


class _Tolerance:
    """The tolerances of a case: a loss's grows from the first update on."""

    def __init__(self, spec: dict[str, Any]) -> None:
        unknown = set(spec) - {"batch_ids", "ntokens", "loss_rtol", "gnorm_rtol", "param_norm_rtol"}
        assert not unknown, f"tolerances that no one reads: {sorted(unknown)}"
        assert spec["batch_ids"] == spec["ntokens"] == "exact"
        text = str(spec["loss_rtol"])
        growing = re.fullmatch(r"(\S+) at the first update, (\S+) after (\d+)", text)
        if growing:
            self._first, self._last, self._updates = float(growing[1]), float(growing[2]), int(growing[3])
        else:
            self._first, self._last, self._updates = float(text), float(text), 1
        self.gnorm = float(spec["gnorm_rtol"])
        self.param_norm = float(spec["param_norm_rtol"])

    def loss(self, number: int) -> float:
        share = min(number / self._updates, 1.0)
        return float(self._first ** (1 - share) * self._last**share)

    @staticmethod
    def close(what: str, found: float, expected: float, rtol: float) -> None:
        assert abs(found - expected) <= rtol * abs(expected) + 1e-12, f"{what}: {found!r}, fairseq {expected!r}"


def _compare_update(number: int, update: UpdateRecord, step: dict[str, Any], tolerance: _Tolerance) -> None:
    where = f"update {step['num_updates_after']}"
    read = {"batches", "target_shapes", "lr_used", "lr_after", "epoch_model_seed", "num_updates_after"}
    sums = {key.removesuffix("_sum"): value for key, value in step.items() if key.endswith("_sum")}
    unknown = set(step) - read - {"gnorm_before_clip", "sample_size"} - {f"{key}_sum" for key in sums}
    assert not unknown, f"parts of a step that no one reads: {sorted(unknown)}"
    assert update.num_updates == step["num_updates_after"]
    assert update.batch_ids == step["batches"], f"{where}: other batches"
    assert [list(sample["target"].shape) for sample in update.samples] == step["target_shapes"], where
    assert update.seed == step["epoch_model_seed"], where
    tolerance.close(f"{where}: rate used", update.lr, step["lr_used"], 1e-6)
    tolerance.close(f"{where}: rate after", update.lr_after, step["lr_after"], 1e-6)
    assert update.sample_size == step["sample_size"], where
    for key, expected in sums.items():
        rtol = tolerance.loss(number) if "loss" in key else 0.0
        tolerance.close(f"{where}: {key}", update.total(key), expected, rtol)
    tolerance.close(f"{where}: gradient norm", update.grad_norm, step["gnorm_before_clip"], tolerance.gnorm)


def _moved_by_rounding(trainer: Trainer, steps: list[dict[str, Any]]) -> dict[str, float]:
    """How far rounding alone may have moved an entry of a parameter; of those whose gradient is nothing else.

    Such are the biases of key projections, which softmax cancels out. Their gradients are below what float32 can tell
    from zero beside the whole gradient, and differ with the order of additions; Adam takes a share g / (g + eps) of
    the rate for a gradient of size g all the same, and others of its kind do likewise.
    """
    rounding = torch.finfo(torch.float32).eps * min(step["gnorm_before_clip"] for step in steps)
    rates = sum(step["lr_used"] for step in steps)
    moved = {}
    optimizer, precision = trainer.parts.optimizer, trainer.parts.step._precision
    group_of = {id(param): group for group in optimizer.param_groups for param in group["params"]}
    for name, param in trainer.parts.model.named_parameters():
        own = precision.master_of(param)
        found = _gradient_and_step(optimizer.state.get(own, {}), group_of[id(own)])
        if found is not None and found[0] <= rounding:
            moved[name] = rates * found[1]
    return moved


def _gradient_and_step(state: dict[str, Any], group: dict[str, Any]) -> tuple[float, float] | None:
    """About the largest gradient that an entry has had, and the share of the rate by which it moved it at most.

    None for optimizers whose steps are as small as the gradients.
    """
    if {"step", "exp_avg", "exp_avg_sq"} <= state.keys() and "betas" in group:
        corrected = float(state["exp_avg_sq"].max()) / (1 - group["betas"][1] ** int(state["step"]))
        gradient = corrected**0.5
        return gradient, gradient / (gradient + group["eps"])
    if "exp_avg_sq" in state:  # an update of a fixed size, whatever the gradient's
        return float(state["exp_avg_sq"].max()) ** 0.5, 1.0
    if "exp_inf" in state:
        gradient = float(state["exp_inf"].max())
        return gradient, gradient / (gradient + group["eps"])
    if "acc_delta" in state:
        return float(state["square_avg"].max()) ** 0.5, float(state["acc_delta"].max() + group["eps"]) ** 0.5
    if "sum" in state:
        return float(state["sum"].max()) ** 0.5, 1.0
    return None


def _compare_parameters(
    model: dict[str, torch.Tensor], recorded: dict[str, Any], tolerance: _Tolerance, moved: dict[str, float]
) -> None:
    for name, expected in recorded.items():
        unknown = set(expected) - {"shape", "norm", "sum", "first8"}
        assert not unknown, f"figures that no one reads: {sorted(unknown)}"
        weights = model[name].double()
        assert list(weights.shape) == expected["shape"], name
        rtol, shift = tolerance.param_norm, moved.get(name, 0.0)
        norm, scale = float(weights.norm()), float(weights.abs().sum())
        assert abs(norm - expected["norm"]) <= rtol * expected["norm"] + shift, f"norm of {name}"
        # Entries are moved independently of each other.
        allowed = rtol * scale + shift * weights.numel() ** 0.5
        assert abs(float(weights.sum()) - expected["sum"]) <= allowed, f"sum of {name}"
        first = torch.tensor(expected["first8"], dtype=torch.float64)
        apart = float((weights.flatten()[: len(first)] - first).abs().max())
        assert apart <= rtol * norm + shift, f"beginning of {name}: {apart:.2e} apart"


def _compare_log(log: list[dict[str, Any]], recorded: list[dict[str, Any]], tolerance: _Tolerance) -> None:
    """The lines of the log: same streams in the same order, same figures, values equal as far as they are shown."""
    assert len(log) == len(recorded), f"{len(log)} lines in the log, fairseq {len(recorded)}"
    for number, (line, expected) in enumerate(zip(log, recorded, strict=True)):
        stream = expected["stream"]
        expected = {key: value for key, value in expected.items() if key != "stream"}
        prefix = "" if stream == "train_inner" else f"{stream}_"
        line = {key: value for key, value in line.items() if key.removeprefix(prefix) not in _TIMES}
        expected = {key: value for key, value in expected.items() if key.removeprefix(prefix) not in _TIMES}
        assert list(line) == list(expected), f"line {number}: {list(line)}, fairseq {list(expected)}"
        for key, value in expected.items():
            _compare_shown(f"line {number} ({stream}): {key}", line[key], value, tolerance.loss(number))


def _compare_shown(what: str, found: Any, expected: Any, rtol: float) -> None:
    """Figures of the log: equal but for one unit of the last decimal and the tolerance."""
    assert type(found) is type(expected), f"{what}: {found!r}, fairseq {expected!r}"
    if found == expected:
        return
    decimals = max(len(str(value).partition(".")[2]) for value in (found, expected) if "e" not in str(value))
    allowed = 1.01 * 10.0**-decimals + rtol * abs(float(expected))
    assert abs(float(found) - float(expected)) <= allowed, f"{what}: {found}, fairseq {expected}"


# what is saved


def _run_policy(case: Case, argv: list[str]) -> None:
    trainer, recorder, reason, _ = _train(case, argv)
    events = case.spec["events"]
    assert len(recorder.events) == len(events)
    for found, expected in zip(recorder.events, events, strict=True):
        unknown = set(expected) - set(found)
        assert not unknown, f"parts of an event that no one reads: {sorted(unknown)}"
        assert found == expected
    assert sorted(path.name for path in trainer.parts.saver.folder.iterdir()) == case.spec["final_files"]
    messages = " ".join(case.spec["stop_messages"])
    assert bool(messages) == ("max_epoch" not in reason), f"{reason}; fairseq: {messages}"
    for words, option in (("early stop", "patience"), ("max_update", "max_update"), ("stop_time", "stop_time_hours")):
        assert words not in messages or option in reason, f"{reason}; fairseq: {messages}"


# validation


def _run_validation(case: Case, argv: list[str]) -> None:
    config = to_root_config("validate", argv)
    _use_fairseqs_validation(config)
    assert config.common_eval.path is not None
    trained = open_checkpoint(config.common_eval.path).config
    if (trained.get("criterion") or {}).get("_name") == "adaptive_loss":
        config.given.setdefault("criterion", {})["skip_pad_offset"] = True
    validator = load_validator(config)
    _drop_ragged_batch(validator)
    validator.begin()
    unknown = set(case.spec["tolerance"]) - {"loss_atol"}
    assert not unknown, f"tolerances that no one reads: {sorted(unknown)}"
    atol = float(case.spec["tolerance"]["loss_atol"])
    assert len(validator.subsets) == len(case.spec["log"])
    for subset, recorded in zip(validator.subsets, case.spec["log"], strict=True):
        figures = validator.total(validator.batches(subset)).smoothed_values()
        shown = {f"{subset}_{key}": format_figure(value) for key, value in figures.items()}
        assert list(shown) == list(recorded)
        for key, expected in recorded.items():
            figure = key.removeprefix(f"{subset}_")
            if figure in _TIMES:
                continue
            if figure == "ppl":
                expected_ppl = float(expected)
                assert float(shown[key]) == pytest.approx(expected_ppl, rel=2 * atol), key
            elif "loss" in figure:
                assert float(shown[key]) == pytest.approx(float(expected), abs=atol), key
            else:
                assert shown[key] == expected, key
