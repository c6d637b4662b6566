"""`seqkit-train`: train a model.

Sets up, trains, and turns the end into an exit code: 0 done, 2 the user's mistake, 1 a failure, 128 plus a signal's
number (130 Ctrl-C, 138 SIGUSR1, 143 SIGTERM) when it stopped training after `checkpoint_last.pt` had been saved.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqkit.config.root import RootConfig
from seqkit.errors import UserError
from seqkit_cli._main import run

if TYPE_CHECKING:
    from seqkit.checkpoint.state import CheckpointState
    from seqkit.distributed.communication import Communication
    from seqkit_cli._processes import Work

logger = logging.getLogger("seqkit-train")

_REPEATS_WITHIN = 2.0
"""Seconds in which the same signal, come twice, counts once."""

_DESCRIPTION = (
    "Train a model. The same command goes on from checkpoint_last.pt in checkpoint.save_dir, where there is one. "
    "Ctrl-C finishes the update, saves and exits with 130 (SIGTERM: 143, SIGUSR1: 138); a second signal leaves at once."
)
_EXAMPLES = (
    "seqkit-train --config-name translation/multi30k_de_en task.data=data-bin",
    "seqkit-train task=translation task.data=data-bin model=transformer optimizer=adam 'optimization.lr=[1e-3]' "
    "lr_scheduler=inverse_sqrt lr_scheduler.warmup_updates=800 criterion=label_smoothed_cross_entropy "
    "dataset.max_tokens=4096",
    "seqkit-train --config-name translation/multi30k_de_en task.data=data-bin --dry-run",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(
        train,
        "seqkit-train",
        _DESCRIPTION,
        argv,
        required=("task", "model", "optimizer"),
        examples=_EXAMPLES,
        log_stream=sys.stdout,
        dry_run=dry_run,
    )


def train(config: RootConfig) -> int:
    """Train as the config says, in as many processes as it and the environment say."""
    return _run(config, train_here)


def dry_run(config: RootConfig) -> int:
    """Try that training, in as many processes, and write nothing."""
    return _run(config, dry_run_here)


def _run(config: RootConfig, work: Work) -> int:
    from seqkit.training.faults import TrainingFault
    from seqkit.training.interrupt import StopRequest
    from seqkit_cli._processes import interrupted_by, run_processes

    forgiving = config.common.suppress_crashes
    try:
        code = run_processes(config, work, "seqkit-train")
    except TrainingFault as error:
        print(f"seqkit-train: error: {error}", file=sys.stderr)
        return 0 if forgiving else error.exit_code
    except Exception as error:
        if not forgiving or isinstance(error, UserError):
            raise
        logger.exception("training failed (common.suppress_crashes=true: the exit code is 0)")
        return 0
    # Raised, not returned, so that a sweep ends too.
    number = interrupted_by(code)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number in StopRequest.SIGNALS:
        raise SystemExit(code)
    return 0 if forgiving and code != UserError.exit_code else code


def train_here(config: RootConfig, communication: Communication) -> int:
    """Train in this process, one of those connected by `communication`; returns the exit code."""
    from omegaconf import OmegaConf

    from seqkit.training.build import build_trainer
    from seqkit.training.interrupt import StopRequest
    from seqkit_cli._memory import return_freed_memory

    logger.info("config (--cfg job prints the whole of it):\n%s", OmegaConf.to_yaml(OmegaConf.create(config.given)))
    # The terminal sends Ctrl-C to all processes, and so does the one that started them.
    repeats_within = 0.0 if communication.world_size == 1 else _REPEATS_WITHIN
    with StopRequest(repeats_within, quiet=not communication.is_main) as stop:
        trainer = build_trainer(config, read=lambda path: _open(path, config), stop=stop, communication=communication)
        return_freed_memory()
        trainer.train()
    return stop.exit_code


def dry_run_here(config: RootConfig, communication: Communication) -> int:
    """Try the training in this process, one of those connected by `communication`; returns the exit code."""
    from seqkit.training.dry_run import dry_run

    dry_run(config, communication, read=lambda path: _open(path, config))
    return 0


def _open(path: Path, config: RootConfig) -> CheckpointState:
    from seqkit.interop.open_checkpoint import open_checkpoint

    return open_checkpoint(path, trust_pickle=config.checkpoint.trust_pickle)


if __name__ == "__main__":
    sys.exit(main())
