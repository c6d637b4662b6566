"""A `Trainer` from a config: builds every part, reports what was built, restores the checkpoint to start from.

The one place that knows all parts of training. Knows no file format: checkpoints are opened by what it is handed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from seqkit.checkpoint.io import read_checkpoint, remove_leftovers, require_writable
from seqkit.checkpoint.policy import CheckpointPolicy
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.root import RootConfig
from seqkit.criterions.base import Criterion
from seqkit.data.iterators import EpochBatchIterator
from seqkit.data.length_limits import smallest
from seqkit.data.sequence_dataset import SequenceDataset
from seqkit.distributed.communication import Communication, SingleProcess
from seqkit.distributed.data_parallel import (
    build_data_parallel,
    check_data_parallel,
    is_fully_sharded,
    take_weights_of_main,
    without_effect_alone,
)
from seqkit.errors import ConfigError, DataError
from seqkit.models.base import Model
from seqkit.optim.base import build_optimizer, parameter_names, works_on_cpu
from seqkit.optim.lr_scheduler.base import build_lr_scheduler
from seqkit.tasks.base import Task, build_task
from seqkit.training.compiling import compile_layers
from seqkit.training.device import choose_device
from seqkit.training.ema import ExponentialMovingAverage
from seqkit.training.figure_logs import figure_logs, require_log_packages
from seqkit.training.figures import TrainingFigures
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer
from seqkit.training.precision import Precision, build_precision
from seqkit.training.profiling import step_profiler
from seqkit.training.report import report_batches, report_data, report_model
from seqkit.training.saving import CheckpointSaver
from seqkit.training.snapshot import Snapshot
from seqkit.training.start import Start, find_start, read_start
from seqkit.training.step import UpdateStep
from seqkit.training.train_data import TrainData
from seqkit.training.train_loss import TrainLoss
from seqkit.training.train_state import TrainState
from seqkit.training.trainer import Trainer, TrainerParts
from seqkit.training.triggers import Triggers
from seqkit.training.valid_subsets import refuse_unused_valid_subsets
from seqkit.training.validation import Validator

logger = logging.getLogger(__name__)

ReadCheckpoint = Callable[[Path], CheckpointState]


def build_trainer(
    config: RootConfig,
    *,
    read: ReadCheckpoint = read_checkpoint,
    observers: Sequence[Observer] = (),
    stop: StopRequest | None = None,
    communication: Communication | None = None,
) -> Trainer:
    """Make everything that the config describes, ready to `train()`.

    Args:
        config: the root config; `task`, `model`, `criterion`, `optimizer` and `lr_scheduler` are chosen.
        read: opens a checkpoint file (commands hand in the door that knows other systems' formats too).
        observers: are told of updates, log lines and saves.
        stop: looked at after every update.
        communication: the processes that train together; by default this one alone.

    Raises:
        UserError: options that cannot be used or are missing, data that is missing, a folder that cannot be
            written, a checkpoint that does not fit.
    """
    communication = SingleProcess() if communication is None else communication
    check_supported(config, communication)
    require_log_packages(config.common)
    start = share_start(config, communication)
    if not config.checkpoint.no_save and communication.is_main:
        require_writable(config.checkpoint.save_dir)
        for name in remove_leftovers(config.checkpoint.save_dir):
            logger.info("deleted %s, which a killed run had left half-written", name)
    device = choose_device(config.common, config.distributed_training.device_id)
    seed_all(config.common.seed)

    assert config.task is not None
    assert config.model is not None
    assert config.criterion is not None
    task = build_task(config.task)
    refuse_unused_valid_subsets(config.dataset, task.data_folders())
    subsets = load_validation_sets(config, task)
    model = task.build_model(config.model)
    criterion = task.build_criterion(config.criterion)
    report_model(config, model, criterion)
    for name, dataset in subsets.items():
        report_data(name, dataset)
    model.to(device)
    criterion.to(device)
    if compiled := compile_layers(model, config.common.compile, device):
        logger.info(
            "common.compile=%s: %d layers are compiled when they are first used; the first updates take much longer",
            config.common.compile,
            compiled,
        )
    loss = TrainLoss(task, model, criterion)
    take_weights_of_main(loss, communication)
    spread = is_fully_sharded(config.distributed_training, communication)
    if spread:
        from seqkit.training import sharding  # torch's part for this is slow to import

        fully_sharded = sharding.shard(config, loss, device, communication)

    named = trained_parameters(model, criterion)
    assert config.optimizer is not None
    precision = build_precision(
        config.common,
        [model, criterion],
        [param for _, param in named],
        device,
        update_freq=config.optimization.update_freq,
        world_size=communication.world_size,
        offload=works_on_cpu(config.optimizer),
        sharded=sharding.ShardedPrecision if spread else None,
    )
    assert config.lr_scheduler is not None
    names = [name for name, _ in named]
    optimizer = build_optimizer(config.optimizer, list(zip(names, precision.params, strict=True)))
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
        parameter_names(optimizer) or names,
    )
    if start.path is not None:
        logger.info("starting from %s%s", start.path, " (its weights only)" if start.finetune else "")
        path, checkpoint = share_checkpoint(
            config, communication, lambda: read_start(start, read, config.checkpoint), read
        )
        if spread:
            checkpoint = sharding.spread_state(checkpoint, model, criterion, named)
        snapshot.restore(checkpoint, start, str(path))
        logger.info("going on in epoch %d after %d updates", data.next_epoch, state.num_updates)
        lr_scheduler.step_update(state.num_updates)
    if ema is not None and config.ema.ema_seed_model is not None and state.num_updates == 0:
        seed_model = Path(config.ema.ema_seed_model)
        _, checkpoint = share_checkpoint(config, communication, lambda: (seed_model, read(seed_model)), read)
        if spread:
            checkpoint = sharding.spread_state(checkpoint, model, criterion, named)
        ema.seed(checkpoint.model, str(seed_model))
    lr_scheduler.step(data.epoch)
    lr_scheduler.step_update(state.num_updates)
    report_batches(config, data.iterator, device, precision, communication)

    own_policy = policy if communication.is_main else CheckpointPolicy(replace(config.checkpoint, no_save=True))
    profiles = config.common.profile and communication.is_main
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
            on_nonfinite=config.optimization.on_nonfinite,
            on_oom=config.optimization.on_oom,
            parallel=(
                fully_sharded if spread else build_data_parallel(loss, communication, config.distributed_training)
            ),
            spare_batch=lambda: data.iterator.spare_batch,
        ),
        validator=build_validator(
            config,
            task,
            model,
            criterion,
            precision,
            subsets,
            device,
            communication,
            whole_weights=fully_sharded.whole_weights if spread else contextlib.nullcontext,
        ),
        data=data,
        triggers=Triggers(config, policy),
        saver=(
            sharding.ShardedSaver(
                own_policy,
                config.checkpoint.save_dir,
                communication,
                asynchronous=config.checkpoint.write_checkpoints_asynchronously,
                by_parts=config.distributed_training.use_sharded_state,
            )
            if spread
            else CheckpointSaver(
                own_policy,
                config.checkpoint.save_dir,
                asynchronous=config.checkpoint.write_checkpoints_asynchronously,
                writing=communication.saving,
            )
        ),
        state=state,
        figures=figures,
        snapshot=snapshot,
        ema=ema,
        figure_logs=figure_logs(config) if communication.is_main else (),
        observers=(*observers, *([step_profiler(config, device)] if profiles else [])),
        stop=StopRequest() if stop is None else stop,
        communication=communication,
    )
    return Trainer(config, parts)


def share_start(config: RootConfig, communication: Communication) -> Start:
    """What `find_start` says in the main process: others may not see its disk, or see it later."""
    if communication.is_main:
        start = find_start(config.checkpoint)
        communication.from_main({**vars(start), "path": None if start.path is None else str(start.path)})
        return start
    found = communication.from_main(None)
    return Start(**{**found, "path": None if found["path"] is None else Path(found["path"])})


def share_checkpoint(
    config: RootConfig,
    communication: Communication,
    find: Callable[[], tuple[Path, CheckpointState]],
    read: ReadCheckpoint,
) -> tuple[Path, CheckpointState]:
    """A checkpoint for all processes: the main one reads it and sends its content, or names the file to the others.

    Args:
        find: finds and reads it, in the main process.
        read: reads the file found.
    """
    everywhere = config.checkpoint.load_checkpoint_on_all_dp_ranks
    if communication.is_main:
        path, checkpoint = find()
        communication.from_main((str(path), None if everywhere else vars(checkpoint)))
        return path, checkpoint
    name, content = communication.from_main(None)
    return Path(name), read(Path(name)) if content is None else CheckpointState(**content)


def check_supported(config: RootConfig, communication: Communication) -> None:
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
    world_size = distributed.distributed_world_size
    if world_size is not None and world_size > communication.world_size:
        problems.append(
            f"distributed_training.distributed_world_size={world_size}, but there is only {communication.world_size} "
            "process; seqkit-train starts them, and from Python build_trainer is given their communication"
        )
    if communication.world_size > 1:
        problems += check_data_parallel(distributed)
    else:
        for line in without_effect_alone(distributed):
            logger.warning("%s", line)
    refused = {
        "common.quantization_config_path": (config.common.quantization_config_path, "quantisation during training"),
    }
    problems += [
        f"{option}={value}: {what} is not in this version; leave it out"
        for option, (value, what) in refused.items()
        if value
    ]
    if config.checkpoint.checkpoint_shard_count > 1:
        problems.append(
            f"checkpoint.checkpoint_shard_count={config.checkpoint.checkpoint_shard_count}: training starts from a "
            "checkpoint that is one file; leave it at 1 (the commands that use a model do read several)"
        )
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
    config: RootConfig,
    task: Task,
    dataset: SequenceDataset,
    model: Model,
    device: torch.device,
    communication: Communication,
) -> EpochBatchIterator:
    """This process's batches of a validation set: together every sentence, in an order that does not change."""
    settings = config.dataset
    return task.batch_iterator(
        dataset,
        max_tokens=settings.max_tokens_valid,
        max_sentences=settings.batch_size_valid,
        max_positions=smallest(task.max_positions(), model.max_positions()),
        ignore_invalid_inputs=settings.skip_invalid_size_inputs_valid_test,
        required_batch_size_multiple=settings.required_batch_size_multiple,
        seed=config.common.seed,
        num_shards=communication.world_size,
        shard_id=communication.rank,
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
    communication: Communication,
    whole_weights: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> Validator:
    """A validator over the given datasets.

    Raises:
        DataError: a sentence is too long; not when it is met, which may be hours later.
    """
    iterators = {
        name: valid_batches(config, task, dataset, model, device, communication) for name, dataset in subsets.items()
    }
    for name, iterator in iterators.items():
        try:
            _ = iterator.frozen_batches
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    return Validator(
        task,
        model,
        criterion,
        precision,
        iterators,
        device=device,
        communication=communication,
        fixed_seed=config.dataset.fixed_validation_seed,
        max_steps=config.dataset.max_valid_steps,
        whole_weights=whole_weights,
    )
