"""The training loop: epochs of updates, with validation, saves and log lines when they are due.

Each of its parts is handed in and does one thing; the loop only says in which order. Knows nothing of the model's
inside, of number formats, of file names, or of where data comes from.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from seqkit.checkpoint.policy import SaveEvent
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.root import RootConfig
from seqkit.data.iterators import GroupedIterator
from seqkit.distributed.communication import Communication, SingleProcess
from seqkit.errors import ConfigError
from seqkit.metrics.progress import FigureLog, ProgressReporter, make_progress
from seqkit.metrics.run_clock import RunClock
from seqkit.models.base import Model
from seqkit.optim.base import get_lr
from seqkit.optim.lr_scheduler.base import LRScheduler
from seqkit.tasks.base import Task
from seqkit.training.ema import ExponentialMovingAverage
from seqkit.training.faults import TrainingFault
from seqkit.training.figures import TrainingFigures, require_figure
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer, UpdateRecord
from seqkit.training.profiling import fetched
from seqkit.training.saving import CheckpointSaver, Saved
from seqkit.training.snapshot import Snapshot
from seqkit.training.step import UpdateResult, UpdateStep
from seqkit.training.train_data import TrainData
from seqkit.training.train_state import TrainState
from seqkit.training.triggers import Triggers
from seqkit.training.validation import Validator

logger = logging.getLogger(__name__)


@dataclass
class TrainerParts:
    """What a `Trainer` works with; `training.build.build_trainer` makes them from a config."""

    task: Task
    model: Model
    optimizer: torch.optim.Optimizer
    lr_scheduler: LRScheduler
    step: UpdateStep
    validator: Validator
    data: TrainData
    triggers: Triggers
    saver: CheckpointSaver
    state: TrainState
    figures: TrainingFigures
    snapshot: Snapshot
    ema: ExponentialMovingAverage | None = None
    figure_logs: Sequence[FigureLog] = field(default_factory=tuple)
    observers: Sequence[Observer] = field(default_factory=tuple)
    stop: StopRequest = field(default_factory=StopRequest)
    communication: Communication = field(default_factory=SingleProcess)


class Trainer:
    """Trains until something says stop.

    Args:
        config: the root config (for logging and the sections that the loop reads).
        parts: the collaborators.
    """

    def __init__(self, config: RootConfig, parts: TrainerParts) -> None:
        self.config = config
        self.parts = parts
        self.state = parts.state
        self._clock = RunClock(
            max_update=config.optimization.max_update,
            max_epoch=config.optimization.max_epoch,
            max_seconds=config.optimization.stop_time_hours * 3600,
        )
        self._interruption = False
        self._heard_of_stop = False

    def train(self) -> str:
        """Train, from where the parts stand, to the end.

        Returns:
            why training ended, in words.

        Raises:
            ConfigError: an epoch has no updates at all.
            TrainingFault: the loss or gradient is not finite, memory does not suffice, or too many updates in a row
                were left out for one of these reasons.
            CheckpointError: a checkpoint could not be written (training's state is intact, and so are older files).
        """
        parts = self.parts
        self.state.restart_clock()
        self._clock.begin(self.state.num_updates, parts.data.epochs_done, self.state.train_time)
        try:
            with parts.saver:
                reason = self._finish_pending()
                while reason is None and parts.data.next_epoch <= parts.triggers.max_epoch:
                    reason = parts.triggers.rate_is_too_low(get_lr(parts.optimizer)) or self._train_epoch()
                self._tell_of_save(parts.saver.wait())
        finally:
            for log in parts.figure_logs:
                log.close()
            for observer in parts.observers:
                observer.on_end()
        if reason is None:
            reason = f"all epochs are done (optimization.max_epoch={self.config.optimization.max_epoch})"
        left_out = f" ({self.state.skipped_updates} were left out)" if self.state.skipped_updates else ""
        logger.info("training ended after %d updates%s: %s", self.state.num_updates, left_out, reason)
        return reason

    def checkpoint_state(self) -> CheckpointState:
        """Everything that a checkpoint holds, as it stands."""
        return self.parts.saver.whole_state(self.parts.snapshot.take())

    # an epoch

    def _train_epoch(self) -> str | None:
        parts = self.parts
        batches = parts.data.begin_epoch(
            shuffle=parts.triggers.shuffles(parts.data.next_epoch),
            fix_batches_to_gpus=self.config.distributed_training.fix_batches_to_gpus,
        )
        epoch = parts.data.epoch
        updates: GroupedIterator[Any] = GroupedIterator(
            batches,
            parts.triggers.update_freq(epoch),
            skip_remainder_batch=bool(self.config.optimization.skip_remainder_batch),
        )
        if updates.total == 0:
            raise ConfigError(
                f"epoch {epoch} has no updates: it has {len(parts.data.iterator.frozen_batches)} batches, and what "
                "optimization.skip_remainder_batch or dataset.grouped_shuffling leave out is all of it; leave these "
                "options out, or make smaller batches (dataset.max_tokens, dataset.batch_size)"
            )
        parts.task.begin_epoch(epoch, parts.model)
        parts.lr_scheduler.step_begin_epoch(epoch)
        self._follow_rate()
        reason = None
        with contextlib.closing(self._reporter(updates, epoch)) as progress:
            for samples in fetched(progress):
                result = self._update(samples, epoch, progress)
                end_of_epoch = not updates.has_next()
                if result.skipped is None or end_of_epoch:
                    reason = self._after_update(epoch, end_of_epoch)
                elif self._must_leave():
                    reason = self._interrupted(epoch, end_of_epoch, nothing_pending=True)
                if reason is not None:
                    break
            if not self.stopped_in_midway:
                self._report_epoch(progress)
        return reason

    def _update(self, samples: Sequence[Any], epoch: int, progress: ProgressReporter[Any]) -> UpdateResult:
        parts, state = self.parts, self.state
        lr = get_lr(parts.optimizer)
        seed = parts.step.seed_for(state.num_updates)
        parts.figures.begin_update()
        parts.communication.notice = 0 if parts.stop.signal is None else int(parts.stop.signal)
        result = parts.step.run(samples, state.num_updates)
        self._hear_of_stop(parts.communication.heard)
        parts.communication.step(f"what follows update {state.num_updates + 1}")
        self._empty_cache()
        if result.skipped is not None:
            logger.warning("update %d is left out: %s", state.num_updates + 1, result.skipped)
            state.count_skip(fault=not result.overflow)
        else:
            state.count_update()
            self._follow_rate()
            if parts.ema is not None:
                parts.ema.step(state.num_updates)
            parts.figures.log_update(result, ema_decay=None if parts.ema is None else parts.ema.decay)
        if state.skipped_updates:
            parts.figures.log_skips(state.skipped_updates)
        parts.figures.end_update()
        if result.skipped is not None:
            reason = parts.triggers.has_skipped_too_often(state)
            if reason is not None:
                raise TrainingFault(f"update {state.num_updates + 1}: {reason}; the last of them: {result.skipped}")
            return result
        if parts.observers:
            record = UpdateRecord(
                epoch=epoch,
                num_updates=state.num_updates,
                seed=seed,
                samples=samples,
                logging=result.logging,
                sample_size=float(result.sample_size),
                grad_norm=result.grad_norm,
                lr=lr,
                lr_after=get_lr(parts.optimizer),
            )
            for observer in parts.observers:
                observer.on_update(record)
        if state.num_updates % self.config.common.log_interval == 0:
            figures = parts.figures.take_inner(wall=state.run_time)
            progress.log(figures, tag="train_inner", step=state.num_updates)
            self._tell("train_inner", figures)
        return result

    def _empty_cache(self) -> None:
        frequency = self.config.common.empty_cache_freq
        if frequency > 0 and self.state.num_updates % frequency == 0:
            torch.cuda.empty_cache()  # does nothing where no GPU is in use

    def _follow_rate(self) -> None:
        """Let the schedule set the rate for the number of updates done."""
        lr = self.parts.lr_scheduler.step_update(self.state.num_updates)
        self.parts.figures.log_rate(self.state.num_updates, lr, self.parts.lr_scheduler.group_rates)

    def _report_epoch(self, progress: ProgressReporter[Any]) -> None:
        figures = self.parts.figures.take_epoch(wall=self.state.run_time)
        progress.print(figures, tag="train", step=self.state.num_updates)
        self._tell("train", figures)

    # between updates

    def _after_update(self, epoch: int, end_of_epoch: bool) -> str | None:
        """Validation, saves and the epoch's end, where they are due; why training ends, None if it goes on."""
        self._tell_of_save(self.parts.saver.finished())
        if self._must_leave():
            return self._interrupted(epoch, end_of_epoch)
        parts, state = self.parts, self.state
        reason = self._why_stop()
        stopping = reason is not None
        saving = parts.triggers.must_save(state, epoch=epoch, end_of_epoch=end_of_epoch, stopping=stopping)
        value = None
        if parts.triggers.must_validate(
            state, epoch=epoch, end_of_epoch=end_of_epoch, saving=saving, stopping=stopping
        ):
            value = self._validate(epoch)
            if self._must_leave():
                return self._interrupted(epoch, end_of_epoch)
        reason = reason or parts.triggers.lost_patience(state, value)
        if end_of_epoch:
            # Before the save, so that a resumed run finds the schedule as this one leaves it.
            parts.lr_scheduler.step(epoch, value)
            parts.lr_scheduler.step_update(state.num_updates)
        if saving or reason is not None:
            self._save(epoch, end_of_epoch, value)
        return reason

    def _validate(self, epoch: int) -> float | None:
        """Validate on every subset; the figure of the first one that decides which checkpoint is best."""
        parts = self.parts
        metric = self.config.checkpoint.best_checkpoint_metric
        values: list[float] = []
        parts.validator.begin()
        for subset in parts.validator.subsets:
            logger.info("validating on %r", subset)
            batches = parts.validator.batches(subset)
            with contextlib.closing(self._reporter(batches, epoch, f"valid on '{subset}' subset")) as progress:
                log = parts.validator.figures(progress, stop=lambda: bool(parts.stop))
                if log is None:
                    self._hear_of_stop(parts.communication.largest(int(parts.stop.signal or 0)))
                    return None
                figures: dict[str, Any] = {**log.smoothed_values(), "num_updates": self.state.num_updates}
                require_figure(figures, metric, subset)
                values.append(float(figures[metric]))
                if self.state.best is not None and len(values) == 1:
                    figures[f"best_{metric}"] = parts.saver.policy.best_of(values[-1], self.state.best)
                progress.print(figures, tag=subset, step=self.state.num_updates)
                self._tell(subset, figures)
        return values[0] if values else None

    def _save(self, epoch: int, end_of_epoch: bool, value: float | None) -> None:
        state, saver = self.state, self.parts.saver
        if value is not None:
            state.best = saver.policy.best_of(value, state.best)
        state.val_loss = value
        event = SaveEvent(epoch, state.num_updates, end_of_epoch, value, state.best)
        self._tell_of_save(saver.wait())
        self._tell_of_save(saver.save(event, self.parts.snapshot.take))

    def _tell_of_save(self, saved: Saved | None) -> None:
        """Log a save that is on the disk, and tell the observers."""
        if saved is None:
            return
        if saved.written:
            value, metric = saved.event.value, self.config.checkpoint.best_checkpoint_metric
            figure = "" if value is None else f" ({metric} {value:g})"
            names, folder = ", ".join(saved.written), self.parts.saver.folder
            logger.info("saved %s in %s%s; training waited %.2f s", names, folder, figure, saved.stalled)
        for observer in self.parts.observers:
            observer.on_save(saved.event, saved.written, saved.deleted)

    # interruption

    def _must_leave(self) -> bool:
        """Whether somebody asks to stop. Several processes look only at what all of them have heard of."""
        return bool(self.parts.stop) if self.parts.communication.world_size == 1 else self._heard_of_stop

    def _hear_of_stop(self, number: int) -> None:
        """The largest number of a signal that any process got, 0 for none."""
        if self.parts.communication.world_size > 1:
            self._heard_of_stop = self.parts.stop.share(lambda own: number)

    def _why_stop(self) -> str | None:
        """Why training ends now. Clocks differ, so where they count, processes agree."""
        reason = self.parts.triggers.must_stop(self.state)
        hours = self.config.optimization.stop_time_hours
        if hours and self.parts.communication.any(reason is not None):
            return reason or f"another process has trained for {hours:g} h (optimization.stop_time_hours={hours:g})"
        return reason

    @property
    def stopped_in_midway(self) -> bool:
        """Whether training was interrupted, so that a later run reports the epoch."""
        return self._interruption

    def _interrupted(self, epoch: int, end_of_epoch: bool, *, nothing_pending: bool = False) -> str:
        """Save for a later run, which will first do what this one leaves undone."""
        self._interruption = True
        if not nothing_pending:
            self.state.pending_epoch = epoch
            self.state.pending_end = end_of_epoch
        self._tell_of_save(self.parts.saver.wait())
        # Only the main process writes; all tell the same.
        written = self.parts.communication.from_main(self.parts.saver.save_last(self.parts.snapshot.take))
        name = self.parts.stop.signal.name if self.parts.stop.signal is not None else "request"
        if not written:
            return f"interrupted by {name}; nothing was saved (checkpoint.no_save or no_last_checkpoints is set)"
        folder = self.parts.saver.folder
        return f"interrupted by {name}; saved {folder / written[0]}: the same command goes on from there"

    def _finish_pending(self) -> str | None:
        """Do what an interrupted run left undone after its last update."""
        epoch, end_of_epoch = self.state.pending_epoch, self.state.pending_end
        if epoch is None:
            return None
        self.state.pending_epoch = None
        self.state.pending_end = False
        reason = self._after_update(epoch, end_of_epoch)
        if end_of_epoch and not self.stopped_in_midway:
            with contextlib.closing(self._reporter([], epoch)) as progress:
                self._report_epoch(progress)
        return reason

    # reporting

    def _reporter(self, items: Iterable[Any], epoch: int, prefix: str | None = None) -> ProgressReporter[Any]:
        common, is_main = self.config.common, self.parts.communication.is_main
        return make_progress(
            items,
            log_format=common.log_format if is_main else "none",
            log_interval=common.log_interval,
            log_file=common.log_file if is_main else None,
            epoch=epoch,
            prefix=prefix,
            default_log_format="simple" if common.no_progress_bar else "tqdm",
            logs=self.parts.figure_logs,
            run=self._clock,
        )

    def _tell(self, stream: str, figures: Mapping[str, Any]) -> None:
        for observer in self.parts.observers:
            observer.on_log(stream, figures, self.state.num_updates)
