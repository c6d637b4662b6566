"""Which checkpoint training starts from, and what is taken from it.

Paths and options: knows nothing of what is in a file but whether it can be read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from seqkit.checkpoint.policy import suffixed
from seqkit.checkpoint.recovery import read_or_recover
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.sections import CheckpointConfig
from seqkit.errors import CheckpointError, ConfigError

DEFAULT_RESTORE_FILE = "checkpoint_last.pt"


@dataclass(frozen=True)
class Start:
    """Where training starts.

    Attributes:
        path: the checkpoint, None for a fresh start.
        is_implicit: nobody named the file: it is the last checkpoint of `save_dir`, where training goes on.
        reset_optimizer: the optimizer begins anew, and with it the count of updates.
        reset_lr_scheduler, reset_dataloader, reset_meters: so do these.
        finetune: only weights are taken.
        allow_partial: weights that do not fit are left out.
    """

    path: Path | None = None
    is_implicit: bool = False
    reset_optimizer: bool = False
    reset_lr_scheduler: bool = False
    reset_dataloader: bool = False
    reset_meters: bool = False
    finetune: bool = False
    allow_partial: bool = False


def find_start(config: CheckpointConfig) -> Start:
    """Choose the checkpoint to start from.

    `checkpoint_last.pt` in `save_dir` goes before `continue_once` and `finetune_from_model`, so that a job that is
    started again goes on. Another `restore_file` is a path; one that is not there is looked for in `save_dir`.

    Raises:
        ConfigError: options contradict each other.
        CheckpointError: a file that was asked for does not exist.
    """
    resets = ("reset_optimizer", "reset_lr_scheduler", "reset_dataloader", "reset_meters")
    given = [name for name in resets if getattr(config, name)]
    if config.finetune_from_model is not None:
        problems = [
            f"checkpoint.finetune_from_model takes weights only, so checkpoint.{name} says nothing; leave it out"
            for name in given
        ]
        if config.restore_file != DEFAULT_RESTORE_FILE:
            problems.append(
                f"checkpoint.restore_file={config.restore_file} and checkpoint.finetune_from_model="
                f"{config.finetune_from_model} both name a checkpoint to start from; give one of them"
            )
        if problems:
            raise ConfigError(problems)
    as_told = Start(
        reset_optimizer=config.reset_optimizer,
        reset_lr_scheduler=config.reset_lr_scheduler,
        reset_dataloader=config.reset_dataloader,
        reset_meters=config.reset_meters,
        allow_partial=config.allow_partial,
    )
    if config.restore_file != DEFAULT_RESTORE_FILE:
        return replace(as_told, path=_existing(str(suffixed(config.restore_file, config.checkpoint_suffix)), config))
    last = Path(config.save_dir) / suffixed(DEFAULT_RESTORE_FILE, config.checkpoint_suffix)
    if last.exists():
        return replace(as_told, path=last, is_implicit=True)
    if config.continue_once is not None:
        return replace(as_told, path=_existing(config.continue_once, config, "continue_once"))
    if config.finetune_from_model is not None:
        path = _existing(config.finetune_from_model, config, "finetune_from_model")
        return Start(
            path,
            reset_optimizer=True,
            reset_lr_scheduler=True,
            reset_dataloader=True,
            reset_meters=True,
            finetune=True,
            allow_partial=config.allow_partial,
        )
    return as_told


def read_start(
    start: Start, read: Callable[[Path], CheckpointState], config: CheckpointConfig
) -> tuple[Path, CheckpointState]:
    """Read the checkpoint that training starts from.

    Where `checkpoint_last.pt` is damaged and nobody named it, the newest intact checkpoint of its folder takes its
    place (see `checkpoint.recovery`); afterwards `start.path` is intact for other processes to read.

    Returns:
        the file that was read and what is in it.

    Raises:
        CheckpointError: the file cannot be read, and no other could take its place.
    """
    assert start.path is not None
    if start.is_implicit:
        return read_or_recover(start.path, read, config.checkpoint_suffix)
    return start.path, read(start.path)


def _existing(name: str, config: CheckpointConfig, option: str = "restore_file") -> Path | None:
    path = Path(name).expanduser()
    if path.exists():
        return path
    inside = Path(config.save_dir) / name
    if option == "restore_file" and not path.is_absolute() and inside.exists():
        return inside
    if option == "restore_file" and path.name == suffixed(DEFAULT_RESTORE_FILE, config.checkpoint_suffix).name:
        return None  # A job script that always names its own last checkpoint begins with none.
    places = f"{path}" if path.is_absolute() or option != "restore_file" else f"{path} or {inside}"
    raise CheckpointError(f"checkpoint.{option}={name} does not exist (looked for {places})")
