"""`seqkit-generate`: decode a split of a preprocessed data set and score it.

Composes, loads the models, goes through the batches, writes, prints the score, and gives the exit code.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seqkit.config.root import RootConfig
from seqkit.files import atomic_write
from seqkit_cli._main import run

if TYPE_CHECKING:
    from seqkit.generation.output import SentenceResult
    from seqkit.hub import Hub
    from seqkit.scoring.base import Scorer

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
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(generate, "seqkit-generate", _DESCRIPTION, argv, from_checkpoint=True, examples=_EXAMPLES)


def generate(config: RootConfig) -> int:
    """Decode as the config says."""
    import torch

    from seqkit.hub import Hub
    from seqkit.metrics.progress import make_progress

    hub = Hub.load(config)
    config = hub.config
    if not config.generation.no_seed_provided:
        torch.manual_seed(config.common.seed)
    scorer = _scorer(hub)
    subset = config.dataset.gen_subset
    dataset = hub.task.load_dataset(subset)
    batches = hub.batches(dataset)
    progress = make_progress(
        hub.decode_batches(batches, dataset),
        total=len(batches),
        log_format=config.common.log_format,
        log_interval=config.common.log_interval,
        log_file=config.common.log_file,
        prefix=f"generate {subset}",
        default_log_format="none" if config.common.no_progress_bar else "tqdm",
    )
    sentences, tokens, has_target, started = 0, 0, False, time.perf_counter()
    with progress, _output(config) as write:
        for results in progress:
            for result in results:
                sentences += 1
                tokens += len(result.hypotheses[0].tokens) if result.hypotheses else 0
                has_target |= result.target is not None
                _score(scorer, result, hub)
                write(result)
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


def _scorer(hub: Hub) -> Scorer:
    from seqkit.registry import registry
    from seqkit.scoring.base import build_scorer
    from seqkit.scoring.bleu import Bleu

    chosen = hub.config.scoring
    assert chosen is not None
    if hub.config.generation.sacrebleu and chosen._name == "bleu":
        chosen = registry("scoring").get("sacrebleu").config(_name="sacrebleu")
    scorer = build_scorer(chosen)
    if isinstance(scorer, Bleu):
        scorer.number_words_as(hub.target_dictionary.symbols)
    return scorer


def _score(scorer: Scorer, result: SentenceResult, hub: Hub) -> None:
    """Count the best hypothesis; one that is missing counts as an empty one."""
    if result.target is not None:
        scorer.add(hub.decode_pieces(result.target), result.hypotheses[0].text if result.hypotheses else "")


@contextmanager
def _output(config: RootConfig) -> Iterator[Callable[[SentenceResult | str], None]]:
    """A function that writes results and the closing line: to standard output, or whole or not at all to a file."""
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
    folder.mkdir(parents=True, exist_ok=True)
    name = f"generate-{config.dataset.gen_subset}.{'jsonl' if as_json else 'txt'}"
    with atomic_write(folder / name, "w", encoding="utf-8") as file:
        yield lambda item: write_to(file.write, item)
    logger.info("wrote %s", folder / name)


if __name__ == "__main__":
    sys.exit(main())
