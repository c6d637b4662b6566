"""One update: forward and backward for each of its batches, then normalise, clip and step.

Knows nothing of epochs, validation, checkpoints or logs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.criterions.base import Criterion, LossOutput
from seqkit.distributed.communication import Communication
from seqkit.errors import SeqkitError
from seqkit.models.base import Model
from seqkit.optim.clip import gradient_norm, scale_gradients
from seqkit.optim.loss_scaler import MinimumLossScaleError
from seqkit.tasks.base import Task
from seqkit.training.device import move_to_device
from seqkit.training.precision import Precision

_OVERFLOW = "float16 gradients overflowed"
_NO_MEMORY = "the GPU's memory did not suffice"


class DivergedError(SeqkitError):
    """Training has produced numbers that are not finite, or no loss scale is small enough."""


@dataclass(frozen=True)
class UpdateResult:
    """What one update did.

    Attributes:
        logging: the criterion's figures for each batch (of all processes).
        sample_size: what the gradients were divided by.
        grad_norm: norm of the gradient after the division, before clipping.
        skipped: why the update was left out (float16 overflow, no GPU memory), None where it was done.
    """

    logging: list[dict[str, Any]]
    sample_size: float | Tensor
    grad_norm: float
    skipped: str | None = None


class UpdateStep:
    """Does updates.

    Args:
        task: computes the loss of a batch.
        model, criterion: what is trained; both on `device`.
        optimizer: over `precision.params`.
        clip_norm: largest norm of the gradient; 0 for no clipping.
        seed: the random generators are set to `seed + num_updates` before every update, so that an update is the
            same whether or not training was resumed before it.
    """

    def __init__(
        self,
        task: Task,
        model: Model,
        criterion: Criterion,
        optimizer: torch.optim.Optimizer,
        precision: Precision,
        communication: Communication,
        *,
        device: torch.device,
        clip_norm: float,
        seed: int,
    ) -> None:
        self._task = task
        self._model = model
        self._criterion = criterion
        self._optimizer = optimizer
        self._precision = precision
        self._communication = communication
        self._device = device
        self._clip_norm = clip_norm
        self._seed = seed
        self._spare_batch: Any = None

    def seed_for(self, num_updates: int) -> int:
        """What the random generators are set to before the update that follows `num_updates` others."""
        return self._seed + num_updates

    def run(self, samples: Sequence[Any], num_updates: int) -> UpdateResult:
        """One update on the batches `samples`, after `num_updates` others. Empty batches add nothing.

        Raises:
            DivergedError: the loss or the gradient is not finite (without float16), or the loss scale has reached its
                minimum. The message names the update and the sentences.
        """
        for attempt in range(self._precision.retries + 1):
            result = self._attempt(samples, num_updates)
            if result.skipped != _OVERFLOW or attempt == self._precision.retries:
                break
        return result

    def _attempt(self, samples: Sequence[Any], num_updates: int) -> UpdateResult:
        torch.manual_seed(self.seed_for(num_updates))
        self._model.train()
        self._criterion.train()
        self._model.set_num_updates(num_updates)
        self._precision.zero_grad()
        outputs: list[LossOutput] | None = None
        try:
            outputs = [output for output in map(self._forward_backward, samples) if output is not None]
        except torch.cuda.OutOfMemoryError:
            if self._communication.world_size > 1:
                raise  # the others would wait for this one
        if outputs is None:
            return self._out_of_memory(samples)
        losses = [output.loss for output in outputs]
        logging = [output.logging for output in outputs]
        sample_size: float | Tensor = sum(output.sample_size for output in outputs)
        logging = self._communication.gather_logging(logging)
        sample_size = self._communication.sum_sample_size(sample_size)
        gradients = self._precision.gradients()
        self._communication.sum_gradients(gradients)
        factor = _inverse(sample_size) * self._precision.unscale
        # The one moment of an update at which the host waits for the device.
        grad_norm = float(gradient_norm(gradients) * factor)
        if not math.isfinite(grad_norm):
            return self._not_finite(samples, losses, num_updates, logging, sample_size, grad_norm)
        if self._clip_norm > 0:
            factor = factor * min(1.0, self._clip_norm / (grad_norm + 1e-6))
        scale_gradients(gradients, factor)
        self._optimizer.step()
        self._precision.finish_step()
        if self._precision.scaler is not None:
            self._precision.scaler.update()
        return UpdateResult(logging, sample_size, grad_norm)

    def _forward_backward(self, sample: Any) -> LossOutput | None:
        """Loss of one batch; for an empty one, a spare batch is run for its zero gradients and nothing is returned."""
        empty = not sample
        if empty:
            sample = self._spare_batch
            if sample is None:
                return None
        elif self._spare_batch is None:
            self._spare_batch = sample
        sample = move_to_device(sample, self._device, self._precision.input_dtype)
        with self._precision.autocast():
            output = self._task.train_loss(sample, self._model, self._criterion)
        self._precision.backward(output.loss * 0 if empty else output.loss)
        return None if empty else output._replace(loss=output.loss.detach())

    def _out_of_memory(self, samples: Sequence[Any]) -> UpdateResult:
        """Give everything back and leave the update out. (While the error was handled, it held what was allocated.)"""
        self._precision.zero_grad()
        torch.cuda.empty_cache()
        shapes = "; ".join(str(list(sample["target"].shape)) for sample in samples if sample and "target" in sample)
        return UpdateResult([], 0, 0.0, skipped=f"{_NO_MEMORY} for batches of target shape {shapes}")

    def _not_finite(
        self,
        samples: Sequence[Any],
        losses: Sequence[Tensor],
        num_updates: int,
        logging: list[dict[str, Any]],
        sample_size: float | Tensor,
        grad_norm: float,
    ) -> UpdateResult:
        update = num_updates + 1
        scaler = self._precision.scaler
        if scaler is not None:
            try:
                scaler.check_overflow(grad_norm)
            except OverflowError:
                self._precision.zero_grad()
                return UpdateResult(logging, sample_size, 0.0, skipped=_OVERFLOW)
            except MinimumLossScaleError as error:
                raise DivergedError(f"update {update}: {error}") from error
        raise DivergedError(self._diagnosis(samples, losses, update, grad_norm))

    def _diagnosis(self, samples: Sequence[Any], losses: Sequence[Tensor], update: int, grad_norm: float) -> str:
        full = [sample for sample in samples if sample]
        bad = [
            (float(loss), sample) for loss, sample in zip(losses, full, strict=True) if not math.isfinite(float(loss))
        ]
        advice = "Lower the learning rate, set optimization.clip_norm, or look at these sentences"
        if bad:
            value, sample = bad[0]
            return f"update {update}: the loss is {value} in the batch of sentences {_ids(sample)}. {advice}"
        names = [
            name
            for name, param in self._named_parameters()
            if param.grad is not None and not bool(torch.isfinite(param.grad).all())
        ]
        where = f" (in {', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""
        ids = "; ".join(_ids(sample) for sample in full)
        return f"update {update}: the gradient is not finite{where}, its norm is {grad_norm}; sentences {ids}. {advice}"

    def _named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        return [*self._model.named_parameters(), *self._criterion.named_parameters(prefix="criterion")]


def _ids(sample: Any) -> str:
    ids = sample["id"].tolist()
    shown = ", ".join(str(index) for index in ids[:16])
    return f"[{shown}{', …' if len(ids) > 16 else ''}]"


def _inverse(sample_size: float | Tensor) -> float | Tensor:
    """1 / sample_size, and 1 where there were no samples; a size on the device stays there."""
    if isinstance(sample_size, Tensor):
        return torch.where(sample_size == 0, 1.0, 1.0 / sample_size.float())
    return 1.0 / (sample_size or 1.0)
