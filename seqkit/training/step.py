"""One update: forward and backward for each of its batches, then normalise, clip and step.

Knows nothing of epochs, validation, checkpoints or logs.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.criterions.base import Criterion, LossOutput
from seqkit.distributed.communication import Communication
from seqkit.distributed.data_parallel import Alone, DataParallel
from seqkit.distributed.out_of_memory import is_out_of_memory
from seqkit.errors import ConfigError
from seqkit.models.base import Model
from seqkit.optim.clip import gradient_norm, scale_gradients
from seqkit.optim.loss_scaler import MinimumLossScaleError
from seqkit.tasks.base import Task
from seqkit.training.faults import (
    DivergedError,
    MemoryExhaustedError,
    NonFiniteWatch,
    describe_batch,
    non_finite_parameters,
    sentence_ids,
)
from seqkit.training.precision import Precision
from seqkit.training.profiling import BACKWARD, CLIP, EXCHANGE, FORWARD, MOVE, OPTIMIZER, phase
from seqkit.training.train_loss import TrainLoss

_ADVICE = "Lower the learning rate, set optimization.clip_norm, or look at these sentences"
_SEED_STEP = 2654435769
"""Seeds of neighbouring ranks lie so far apart, and differ in the low 32 bits that a CPU's generator looks at."""
_SMALLER = "Set a smaller dataset.max_tokens (optimization.update_freq makes up for it)"
_LEANER = "optimizer=adafactor, common.memory_efficient_bf16=true or ddp_backend=fully_sharded need less"


@dataclass(frozen=True)
class UpdateResult:
    """What one update did.

    Attributes:
        logging: the criterion's figures for each batch (of all processes).
        sample_size: what the gradients were divided by.
        grad_norm: norm of the gradient after the division, before clipping.
        skipped: why the update was left out, None where it was done.
        overflow: it was left out because the loss scale was too high, which is how a loss scale finds its value.
    """

    logging: list[dict[str, Any]]
    sample_size: float | Tensor
    grad_norm: float
    skipped: str | None = None
    overflow: bool = False


class UpdateStep:
    """Does updates.

    Args:
        task: computes the loss of a batch.
        model, criterion: what is trained; both on `device`.
        optimizer: over `precision.params`.
        clip_norm: largest norm of the gradient; 0 for no clipping.
        seed: the random generators are set to `seed + num_updates` before every update (other ranks to numbers far
            from it), so that an update is the same whether or not training was resumed before it.
        on_nonfinite: what a loss or gradient that is not finite does: `stop`, `skip` (the update is left out) or
            `reduce_scale` (left out, and the loss scale is lowered until it is at its minimum, which stops); None:
            `reduce_scale` where there is a loss scale, else `stop`.
        on_oom: what a batch that does not fit into memory does: `skip` or `stop`.
        parallel: the `TrainLoss` of task, model and criterion, wrapped for several processes.
        spare_batch: gives a batch to run where a process has none of its own.

    Raises:
        ConfigError: `reduce_scale` without a loss scale.
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
        on_nonfinite: str | None = None,
        on_oom: str = "skip",
        parallel: DataParallel | None = None,
        spare_batch: Callable[[], Any] | None = None,
    ) -> None:
        if on_nonfinite == "reduce_scale" and precision.scaler is None:
            raise ConfigError(
                f"optimization.on_nonfinite=reduce_scale needs a loss scale, which training in {precision.name} has "
                "not; choose stop or skip, or set common.fp16=true"
            )
        self._task = task
        self._model = model
        self._criterion = criterion
        self._optimizer = optimizer
        self._precision = precision
        self._communication = communication
        self._device = device
        self._clip_norm = clip_norm
        self._seed = seed
        self._on_nonfinite = on_nonfinite or ("stop" if precision.scaler is None else "reduce_scale")
        self._on_oom = on_oom
        self._parallel = Alone(TrainLoss(task, model, criterion)) if parallel is None else parallel
        self._make_spare_batch = spare_batch
        self._spare_batch: Any = None

    def seed_for(self, num_updates: int) -> int:
        """What the random generators are set to before the update that follows `num_updates` others."""
        return (self._seed + num_updates + _SEED_STEP * self._communication.rank) % 2**63

    def run(self, samples: Sequence[Any], num_updates: int) -> UpdateResult:
        """One update on the batches `samples`, after `num_updates` others. Empty batches add nothing.

        Raises:
            DivergedError: the loss or the gradient is not finite and the policy is to stop, or the loss scale has
                reached its minimum. The message names the update, the module and the sentences.
            MemoryExhaustedError: a batch does not fit into memory and the policy is to stop.
        """
        for attempt in range(self._precision.retries + 1):
            result = self._attempt(samples, num_updates)
            if not result.overflow or attempt == self._precision.retries:
                break
        return result

    def _attempt(self, samples: Sequence[Any], num_updates: int) -> UpdateResult:
        self._begin(num_updates)
        outputs, exhausted = self._accumulate(samples)
        # Not inside the handler: the error holds what the batch has allocated.
        if exhausted:
            self._catch_up(num_updates)
        unsent = self._exchange(num_updates)
        exhausted = exhausted or unsent
        losses = [output.loss for output in outputs]
        with phase(EXCHANGE):
            gradients, norm = self._gradients()
            if norm is None:
                exhausted = exhausted or f"the gradients of {_described(samples)}"
                norm = torch.zeros((), device=self._precision.params[0].device)
            norm = self._parallel.whole_norm(norm)
            logging, sample_size, anyone_exhausted = self._communication.share_update(
                [output.logging for output in outputs],
                sum(output.sample_size for output in outputs),
                norm,
                exhausted=bool(exhausted),
                can_be_summed=self._criterion.logging_can_be_summed,
            )
        if anyone_exhausted:
            return self._out_of_memory(exhausted, num_updates)
        factor = _inverse(sample_size) * self._precision.unscale * self._parallel.gradient_factor
        # The one moment of an update at which the host waits for the device.
        grad_norm = float(norm * factor)
        if not math.isfinite(grad_norm):
            return self._not_finite(samples, losses, num_updates, logging, sample_size, grad_norm)
        if self._clip_norm > 0:
            factor = factor * min(1.0, self._clip_norm / (grad_norm + 1e-6))
        with phase(CLIP):
            scale_gradients(gradients, factor)
        with phase(OPTIMIZER):
            self._step(num_updates)
        if self._precision.scaler is not None:
            self._precision.scaler.update()
        return UpdateResult(logging, sample_size, grad_norm)

    def _begin(self, num_updates: int) -> None:
        self._communication.step(f"update {num_updates + 1}")
        torch.manual_seed(self.seed_for(num_updates))
        self._model.train()
        self._criterion.train()
        self._model.set_num_updates(num_updates)
        self._precision.zero_grad()

    def _accumulate(self, samples: Sequence[Any]) -> tuple[list[LossOutput], str]:
        """Forward and backward for each batch; the outputs, and what memory did not suffice for (mostly nothing)."""
        outputs: list[LossOutput] = []
        for place, sample in enumerate(samples):
            try:
                output = self._forward_backward(sample, last=place == len(samples) - 1)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                return outputs, f"the batch of {_described([sample])}"
            if output is not None:
                outputs.append(output)
        return outputs, ""

    def _forward_backward(self, sample: Any, *, last: bool) -> LossOutput | None:
        """Loss of one batch; for an empty one, a spare batch is run for its zero gradients and nothing is returned.

        With the update's `last` batch, gradients are exchanged.
        """
        empty = not sample
        if empty:
            if self._spare_batch is None and self._make_spare_batch is not None:
                self._spare_batch = self._make_spare_batch()
            sample = self._spare_batch
            if sample is None:
                return None
        given = sample
        with phase(MOVE):
            sample = self._precision.move(sample, self._device)
        with self._parallel.accumulating(last=last):
            with phase(FORWARD), self._precision.autocast():
                output: LossOutput = self._parallel(sample)
            # 1, or NaN where the loss is not finite: no process then steps, though gradients may look sound.
            sound = output.loss.detach() * 0 + 1
            with phase(BACKWARD), self._parallel.exchanging(last=last):
                self._precision.backward(output.loss * 0 if empty else output.loss * sound)
        if self._spare_batch is None:
            self._spare_batch = given  # memory suffices for it
        return None if empty else output._replace(loss=output.loss.detach())

    def _gradients(self) -> tuple[list[Tensor], Tensor | None]:
        """The gradients that the optimizer will see, and their norm: None where memory does not suffice for them."""
        try:
            gradients = self._precision.gradients()
            return gradients, gradient_norm(gradients)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return [], None

    def _step(self, num_updates: int) -> None:
        """The optimizer's step.

        Raises:
            MemoryExhaustedError: memory does not suffice for it. Some weights may have been updated by then, so that
                the update cannot be left out.
        """
        try:
            self._optimizer.step()
            self._precision.finish_step()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryExhaustedError(
                f"update {num_updates + 1}: memory did not suffice for the optimizer's step (what it keeps of each "
                f"weight is made at the first). {_SMALLER}; {_LEANER}"
            ) from error

    # faults

    def _catch_up(self, num_updates: int) -> None:
        """This process's memory did not suffice: give everything back, and take part in the exchange with zeros.

        Raises:
            MemoryExhaustedError: the exchange had begun, so that the others cannot be told to leave the update out; or
                memory does not suffice for the smallest batch.
        """
        self._free_memory()
        if self._parallel.is_broken:
            raise MemoryExhaustedError(_in_the_midst(num_updates))
        if self._communication.world_size == 1:
            return
        try:
            self._forward_backward({}, last=True)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryExhaustedError(
                f"update {num_updates + 1}: memory did not suffice for a batch, nor for a small one in its place. "
                f"{_SMALLER}; {_LEANER}"
            ) from error

    def _exchange(self, num_updates: int) -> str:
        """Exchange what is not yet exchanged; what memory did not suffice for (mostly nothing).

        Raises:
            MemoryExhaustedError: the exchange had begun, so that the others cannot be told to leave the update out.
        """
        exhausted = ""
        for _ in range(2):
            try:
                self._parallel.finish()
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            if exhausted or self._parallel.is_broken:
                raise MemoryExhaustedError(_in_the_midst(num_updates))
            exhausted = "the exchange of gradients"
            self._free_memory()  # zeros are sent
        return exhausted

    def _free_memory(self) -> None:
        self._precision.zero_grad()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _out_of_memory(self, exhausted: str, num_updates: int) -> UpdateResult:
        """Give everything back and leave the update out, in all processes.

        Args:
            exhausted: what memory did not suffice for; empty where it did in this process.
        """
        self._free_memory()
        where = "; ".join(text for text in self._communication.gather_texts(exhausted) if text)
        reason = f"memory did not suffice for {where}"
        if self._on_oom == "stop":
            raise MemoryExhaustedError(f"update {num_updates + 1}: {reason}. {_SMALLER}, or optimization.on_oom=skip")
        return UpdateResult([], 0, 0.0, skipped=reason)

    def _not_finite(
        self,
        samples: Sequence[Any],
        losses: Sequence[Tensor],
        num_updates: int,
        logging: list[dict[str, Any]],
        sample_size: float | Tensor,
        grad_norm: float,
    ) -> UpdateResult:
        update, scaler, too_small = num_updates + 1, self._precision.scaler, None
        if scaler is not None and self._on_nonfinite != "stop":
            try:
                scaler.check_overflow(grad_norm)
            except OverflowError as error:
                self._precision.zero_grad()
                return UpdateResult(logging, sample_size, 0.0, skipped=f"float16 {error}", overflow=True)
            except MinimumLossScaleError as error:
                too_small = error
        diagnosis = self._diagnosis(samples, losses, num_updates, grad_norm)
        self._precision.zero_grad()
        if self._on_nonfinite == "skip":
            return UpdateResult(logging, sample_size, 0.0, skipped=diagnosis)
        if too_small is not None:
            raise DivergedError(f"update {update}: {too_small}. What was found: {diagnosis}") from too_small
        raise DivergedError(f"update {update}: {diagnosis}. {_ADVICE}")

    def _diagnosis(self, samples: Sequence[Any], losses: Sequence[Tensor], num_updates: int, grad_norm: float) -> str:
        """What is not finite, in which sentences, and where it arises: found by doing the update's batches again."""
        full = [sample for sample in samples if sample]
        bad = [(float(loss), sample) for loss, sample in zip(losses, full, strict=True) if not torch.isfinite(loss)]
        watch = self._rerun(samples, num_updates)
        if bad:
            value, sample = bad[0]
            text = f"the loss is {value} in the batch of sentences {sentence_ids(sample)}"
        elif watch.faulty:
            text = f"the gradient is not finite in the batch of sentences {sentence_ids(watch.faulty)}"
        else:
            ids = "; ".join(sentence_ids(sample) for sample in full)
            text = f"the gradient is not finite, its norm is {grad_norm}; sentences {ids}"
        spoilt = non_finite_parameters(self._modules)
        if spoilt:
            names = f"{', '.join(spoilt[:3])}{', …' if len(spoilt) > 3 else ''}"
            where = f"the weights are not finite before this update: {names}"
        else:
            where = watch.found or "done again, these batches give finite numbers"
        told = f"{text}; {where}"
        if self._communication.world_size == 1:
            return told
        everyone = self._communication.gather_texts(told if bad or watch.found or spoilt else "")
        return "; ".join(f"rank {rank}: {part}" for rank, part in enumerate(everyone) if part) or told

    def _rerun(self, samples: Sequence[Any], num_updates: int) -> NonFiniteWatch:
        """Do the same batches again with the same random numbers, watched. Every process does all of them."""
        self._begin(num_updates)
        with _eager(), NonFiniteWatch(self._modules) as watch:
            for place, sample in enumerate(samples):
                watch.batch = sample
                # The last one ends an exchange: gradients that wait for one could not be forgotten.
                self._forward_backward(sample, last=place == len(samples) - 1)
        self._precision.zero_grad()
        return watch

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"": self._model, "criterion": self._criterion}


def _eager() -> contextlib.AbstractContextManager[Any]:
    """Compiled functions run as they were written: in compiled ones, modules cannot be watched."""
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


def _described(samples: Sequence[Any]) -> str:
    return "; ".join(describe_batch(sample) for sample in samples if sample) or "a batch without sentences"


def _in_the_midst(num_updates: int) -> str:
    return (
        f"update {num_updates + 1}: memory did not suffice in the midst of the exchange of gradients. {_SMALLER}, or "
        "distributed_training.ddp_backend=legacy_ddp, which can leave such an update out"
    )


def _inverse(sample_size: float | Tensor) -> float | Tensor:
    """1 / sample_size, and 1 where there were no samples; a size on the device stays there."""
    if isinstance(sample_size, Tensor):
        return torch.where(sample_size == 0, 1.0, 1.0 / sample_size.float())
    return 1.0 / (sample_size or 1.0)
