"""`seqkit-generate`: decode a split of a preprocessed data set and score it.

Composes, has the split decoded, writes, prints the score, and gives the exit code.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seqkit.config.root import RootConfig
from seqkit.errors import ConfigError, UserError
from seqkit.files import atomic_write
from seqkit_cli._main import run

if TYPE_CHECKING:
    from seqkit.distributed.plan import Plan
    from seqkit.generation.output import SentenceResult
    from seqkit.scoring.base import Scorer
    from seqkit_cli._decoding import Split

logger = logging.getLogger("seqkit-generate")

_DESCRIPTION = (
    "Decode a preprocessed split with a trained model, or with several that make an ensemble, and score it. Prints "
    "fairseq's S/T/H/D/P lines, or JSON lines with common_eval.format=json. Task and model come from the checkpoint."
)
_EXAMPLES = (
    "seqkit-generate common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin "
    "common_eval.post_process=subword_nmt",
    "seqkit-generate common_eval.path=a.pt:b.pt task.data=data-bin dataset.gen_subset=valid generation.beam=10 "
    "generation.lenpen=0.6 common_eval.results_path=results",
    "seqkit-generate common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin common.cpu=true "
    "distributed_training.distributed_world_size=4",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(generate, "seqkit-generate", _DESCRIPTION, argv, from_checkpoint=True, examples=_EXAMPLES)


def generate(config: RootConfig) -> int:
    """Decode as the config says."""
    from seqkit.metrics.progress import make_progress
    from seqkit_cli._decoding import decode_split, decode_split_in_processes

    if config.generation.constraints is not None:
        raise ConfigError(
            f"generation.constraints={config.generation.constraints}: a split has no constraints; give them to "
            "seqkit-interactive, behind tabs on each line"
        )
    plan = _plan(config)
    subset = config.dataset.gen_subset
    with ExitStack() as stack:
        write = stack.enter_context(_output(config, plan))
        if plan.starts:
            split = decode_split_in_processes(config, plan)
        else:
            split = decode_split(config, (plan.first_rank, plan.world_size))
        stack.callback(split.stop)
        scorer = _scorer(split, config)
        by_pieces = _scores_pieces(scorer, config)
        progress = make_progress(
            split.batches,
            total=split.count,
            log_format=config.common.log_format,
            log_interval=config.common.log_interval,
            log_file=config.common.log_file,
            prefix=f"generate {subset}",
            default_log_format="none" if config.common.no_progress_bar else "tqdm",
        )
        sentences, tokens, has_target, started = 0, 0, False, time.perf_counter()
        stack.enter_context(progress)
        for batch in progress:
            for result in batch:
                sentences += 1
                tokens += len(result.hypotheses[0].tokens) if result.hypotheses else 0
                has_target |= result.target is not None
                _score(scorer, result, by_pieces)
                if result.error is not None:
                    logger.warning("sentence %d has no output: %s", result.id, result.error)
                write(result)
            if not config.common_eval.results_path:
                sys.stdout.flush()
            progress.log({"sentences": sentences})
        seconds = time.perf_counter() - started
        if has_target:
            write(f"Generate {subset} with beam={config.generation.beam}: {scorer.result_string()}")
    logger.info("hypothesis and token scores are base 2")
    logger.info(
        "translated %s sentences (%s tokens) in %.1f s (%.2f sentences/s, %.2f tokens/s)",
        *(f"{sentences:,}", f"{tokens:,}", seconds, sentences / seconds, tokens / seconds),
    )
    return 0


def _plan(config: RootConfig) -> Plan:
    import torch

    from seqkit.distributed.plan import plan_processes

    gpus = 0 if config.common.cpu or not torch.cuda.is_available() else torch.cuda.device_count()
    return plan_processes(config.distributed_training, gpus=gpus, environ=os.environ)


def _scorer(split: Split, config: RootConfig) -> Scorer:
    from seqkit.registry import registry
    from seqkit.scoring.base import build_scorer
    from seqkit.scoring.bleu import Bleu

    chosen = split.scoring
    assert chosen is not None
    if config.generation.sacrebleu and chosen._name == "bleu":
        chosen = registry("scoring").get("sacrebleu").config(_name="sacrebleu")
    scorer = build_scorer(chosen)
    if isinstance(scorer, Bleu):
        scorer.number_words_as(split.symbols)
    return scorer


def _scores_pieces(scorer: Scorer, config: RootConfig) -> bool:
    """Whether subwords are what is scored: by fairseq's own BLEU, unless they are undone in the output itself."""
    from seqkit.scoring.bleu import Bleu

    undone = config.common_eval.post_process is not None or config.generation.replace_unk is not None
    return isinstance(scorer, Bleu) and not undone


def _score(scorer: Scorer, result: SentenceResult, by_pieces: bool) -> None:
    """Count the best hypothesis; one that is missing counts as an empty one."""
    reference = result.target_pieces if by_pieces else result.target
    if reference is not None:
        best = result.hypotheses[0] if result.hypotheses else None
        scorer.add(reference, "" if best is None else best.pieces if by_pieces else best.text)


@contextmanager
def _output(config: RootConfig, plan: Plan) -> Iterator[Callable[[SentenceResult | str], None]]:
    """A function that writes results and the closing line: to standard output, or whole or not at all to a file.

    Raises:
        UserError: the file cannot be made.
    """
    from seqkit.generation.output import json_line, text_lines

    evaluation = config.common_eval
    as_json = evaluation.format == "json"

    def write_to(lines: Callable[[str], object], item: SentenceResult | str) -> None:
        if isinstance(item, str):
            if as_json or evaluation.results_path:
                logger.info(item)
            if not as_json:
                lines(item + "\n")
        elif not evaluation.quiet:
            lines((json_line(item) if as_json else "\n".join(text_lines(item))) + "\n")

    if not evaluation.results_path:
        yield lambda item: write_to(sys.stdout.write, item)
        return
    folder = Path(evaluation.results_path)
    # where other machines write their parts, each part has a name of its own
    here = max(plan.starts, 1)
    part = "" if here == plan.world_size else f".{plan.first_rank}-of-{plan.world_size}"
    place = folder / f"generate-{config.dataset.gen_subset}{part}.{'jsonl' if as_json else 'txt'}"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(atomic_write(place, "w", encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"common_eval.results_path={evaluation.results_path} cannot be written ({_reason(error)}); "
                "give a folder that can, or leave it out to write to standard output"
            ) from error
        yield lambda item: write_to(file.write, item)
    logger.info("wrote %s", place)


def _reason(error: OSError) -> str:
    return "it is a file, not a folder" if isinstance(error, FileExistsError) else error.strerror or str(error)


if __name__ == "__main__":
    sys.exit(main())
