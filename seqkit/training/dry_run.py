"""A training on trial: what would be trained, on what, in how much memory, and whether a few steps go through.

Writes nothing. Knows nothing of commands.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from seqkit.checkpoint.io import read_checkpoint
from seqkit.config.root import RootConfig
from seqkit.data.iterators import EpochBatchIterator, GroupedIterator
from seqkit.distributed.communication import Communication
from seqkit.distributed.data_parallel import own_part
from seqkit.errors import CheckpointError, UserError
from seqkit.metrics.progress import format_figure
from seqkit.metrics.text_table import bytes_text, text_table
from seqkit.training.build import ReadCheckpoint, build_trainer
from seqkit.training.faults import MemoryExhaustedError
from seqkit.training.figure_logs import require_log_packages
from seqkit.training.figures import require_figure
from seqkit.training.report import batch_statistics
from seqkit.training.step import UpdateResult
from seqkit.training.trainer import Trainer


def dry_run(
    config: RootConfig,
    communication: Communication,
    *,
    read: ReadCheckpoint = read_checkpoint,
    tell: Callable[[str], None] = print,
) -> None:
    """Build everything as a training does, do two updates (the second on the largest batch), validate on one batch.

    Args:
        config: the root config; it is left as it is.
        communication: the processes that would train together; each of them calls this.
        read: opens a checkpoint file.
        tell: takes the report, a paragraph at a time, in the main process.

    Raises:
        UserError: all that would stop a training at its beginning.
        TrainingFault: a step did not go through.
    """
    require_outputs(config)
    trainer = build_trainer(without_outputs(config), read=read, communication=communication)
    trial = _Trial(config, trainer)
    report = trial.run()
    if communication.is_main:
        for paragraph in report:
            tell(f"\n{paragraph}")


def without_outputs(config: RootConfig) -> RootConfig:
    """The same training with nothing that it writes."""
    common = replace(
        config.common, log_file=None, log_format="none", tensorboard_logdir=None, wandb_project=None, profile=False
    )
    return replace(config, common=common, checkpoint=replace(config.checkpoint, no_save=True))


def require_outputs(config: RootConfig) -> None:
    """Find out whether the places that training writes to can be written, without touching them.

    Raises:
        CheckpointError: the folder for checkpoints can not.
        UserError: another one.
        MissingExtraError: a package that training would write to is not installed.
    """
    if not config.checkpoint.no_save:
        reason = _unwritable(Path(config.checkpoint.save_dir))
        if reason:
            raise CheckpointError(
                f"checkpoint.save_dir={config.checkpoint.save_dir} cannot be written ({reason}); give a folder that "
                "can, or set checkpoint.no_save=true"
            )
    if config.common.tensorboard_logdir:
        reason = _unwritable(Path(config.common.tensorboard_logdir))
        if reason:
            raise UserError(f"common.tensorboard_logdir={config.common.tensorboard_logdir} cannot be written: {reason}")
    if config.common.log_file:
        folder = Path(config.common.log_file).absolute().parent
        reason = _unwritable(folder) if folder.exists() else "No such file or directory"
        if reason:
            raise UserError(f"common.log_file={config.common.log_file} cannot be written: {reason}")
    require_log_packages(config.common)


def _unwritable(folder: Path) -> str | None:
    """Why a folder cannot be made or written in, None if it can."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return f"{place} is not a folder"
    return None if os.access(place, os.W_OK | os.X_OK) else f"no permission to write in {place}"


class SavedForBackward:
    """While it is entered, counts the memory that forward passes keep for their backward passes: the activations.

    Args:
        parameters: not counted.

    Attributes:
        peak: the most bytes that were kept at a time.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._own = {own_part(tensor).untyped_storage().data_ptr() for tensor in parameters}
        self._counts: dict[tuple[int, int], int] = {}
        self._now = 0
        self.peak = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, _unpack)

    def __enter__(self) -> SavedForBackward:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._hooks.__exit__(kind, error, traceback)

    def _pack(self, tensor: Tensor) -> _Kept | Tensor:
        if tensor.layout != torch.strided or tensor.untyped_storage().data_ptr() in self._own:
            return tensor
        return _Kept(tensor, self)

    def add(self, place: tuple[int, int]) -> None:
        """One more tensor is kept of the storage at this address, of so many bytes."""
        count = self._counts.get(place, 0)
        self._counts[place] = count + 1
        if not count:
            self._now += place[1]
            self.peak = max(self.peak, self._now)

    def remove(self, place: tuple[int, int]) -> None:
        """One tensor of this storage is kept no longer."""
        self._counts[place] -= 1
        if not self._counts[place]:
            self._now -= place[1]


class _Kept:
    """A tensor that autograd keeps; goes when autograd lets it go."""

    def __init__(self, tensor: Tensor, counter: SavedForBackward) -> None:
        self.tensor = tensor
        self._counter = counter
        storage = tensor.untyped_storage()
        # As they are now: `fully_shard` gives a gathered weight's memory up while autograd keeps the tensor.
        self._place = storage.data_ptr(), storage.nbytes()
        counter.add(self._place)

    def __del__(self) -> None:
        self._counter.remove(self._place)


def _unpack(kept: _Kept | Tensor) -> Tensor:
    return kept.tensor if isinstance(kept, _Kept) else kept


@dataclass(frozen=True)
class _Step:
    """An update that was tried."""

    name: str
    shape: str
    words: float
    seconds: float
    result: UpdateResult
    loss: float | None


class _Trial:
    """The parts of a trainer, tried one after the other."""

    def __init__(self, config: RootConfig, trainer: Trainer) -> None:
        self.config = config
        self.trainer = trainer
        self.parts = trainer.parts
        self.iterator: EpochBatchIterator = trainer.parts.data.iterator
        self._before = trainer.state.num_updates
        self._device = next(trainer.parts.model.parameters()).device
        self._peak = 0
        self._splits = {
            name: (iterator, batch_statistics(iterator.dataset, iterator.frozen_batches))
            for name, iterator in {config.dataset.train_subset: self.iterator, **self.parts.validator.iterators}.items()
        }

    def run(self) -> list[str]:
        """The paragraphs of the report."""
        steps, kept = self._two_updates()
        figures = self._one_validation()
        report = [f"Data\n{self._data()}", f"Memory\n{self._memory(kept)}", f"Steps\n{self._steps(steps)}"]
        report += [f"Validation\n{text}" for text in figures]
        return [*report, self._outlook(steps)]

    # trying

    def _two_updates(self) -> tuple[list[_Step], SavedForBackward]:
        parts, epoch = self.parts, self.parts.data.next_epoch
        batches = parts.data.begin_epoch(
            shuffle=parts.triggers.shuffles(epoch),
            fix_batches_to_gpus=self.config.distributed_training.fix_batches_to_gpus,
        )
        first = next(GroupedIterator(batches, parts.triggers.update_freq(epoch)), None)
        dataset = self.iterator.dataset
        largest = self._splits[self.config.dataset.train_subset][1].largest
        ids = self.iterator.frozen_batches[largest].tolist()
        with SavedForBackward([*parts.model.parameters(), *parts.model.buffers()]) as kept:
            steps = [] if first is None else [self._update("first", first)]
            steps.append(self._update("largest batch", [dataset.collater([dataset[index] for index in ids])]))
        return steps, kept

    def _update(self, name: str, samples: Sequence[Any]) -> _Step:
        parts, state = self.parts, self.trainer.state
        start = time.perf_counter()
        result = parts.step.run(samples, state.num_updates)
        seconds = time.perf_counter() - start
        if self._device.type == "cuda":
            self._peak = max(self._peak, torch.cuda.max_memory_allocated(self._device))
        if result.skipped is not None and not result.overflow:
            raise MemoryExhaustedError(f"{name}: {result.skipped}")
        if result.skipped is None:
            state.count_update()
            parts.lr_scheduler.step_update(state.num_updates)
        parts.figures.log_update(result)
        figures = parts.figures.take_inner(wall=0)
        words = sum(float(output.get("ntokens", 0)) for output in result.logging)
        shapes = [_shape(sample) for sample in samples if sample]
        shape = shapes[0] + (f" and {len(shapes) - 1} more" if len(shapes) > 1 else "") if shapes else ""
        return _Step(name, shape, words, seconds, result, figures.get("loss"))

    def _one_validation(self) -> list[str]:
        validator = self.parts.validator
        validator.begin()
        told = []
        for subset in validator.subsets:
            log = validator.figures(islice(validator.batches(subset), 1))
            if log is None:
                continue
            figures = log.smoothed_values()
            require_figure(figures, self.config.checkpoint.best_checkpoint_metric, subset)
            shown = ", ".join(f"{key} {format_figure(value)}" for key, value in figures.items() if key != "wps")
            told.append(f"  one batch of {subset}: {shown}")
        return ["\n".join(told)] if told else []

    # telling

    def _data(self) -> str:
        rows = []
        for name, (iterator, found) in self._splits.items():
            rows.append(
                [
                    name,
                    f"{len(iterator.dataset):,}",
                    f"{len(iterator.ignored):,}",
                    f"{len(iterator.dataset) - len(iterator.ignored) - found.sentences:,}",
                    f"{found.batches:,}",
                    f"{found.sentences / found.batches:.1f}",
                    " + ".join(f"{side:,}" for side in found.tokens),
                    f"{100 * found.padding:.1f}%",
                ]
            )
        header = ["split", "sentences", "too long", "dropped", "batches", "per batch", "tokens", "padding"]
        return text_table(header, rows)

    def _memory(self, kept: SavedForBackward) -> str:
        parts = self.parts
        model = [*parts.model.parameters(), *parts.model.buffers()]
        state = self.parts.optimizer.state_dict()["state"].values()
        masters = [param for param in _optimized(parts.optimizer) if not any(param is other for other in model)]
        amounts = {
            "weights": _bytes(model),
            "weights in float32": _bytes(masters),
            "gradients": _bytes([param.grad for param in _optimized(parts.optimizer) if param.grad is not None]),
            "optimizer state": _bytes([value for entry in state for value in entry.values() if torch.is_tensor(value)]),
            "activations of the largest batch": kept.peak,
        }
        if parts.ema is not None:
            amounts["moving average of the weights"] = _bytes(list(parts.ema.weights(full_precision=True).values()))
        rows = [[name, bytes_text(amount)] for name, amount in amounts.items() if amount]
        rows.append(["together", bytes_text(sum(amounts.values()))])
        if self._device.type == "cuda":
            rows.append(["peak of the GPU, measured", bytes_text(self._peak)])
            rows.append(["the GPU has", bytes_text(torch.cuda.get_device_properties(self._device).total_memory)])
        else:
            rows.append(["peak of this process, measured", bytes_text(_peak_of_process())])
        return text_table(["in each process", "memory"], rows)

    def _steps(self, steps: Sequence[_Step]) -> str:
        rows = [
            [
                step.name,
                step.shape,
                "?" if step.loss is None else f"{step.loss:g}",
                "overflow" if step.result.skipped else f"{step.result.grad_norm:.3g}",
                f"{step.seconds:.2f}",
                f"{step.words / step.seconds:,.0f}",
            ]
            for step in steps
        ]
        return text_table(["update", "target", "loss", "gnorm", "seconds", "words/s"], rows)

    def _outlook(self, steps: Sequence[_Step]) -> str:
        parts = self.parts
        per_epoch = -(-len(self.iterator) // parts.triggers.update_freq(parts.data.epoch))
        seconds = per_epoch * steps[-1].seconds
        lines = [
            f"An epoch is {per_epoch:,} updates, about {_duration(seconds)} if all took as long as the last one here.",
            "Nothing was written. Without --dry-run, training would "
            + (f"go on after update {self._before:,}." if self._before else "begin."),
        ]
        return "\n".join(lines)


def _shape(sample: Any) -> str:
    target = sample.get("target")
    return "×".join(str(size) for size in target.shape) if torch.is_tensor(target) else f"{sample['nsentences']}"


def _optimized(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def _bytes(tensors: Sequence[Tensor]) -> int:
    distinct = {id(tensor): own_part(tensor) for tensor in tensors}.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct)


def _peak_of_process() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
