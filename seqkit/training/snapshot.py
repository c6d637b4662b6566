"""All parts of a training to one `CheckpointState`, and back.

Knows what each part keeps; nothing of files or of when to save.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from seqkit.checkpoint.state import CheckpointState
from seqkit.checkpoint.weights import Fit, load_weights, plain_weights, reorder_optimizer_state
from seqkit.config.root import RootConfig
from seqkit.config.validate import to_dict
from seqkit.criterions.base import Criterion
from seqkit.errors import CheckpointError
from seqkit.models.base import Model
from seqkit.optim.lr_scheduler.base import LRScheduler
from seqkit.tasks.base import Task
from seqkit.training.ema import ExponentialMovingAverage
from seqkit.training.figures import TrainingFigures
from seqkit.training.precision import Precision
from seqkit.training.start import Start
from seqkit.training.train_data import TrainData
from seqkit.training.train_state import TrainState

logger = logging.getLogger(__name__)

_HINT = "  To take what fits and leave out the rest, set checkpoint.allow_partial=true."
_MOST_TOLD = 40
"""Names told of each kind where only a part of a checkpoint fits."""


class Snapshot:
    """Takes the state of a training's parts, and restores it.

    Args:
        names: the trained parameters' names, in the order in which the optimizer has them.
    """

    def __init__(
        self,
        config: RootConfig,
        task: Task,
        model: Model,
        criterion: Criterion,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: LRScheduler,
        precision: Precision,
        data: TrainData,
        state: TrainState,
        figures: TrainingFigures,
        ema: ExponentialMovingAverage | None,
        names: list[str],
    ) -> None:
        self._config = config
        self._task = task
        self._model = model
        self._criterion = criterion
        self._optimizer = optimizer
        self._lr_scheduler = lr_scheduler
        self._precision = precision
        self._data = data
        self._state = state
        self._figures = figures
        self._ema = ema
        self._names = names

    def take(self) -> CheckpointState:
        """The state as it stands, its tensors being those that training goes on to change, wherever they are.

        Weights are in the optimizer's precision, so that nothing is lost by rounding.
        """
        extra: dict[str, Any] = {}
        if self._precision.scaler is not None:
            extra["loss_scaler"] = self._precision.scaler.state_dict()
        if self._ema is not None:
            extra["ema"] = plain_weights(self._ema.weights(full_precision=True))
            extra["ema_waiting"] = self._ema.waiting
        keep_optimizer = not self._config.checkpoint.no_save_optimizer_state
        return CheckpointState(
            config=to_dict(self._config),
            model=self._weights(self._model),
            criterion=self._weights(self._criterion),
            task=self._task.state_dict(),
            optimizer=self._optimizer_state() if keep_optimizer else None,
            lr_scheduler=self._lr_scheduler.state_dict(),
            iterator=self._data.state_dict(),
            progress=self._state.state_dict(),
            metrics=self._figures.state_dict(),
            extra=extra,
        )

    def restore(self, checkpoint: CheckpointState, start: Start, where: str) -> None:
        """Go on from `checkpoint`, but for what `start` resets.

        Raises:
            CheckpointError: the checkpoint is of another model, vocabulary, criterion or optimizer.
        """
        fits = [self._restore_weights(self._model, checkpoint.model, where, start)]
        if self._ema is not None:
            average = {} if start.finetune else checkpoint.extra.get("ema", {})
            self._ema.take({name: average[name] for name in fits[0].matched if name in average})
        if start.finetune:
            return
        if checkpoint.criterion and any(True for _ in self._criterion.parameters()):
            fits.append(self._restore_weights(self._criterion, checkpoint.criterion, where, start))
        if checkpoint.task:
            try:
                self._task.check_dictionaries(checkpoint.task, where)
            except CheckpointError as error:
                if not start.allow_partial:
                    raise
                logger.warning("%s", error)
            self._task.load_state_dict(checkpoint.task)
        whole = all(fit.is_complete for fit in fits)
        if not whole and not start.reset_optimizer:
            logger.warning(
                "only a part of %s fits: the optimizer, the rate's schedule and the count of updates begin anew",
                where,
            )
        with_optimizer = whole and not start.reset_optimizer and self._restore_optimizer(checkpoint, start, where)
        self._restore_progress(checkpoint.progress, start, with_optimizer)
        if not start.reset_dataloader and checkpoint.iterator:
            self._data.load_state_dict(checkpoint.iterator)
        # An epoch that begins anew has figures of its own, unless the last one's are still to be reported.
        begins = not checkpoint.iterator.get("iterations_in_epoch") and not self._state.pending_end
        if not start.reset_meters and not begins:
            self._figures.load_state_dict(checkpoint.metrics)

    def _restore_progress(self, progress: dict[str, Any], start: Start, with_optimizer: bool) -> None:
        kept = ["train_time"]
        if with_optimizer:
            kept += ["num_updates", "skipped_updates", "skips_in_a_row"]
        if not start.reset_optimizer and not start.reset_meters:
            kept += ["best", "val_loss", "patience_best", "stale_validations"]
        if with_optimizer and not start.reset_dataloader:
            kept += ["pending_epoch", "pending_end"]
        self._state.load_state_dict({key: progress[key] for key in kept if key in progress})

    def _restore_optimizer(self, checkpoint: CheckpointState, start: Start, where: str) -> bool:
        """Whether the checkpoint had an optimizer's state."""
        if checkpoint.optimizer is None:
            logger.warning(
                "%s holds no optimizer state: the optimizer, the learning rate's schedule and the count of updates "
                "begin anew",
                where,
            )
            return False
        self._require_same_component("criterion", checkpoint, where)
        self._require_same_component("optimizer", checkpoint, where)
        self._load_optimizer(reorder_optimizer_state(checkpoint.optimizer, self._names, where), where)
        if not start.reset_lr_scheduler and checkpoint.lr_scheduler:
            self._lr_scheduler.load_state_dict(checkpoint.lr_scheduler)
        if self._precision.scaler is not None and "loss_scaler" in checkpoint.extra:
            self._precision.scaler.load_state_dict(checkpoint.extra["loss_scaler"])
        if self._ema is not None:
            self._ema.waiting = int(checkpoint.extra.get("ema_waiting", 0))
        return True

    def _load_optimizer(self, state: dict[str, Any], where: str) -> None:
        saved = sum(len(group["params"]) for group in state["param_groups"])
        if saved != len(self._names):
            raise CheckpointError(
                f"the optimizer state in {where} is for {saved} parameters, the model has {len(self._names)}; set "
                "checkpoint.reset_optimizer=true to begin with fresh state"
            )
        try:
            self._optimizer.load_state_dict(state)
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"the optimizer state in {where} does not fit: {error}; set checkpoint.reset_optimizer=true to begin "
                "with fresh state"
            ) from error
        self._require_shapes(where)
        for group in self._optimizer.param_groups:
            group.update(self._config.checkpoint.optimizer_overrides)

    def _require_shapes(self, where: str) -> None:
        params = [param for group in self._optimizer.param_groups for param in group["params"]]
        for name, param in zip(self._names, params, strict=True):
            for key, value in self._optimizer.state[param].items():
                if isinstance(value, torch.Tensor) and value.dim() == param.dim() and value.shape != param.shape:
                    raise CheckpointError(
                        f"the optimizer state {key!r} of {name} in {where} is {list(value.shape)}, the parameter is "
                        f"{list(param.shape)}; set checkpoint.reset_optimizer=true to begin with fresh state"
                    )

    def _require_same_component(self, kind: str, checkpoint: CheckpointState, where: str) -> None:
        section = checkpoint.config.get(kind)
        before = section.get("_name") if isinstance(section, dict) else None
        now = getattr(self._config, kind)._name
        if before is not None and before != now:
            raise CheckpointError(
                f"{where} was trained with {kind}={before}, now it is {kind}={now}; "
                "set checkpoint.reset_optimizer=true to go on with the weights alone"
            )

    def _optimizer_state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._optimizer.state_dict()
        groups = [
            group | {"param_names": [self._names[index] for index in group["params"]]}
            for group in state["param_groups"]
        ]
        return {"state": state["state"], "param_groups": groups}

    def _weights(self, module: nn.Module) -> dict[str, Any]:
        return plain_weights(
            {
                name: self._precision.master_of(tensor) if isinstance(tensor, nn.Parameter) else tensor
                for name, tensor in module.state_dict(keep_vars=True).items()
            }
        )

    def _restore_weights(self, module: nn.Module, weights: dict[str, Any], where: str, start: Start) -> Fit:
        fit = load_weights(module, weights, where, partial=start.allow_partial, hint=_HINT)
        logger.info("weights from %s: %s", where, fit.summary())
        if not fit.is_complete:
            lines = "\n".join(fit.problems(_MOST_TOLD))
            logger.warning("what did not fit is left out, and the rest of the model is as it was made:\n%s", lines)
        matched = {name: weights[name] for name in fit.matched}
        self._precision.take_weights(dict(module.named_parameters()), matched)
        return fit
