"""`seqkit-train`: train a model.

Sets up, trains, and turns the end into an exit code: 0 done, 2 the user's mistake, 1 a failure, 130 or 143 when Ctrl-C
or SIGTERM stopped training after it had saved `checkpoint_last.pt` (128 plus the signal's number).
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

logger = logging.getLogger("seqkit-train")

_DESCRIPTION = (
    "Train a model. The same command goes on from checkpoint_last.pt in checkpoint.save_dir, where there is one. "
    "Ctrl-C finishes the update, saves and exits with 130 (SIGTERM: 143); a second Ctrl-C leaves at once."
)
_EXAMPLES = (
    "seqkit-train --config-name translation/multi30k_de_en task.data=data-bin",
    "seqkit-train task=translation task.data=data-bin model=transformer optimizer=adam 'optimization.lr=[1e-3]' "
    "lr_scheduler=inverse_sqrt lr_scheduler.warmup_updates=800 criterion=label_smoothed_cross_entropy "
    "dataset.max_tokens=4096",
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
    )


def train(config: RootConfig) -> int:
    """Train as the config says."""
    from omegaconf import OmegaConf
    from torch.autograd.profiler import emit_nvtx

    from seqkit.training.build import build_trainer
    from seqkit.training.interrupt import StopRequest
    from seqkit.training.step import DivergedError

    logger.info("config (--cfg job prints the whole of it):\n%s", OmegaConf.to_yaml(OmegaConf.create(config.given)))
    try:
        with StopRequest() as stop:
            trainer = build_trainer(config, read=lambda path: _open(path, config), stop=stop)
            with emit_nvtx(enabled=config.common.profile):  # type: ignore[no-untyped-call]
                trainer.train()
    except DivergedError as error:
        print(f"seqkit-train: error: {error}", file=sys.stderr)
        return 0 if config.common.suppress_crashes else error.exit_code
    except Exception as error:
        if not config.common.suppress_crashes or isinstance(error, UserError):
            raise
        logger.exception("training failed (common.suppress_crashes=true: the exit code is 0)")
        return 0
    # Raised, not returned, so that a sweep ends too.
    if stop.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if stop:
        raise SystemExit(stop.exit_code)
    return 0


def _open(path: Path, config: RootConfig) -> CheckpointState:
    from seqkit.interop.open_checkpoint import open_checkpoint

    return open_checkpoint(path, trust_pickle=config.checkpoint.trust_pickle)


if __name__ == "__main__":
    sys.exit(main())
