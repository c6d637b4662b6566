"""A `Trainer` from a config: builds every part, reports what was built, restores the checkpoint to start from.

The one place that knows all parts of training. Knows no file format: checkpoints are opened by what it is handed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from seqkit.checkpoint.io import read_checkpoint, require_writable
from seqkit.checkpoint.policy import CheckpointPolicy
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.root import RootConfig
from seqkit.criterions.base import Criterion
from seqkit.data.iterators import EpochBatchIterator
from seqkit.data.sequence_dataset import SequenceDataset
from seqkit.distributed.communication import Communication, SingleProcess
from seqkit.errors import ConfigError, DataError
from seqkit.metrics.tensorboard import TensorBoardLog
from seqkit.models.base import Model
from seqkit.optim.base import build_optimizer
from seqkit.optim.lr_scheduler.base import build_lr_scheduler
from seqkit.tasks.base import Task, build_task
from seqkit.training.device import choose_device
from seqkit.training.ema import ExponentialMovingAverage
from seqkit.training.figures import TrainingFigures
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer
from seqkit.training.precision import Precision, build_precision
from seqkit.training.saving import CheckpointSaver
from seqkit.training.snapshot import Snapshot
from seqkit.training.start import find_start
from seqkit.training.step import UpdateStep
from seqkit.training.train_data import TrainData
from seqkit.training.train_state import TrainState
from seqkit.training.trainer import Trainer, TrainerParts
from seqkit.training.triggers import Triggers
from seqkit.training.validation import Validator

logger = logging.getLogger(__name__)

ReadCheckpoint = Callable[[Path], CheckpointState]


def build_trainer(
    config: RootConfig,
    *,
    read: ReadCheckpoint = read_checkpoint,
    observers: Sequence[Observer] = (),
    stop: StopRequest | None = None,
) -> Trainer:
    """Make everything that the config describes, ready to `train()`.

    Args:
        config: the root config; `task`, `model`, `criterion`, `optimizer` and `lr_scheduler` are chosen.
        read: opens a checkpoint file (commands hand in the door that knows other systems' formats too).
        observers: are told of updates, log lines and saves.
        stop: looked at after every update.

    Raises:
        UserError: options that cannot be used or are missing, data that is missing, a folder that cannot be
            written, a checkpoint that does not fit.
    """
    check_supported(config)
    start = find_start(config.checkpoint)
    if not config.checkpoint.no_save:
        require_writable(config.checkpoint.save_dir)
    communication = SingleProcess()
    device = choose_device(config.common, config.distributed_training.device_id)
    seed_all(config.common.seed)

    assert config.task is not None
    assert config.model is not None
    assert config.criterion is not None
    task = build_task(config.task)
    subsets = load_validation_sets(config, task)
    model = task.build_model(config.model)
    criterion = task.build_criterion(config.criterion)
    report_model(config, model, criterion)
    for name, dataset in subsets.items():
        report_data(name, dataset)
    model.to(device)
    criterion.to(device)

    named = trained_parameters(model, criterion)
    precision = build_precision(
        config.common,
        [model, criterion],
        [param for _, param in named],
        device,
        update_freq=config.optimization.update_freq,
        world_size=communication.world_size,
    )
    assert config.optimizer is not None
    assert config.lr_scheduler is not None
    optimizer = build_optimizer(config.optimizer, precision.params)
    lr_scheduler = build_lr_scheduler(config.lr_scheduler, optimizer)
    lr_scheduler.step_update(0)
    data = TrainData(
        lambda epoch: train_batches(config, task, model, device, communication, epoch),
        reload=task.has_sharded_data(config.dataset.train_subset),
    )
    policy = CheckpointPolicy(config.checkpoint)
    state = TrainState()
    figures = TrainingFigures(task, criterion, precision, clip_norm=config.optimization.clip_norm, device=device)
    ema = ExponentialMovingAverage(model, config.ema) if config.ema.store_ema else None
    snapshot = Snapshot(
        config,
        task,
        model,
        criterion,
        optimizer,
        lr_scheduler,
        precision,
        data,
        state,
        figures,
        ema,
        [name for name, _ in named],
    )
    if start.path is not None:
        logger.info("starting from %s%s", start.path, " (its weights only)" if start.finetune else "")
        snapshot.restore(read(start.path), start, str(start.path))
        logger.info("going on in epoch %d after %d updates", data.next_epoch, state.num_updates)
        lr_scheduler.step_update(state.num_updates)
    if ema is not None and config.ema.ema_seed_model is not None and state.num_updates == 0:
        ema.take(read(Path(config.ema.ema_seed_model)).model)
    lr_scheduler.step(data.epoch)
    lr_scheduler.step_update(state.num_updates)
    report_batches(config, data.iterator, device, precision)

    folder = config.common.tensorboard_logdir
    parts = TrainerParts(
        task=task,
        model=model,
        optimizer=optimizer,
        lr_scheduler=lr_scheduler,
        step=UpdateStep(
            task,
            model,
            criterion,
            optimizer,
            precision,
            communication,
            device=device,
            clip_norm=config.optimization.clip_norm,
            seed=config.common.seed,
        ),
        validator=build_validator(config, task, model, criterion, precision, subsets, device),
        data=data,
        triggers=Triggers(config, policy),
        saver=CheckpointSaver(policy, config.checkpoint.save_dir),
        state=state,
        figures=figures,
        snapshot=snapshot,
        ema=ema,
        tensorboard=TensorBoardLog(folder) if folder else None,
        observers=tuple(observers),
        stop=StopRequest() if stop is None else stop,
    )
    return Trainer(config, parts)


def check_supported(config: RootConfig) -> None:
    """Refuse what training needs and was not given, and what this version does not do.

    Raises:
        ConfigError: all of it in one message.
    """
    problems = [
        f"no {kind} is chosen; give {kind}=<name> (seqkit-train --help lists the names)"
        for kind in ("task", "model", "criterion", "optimizer", "lr_scheduler")
        if getattr(config, kind) is None
    ]
    if config.dataset.max_tokens is None and config.dataset.batch_size is None:
        problems.append(
            "the size of batches is not given; set dataset.max_tokens (tokens) or dataset.batch_size (sentences)"
        )
    if not config.optimization.update_freq or min(config.optimization.update_freq) < 1:
        problems.append(
            f"optimization.update_freq={config.optimization.update_freq} must be at least one number above 0"
        )
    distributed = config.distributed_training
    if distributed.distributed_world_size > 1:
        problems.append(
            f"distributed_training.distributed_world_size={distributed.distributed_world_size}: training on several "
            "processes is not in this version; leave it at 1 (optimization.update_freq makes larger updates)"
        )
    refused = {
        "common.quantization_config_path": (config.common.quantization_config_path, "quantisation during training"),
        "common.wandb_project": (config.common.wandb_project, "logging to Weights & Biases"),
        "checkpoint.write_checkpoints_asynchronously": (
            config.checkpoint.write_checkpoints_asynchronously,
            "writing checkpoints in the background",
        ),
        "distributed_training.use_sharded_state": (distributed.use_sharded_state, "sharded state"),
        "distributed_training.cpu_offload": (distributed.cpu_offload, "offloading to CPU memory"),
    }
    problems += [
        f"{option}={value}: {what} is not in this version; leave it out"
        for option, (value, what) in refused.items()
        if value
    ]
    if config.checkpoint.checkpoint_shard_count > 1:
        problems.append("checkpoint.checkpoint_shard_count: checkpoints are one file in this version; leave it at 1")
    if distributed.zero_sharding != "none":
        problems.append("distributed_training.zero_sharding: there is one process in this version; leave it at none")
    if problems:
        raise ConfigError(problems)


def seed_all(seed: int) -> None:
    """Seed numpy's and torch's global generators (the model's first weights come from torch's)."""
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def load_validation_sets(config: RootConfig, task: Task) -> dict[str, SequenceDataset]:
    """The datasets to validate on, by subset name."""
    if config.dataset.disable_validation:
        return {}
    if config.dataset.combine_valid_subsets:
        return {"valid": task.load_dataset("valid", epoch=1, combine=True)}
    names = [name.strip() for name in config.dataset.valid_subset.split(",") if name.strip()]
    return {name: task.load_dataset(name, epoch=1) for name in names}


def trained_parameters(model: nn.Module, criterion: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that get gradients, with their names; the criterion's begin with `criterion.`."""
    both = [*model.named_parameters(), *criterion.named_parameters(prefix="criterion")]
    named = [(name, param) for name, param in both if param.requires_grad]
    if not named:
        raise ConfigError("the model has no parameters to train")
    return named


def train_batches(
    config: RootConfig,
    task: Task,
    model: Model,
    device: torch.device,
    communication: Communication,
    epoch: int,
) -> EpochBatchIterator:
    """Load the training split as it is in `epoch`, and make its batches."""
    settings, optimization = config.dataset, config.optimization
    dataset = task.load_dataset(settings.train_subset, epoch=epoch, combine=True)
    report_data(settings.train_subset, dataset)
    return task.batch_iterator(
        dataset,
        max_tokens=settings.max_tokens,
        max_sentences=settings.batch_size,
        max_positions=smallest(task.max_positions(), model.max_positions(), settings.max_tokens),
        ignore_invalid_inputs=True,
        required_batch_size_multiple=settings.required_batch_size_multiple,
        drop_ragged_batch=settings.drop_ragged_batch,
        seed=config.common.seed,
        num_shards=communication.world_size,
        shard_id=communication.rank,
        num_workers=settings.num_workers,
        epoch=epoch,
        buffer_size=settings.data_buffer_size,
        grouped_shuffling=settings.grouped_shuffling,
        update_epoch_batch_itr=settings.update_epoch_batch_itr or task.has_sharded_data(settings.train_subset),
        update_ordered_indices_seed=settings.update_ordered_indices_seed,
        skip_remainder_batch=bool(optimization.skip_remainder_batch),
        pin_memory=device.type == "cuda",
    )


def valid_batches(
    config: RootConfig, task: Task, dataset: SequenceDataset, model: Model, device: torch.device
) -> EpochBatchIterator:
    """The batches of a validation set: every sentence, in an order that does not change."""
    settings = config.dataset
    return task.batch_iterator(
        dataset,
        max_tokens=settings.max_tokens_valid,
        max_sentences=settings.batch_size_valid,
        max_positions=smallest(task.max_positions(), model.max_positions()),
        ignore_invalid_inputs=settings.skip_invalid_size_inputs_valid_test,
        required_batch_size_multiple=settings.required_batch_size_multiple,
        seed=config.common.seed,
        num_workers=settings.num_workers,
        buffer_size=settings.data_buffer_size,
        pin_memory=device.type == "cuda",
    )


def build_validator(
    config: RootConfig,
    task: Task,
    model: Model,
    criterion: Criterion,
    precision: Precision,
    subsets: dict[str, SequenceDataset],
    device: torch.device,
) -> Validator:
    """A validator over the given datasets."""
    return Validator(
        task,
        model,
        criterion,
        precision,
        {name: valid_batches(config, task, dataset, model, device) for name, dataset in subsets.items()},
        device=device,
        fixed_seed=config.dataset.fixed_validation_seed,
        max_steps=config.dataset.max_valid_steps,
    )


def smallest(*limits: Any) -> Any:
    """The tightest of several limits on length: numbers, pairs (one per side), or None for no limit."""
    given = [limit for limit in limits if limit is not None]
    sides = max((len(limit) for limit in given if isinstance(limit, Sequence)), default=0)
    if sides == 0:
        return min(given, default=None)
    columns = [list(limit) if isinstance(limit, Sequence) else [limit] * sides for limit in given]
    if any(len(column) != sides for column in columns):
        raise DataError(f"limits on length have different numbers of sides: {given}")
    return tuple(
        min((limit for limit in side if limit is not None), default=None) for side in zip(*columns, strict=True)
    )


def report_model(config: RootConfig, model: Model, criterion: Criterion) -> None:
    """Log what is trained."""
    everything = [*model.parameters(), *criterion.parameters()]
    total = sum(param.numel() for param in everything)
    trained = sum(param.numel() for param in everything if param.requires_grad)
    logger.info("%s", model)
    names = ", ".join(f"{kind} {getattr(config, kind)._name}" for kind in ("task", "model", "criterion"))
    logger.info("%s; %s parameters, %s of them trained", names, f"{total:,}", f"{trained:,}")


def report_data(subset: str, dataset: SequenceDataset) -> None:
    """Log the size of a split."""
    logger.info("%s: %s sentences", subset, f"{len(dataset):,}")


def report_batches(config: RootConfig, epochs: EpochBatchIterator, device: torch.device, precision: Precision) -> None:
    """Log how training goes over its data, and on what."""
    where = f"GPU {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"
    used = sum(len(batch) for batch in epochs.frozen_batches)
    logger.info(
        "%s in %s; an epoch is %s batches with %s of %s sentences, %s left out as too long "
        "(max_tokens=%s, batch_size=%s, update_freq=%s)",
        where,
        precision.name,
        f"{len(epochs):,}",
        f"{used:,}",
        f"{len(epochs.dataset):,}",
        f"{len(epochs.ignored):,}",
        config.dataset.max_tokens,
        config.dataset.batch_size,
        config.optimization.update_freq,
    )
