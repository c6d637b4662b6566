"""`seqkit-validate`: a checkpoint's loss (and the task's own figures) on the validation set.

Composes, reads the checkpoint, validates, prints, and gives the exit code.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seqkit.config.root import RootConfig, merge_given, root_from_dict
from seqkit.errors import ConfigError
from seqkit_cli._main import run

if TYPE_CHECKING:
    from seqkit.distributed.communication import Communication
    from seqkit.training.validation import Validator

_DESCRIPTION = (
    "Measure a checkpoint on a validation set, every sentence counted. Task, model, criterion and data come from the "
    "checkpoint; what is given on the command line goes before them."
)
_EXAMPLES = (
    "seqkit-validate common_eval.path=checkpoints/checkpoint_best.pt",
    "seqkit-validate common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin dataset.valid_subset=test",
)
_FROM_CHECKPOINT = ("task", "model", "criterion", "dataset", "optimization", "bpe", "tokenizer")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(
        validate,
        "seqkit-validate",
        _DESCRIPTION,
        argv,
        from_checkpoint=True,
        examples=_EXAMPLES,
        log_stream=sys.stdout,
    )


def validate(config: RootConfig) -> int:
    """Validate as the config says, in as many processes as it and the environment say."""
    from seqkit_cli._processes import run_processes

    return run_processes(config, validate_here, "seqkit-validate")


def validate_here(config: RootConfig, communication: Communication) -> int:
    """Validate in this process, one of those connected by `communication`; returns the exit code."""
    from seqkit.metrics.progress import make_progress

    validator = load_validator(config, communication)
    validator.begin()
    for subset in validator.subsets:
        progress = make_progress(
            validator.batches(subset),
            log_format=config.common.log_format if communication.is_main else "none",
            log_interval=config.common.log_interval,
            log_file=config.common.log_file if communication.is_main else None,
            prefix=f"valid on '{subset}' subset",
            default_log_format="simple" if config.common.no_progress_bar else "tqdm",
        )
        with contextlib.closing(progress):
            figures = validator.total(progress).smoothed_values()
            progress.print(figures, tag=subset)
    return 0


def load_validator(config: RootConfig, communication: Communication | None = None) -> Validator:
    """Read the checkpoint `common_eval.path` and prepare its validation, by default in this process alone."""
    from seqkit.interop.open_checkpoint import open_parts
    from seqkit.training.evaluation import build_evaluator

    path = config.common_eval.path
    if path is None:
        raise ConfigError("common_eval.path is not given; give the checkpoint to validate")
    checkpoint = open_parts(
        path,
        suffix=config.checkpoint.checkpoint_suffix,
        shard_count=config.checkpoint.checkpoint_shard_count,
        trust_pickle=config.checkpoint.trust_pickle,
    )
    merged = with_checkpoint(config, checkpoint.config)
    merged.distributed_training = config.distributed_training
    return build_evaluator(merged, checkpoint, path, communication)


def with_checkpoint(config: RootConfig, saved: dict[str, object]) -> RootConfig:
    """The config to validate with: how data is read and scored is the checkpoint's, unless the command line says."""
    from seqkit.interop.load_model import keep_trained_length

    base = {section: saved[section] for section in _FROM_CHECKPOINT if saved.get(section) is not None}
    overrides = config.common_eval.model_overrides
    for section in ("task", "model"):
        values = base.get(section)
        if isinstance(values, dict):
            base[section] = values | {key: value for key, value in overrides.items() if key in values}
    merged = merge_given(base, config.given)
    keep_trained_length(merged, base, config.given)
    return root_from_dict(merged)


if __name__ == "__main__":
    sys.exit(main())
