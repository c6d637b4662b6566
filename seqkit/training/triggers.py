"""When training stops, saves and validates: questions to the config and the progress, nothing else."""

from __future__ import annotations

import math

from seqkit.checkpoint.policy import CheckpointPolicy
from seqkit.config.root import RootConfig
from seqkit.training.train_state import TrainState


class Triggers:
    """Answers what is due after an update.

    Args:
        config: the root config.
        policy: knows which validation figure is better.
    """

    def __init__(self, config: RootConfig, policy: CheckpointPolicy) -> None:
        self._optimization = config.optimization
        self._checkpoint = config.checkpoint
        self._dataset = config.dataset
        self._policy = policy

    @property
    def max_epoch(self) -> float:
        """The last epoch."""
        return self._optimization.max_epoch or math.inf

    def update_freq(self, epoch: int) -> int:
        """Batches that make one update in an epoch."""
        frequencies = self._optimization.update_freq
        return frequencies[min(epoch, len(frequencies)) - 1]

    def shuffles(self, epoch: int) -> bool:
        """Whether an epoch's batches are shuffled."""
        return epoch > self._dataset.curriculum

    def rate_is_too_low(self, lr: float) -> str | None:
        """Why no further epoch begins, judged by the learning rate."""
        if lr <= self._optimization.stop_min_lr:
            return f"the learning rate {lr:g} has reached optimization.stop_min_lr={self._optimization.stop_min_lr:g}"
        return None

    def must_stop(self, state: TrainState) -> str | None:
        """Why training ends now, None if it goes on."""
        most = self._optimization.max_update
        if most and state.num_updates >= most:
            return f"{state.num_updates} updates are done (optimization.max_update={most})"
        hours = self._optimization.stop_time_hours
        if hours and state.total_train_time > hours * 3600:
            return f"training has taken {state.total_train_time / 3600:.2f} h (optimization.stop_time_hours={hours:g})"
        return None

    def has_skipped_too_often(self, state: TrainState) -> str | None:
        """Why training cannot go on after an update that was left out, None if it does."""
        most = self._optimization.max_skips_in_a_row
        if state.skips_in_a_row <= most:
            return None
        return f"{state.skips_in_a_row} updates in a row were left out (optimization.max_skips_in_a_row={most})"

    def must_save(self, state: TrainState, *, epoch: int, end_of_epoch: bool, stopping: bool) -> bool:
        """Whether checkpoints are written now."""
        if stopping or (end_of_epoch and epoch % self._checkpoint.save_interval == 0):
            return True
        return (
            _every(self._checkpoint.save_interval_updates, state.num_updates)
            and state.num_updates >= self._dataset.validate_after_updates
        )

    def must_validate(self, state: TrainState, *, epoch: int, end_of_epoch: bool, saving: bool, stopping: bool) -> bool:
        """Whether to validate now."""
        if self._dataset.disable_validation or state.num_updates < self._dataset.validate_after_updates:
            return False
        if stopping or (saving and not end_of_epoch):
            return True
        if end_of_epoch and epoch % self._dataset.validate_interval == 0:
            return True
        return _every(self._dataset.validate_interval_updates, state.num_updates)

    def lost_patience(self, state: TrainState, value: float | None) -> str | None:
        """Count a validation figure; why training ends early, None if it goes on."""
        patience = self._checkpoint.patience
        if value is None or patience <= 0:
            return None
        if self._policy.is_better(value, state.patience_best):
            state.patience_best = value
            state.stale_validations = 0
            return None
        state.stale_validations += 1
        if state.stale_validations < patience:
            return None
        return (
            f"{self._checkpoint.best_checkpoint_metric} has not improved in the last {state.stale_validations} "
            f"validations (checkpoint.patience={patience})"
        )


def _every(interval: int, number: int) -> bool:
    return interval > 0 and number > 0 and number % interval == 0
