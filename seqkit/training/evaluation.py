"""A trained model's figures on validation subsets, without any of training's parts.

Knows nothing of optimizers, nor of how a checkpoint was opened.
"""

from __future__ import annotations

from seqkit.checkpoint.state import CheckpointState
from seqkit.checkpoint.weights import load_weights
from seqkit.config.root import RootConfig
from seqkit.distributed.communication import Communication, SingleProcess
from seqkit.errors import ConfigError
from seqkit.tasks.base import build_task
from seqkit.training.build import build_validator, load_validation_sets
from seqkit.training.device import choose_device
from seqkit.training.precision import evaluation_precision
from seqkit.training.report import report_data
from seqkit.training.validation import Validator


def build_evaluator(
    config: RootConfig, checkpoint: CheckpointState, where: str, communication: Communication | None = None
) -> Validator:
    """A `Validator` of the model in `checkpoint` over `dataset.valid_subset`.

    Args:
        config: the root config, with the task, model and criterion of the checkpoint.
        where: the checkpoint's name, for messages.
        communication: the processes that share the work; by default this one alone.

    Raises:
        UserError: a section or the data is missing, or the weights do not fit the config.
    """
    if config.task is None or config.model is None or config.criterion is None:
        missing = [kind for kind in ("task", "model", "criterion") if getattr(config, kind) is None]
        raise ConfigError([f"neither {where} nor the command line says which {kind} to use" for kind in missing])
    device = choose_device(config.common, config.distributed_training.device_id)
    task = build_task(config.task)
    task.check_dictionaries(checkpoint.task, where)
    config.dataset.disable_validation = False
    subsets = load_validation_sets(config, task)
    for name, dataset in subsets.items():
        report_data(name, dataset)
    model = task.build_model(config.model)
    criterion = task.build_criterion(config.criterion)
    load_weights(model, checkpoint.model, where)
    if any(True for _ in criterion.parameters()):
        load_weights(criterion, checkpoint.criterion, where)
    model.to(device)
    criterion.to(device)
    precision = evaluation_precision(config.common, [model, criterion], device)
    communication = SingleProcess() if communication is None else communication
    return build_validator(config, task, model, criterion, precision, subsets, device, communication)
