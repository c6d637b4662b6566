"""Where a training's figures go beside its own log: TensorBoard, Weights & Biases.

Chooses by the config; knows nothing of what the figures are.
"""

from __future__ import annotations

from pathlib import Path

from seqkit.config.root import RootConfig
from seqkit.config.sections import CommonConfig
from seqkit.config.validate import to_dict
from seqkit.errors import require_extra
from seqkit.metrics.progress import FigureLog
from seqkit.metrics.tensorboard import TensorBoardLog
from seqkit.metrics.wandb import WandbLog


def require_log_packages(common: CommonConfig) -> None:
    """Find out at the beginning, not when all data are loaded, whether what the logs need is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if common.wandb_project:
        require_extra("wandb", extra="wandb", purpose="common.wandb_project")


def figure_logs(config: RootConfig) -> list[FigureLog]:
    """Open what `common.tensorboard_logdir` and `common.wandb_project` ask for.

    A run of Weights & Biases is called as the folder of its checkpoints, and knows the whole config.

    Raises:
        MissingExtraError: a package is not installed.
    """
    logs: list[FigureLog] = []
    if config.common.tensorboard_logdir:
        logs.append(TensorBoardLog(config.common.tensorboard_logdir))
    if config.common.wandb_project:
        name = Path(config.checkpoint.save_dir).absolute().name
        logs.append(WandbLog(config.common.wandb_project, name, to_dict(config)))
    return logs
