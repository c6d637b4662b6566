"""`seqkit-eval-lm`: loss, perplexity and bits per byte of a text under a language model.

Composes, has the text scored, writes, and gives the exit code.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqkit.config.root import RootConfig
from seqkit.errors import ConfigError, UserError
from seqkit.files import atomic_write
from seqkit_cli._main import run

if TYPE_CHECKING:
    from seqkit.data.sequence_dataset import SequenceDataset
    from seqkit.distributed.communication import Communication
    from seqkit.generation.text_evaluation import ScoredBlock, TextEvaluator, TextFigures
    from seqkit.hub import Hub

logger = logging.getLogger("seqkit-eval-lm")

_DESCRIPTION = (
    "Measure how well a language model, or an ensemble of several, predicts a preprocessed text. Prints fairseq's loss "
    "(bits per token) and perplexity, bits per byte where the text is known in full, and every word's log-probability "
    "if asked; JSON lines with common_eval.format=json. Task and model come from the checkpoint."
)
_EXAMPLES = (
    "seqkit-eval-lm common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin dataset.gen_subset=test",
    "seqkit-eval-lm common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin task.tokens_per_sample=512 "
    "eval_lm.context_window=400",
    "seqkit-eval-lm common_eval.path=a.pt:b.pt task.data=data-bin common_eval.post_process=subword_nmt "
    "eval_lm.output_word_probs=true common_eval.format=json common_eval.results_path=results",
)
_DEFAULT_MAX_TOKENS = 36000

Write = Callable[[str], object]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(eval_lm, "seqkit-eval-lm", _DESCRIPTION, argv, from_checkpoint=True, examples=_EXAMPLES)


def eval_lm(config: RootConfig) -> int:
    """Evaluate as the config says, in as many processes as it and the environment say."""
    from seqkit_cli._processes import run_processes

    return run_processes(config, eval_lm_here, "seqkit-eval-lm", log_to_stderr=True)


def eval_lm_here(config: RootConfig, communication: Communication) -> int:
    """Evaluate in this process, one of those connected by `communication`; returns the exit code."""
    from seqkit.metrics.progress import make_progress
    from seqkit.training.device import move_to_device

    hub = _load(config)
    dataset = _windows(hub, hub.config.eval_lm.context_window)
    evaluator = _evaluator(hub)
    batches = _batches(hub, dataset, communication)
    with ExitStack() as stack:
        write = stack.enter_context(_output(config, communication.is_main))
        progress = make_progress(
            batches,
            total=len(batches),
            log_format=config.common.log_format if communication.is_main else "none",
            log_interval=config.common.log_interval,
            log_file=config.common.log_file if communication.is_main else None,
            prefix=f"eval-lm on '{config.dataset.gen_subset}' subset",
            default_log_format="none" if config.common.no_progress_bar else "tqdm",
        )
        stack.enter_context(progress)
        started = time.perf_counter()
        elsewhere: list[str] = []
        for sample in islice(progress, config.dataset.max_valid_steps):
            if not sample:
                continue
            communication.step("evaluating")
            blocks = evaluator.add(move_to_device(sample, hub.device))
            lines = [_block_line(block, config) for block in blocks]
            if communication.is_main:
                _write_all(write, lines)
            else:
                elsewhere += lines
            progress.log({"loss": round(evaluator.figures.loss, 3), "tokens": evaluator.figures.tokens})
        for lines_of_one in communication.gather_texts("\n".join(elsewhere)):
            _write_all(write, lines_of_one.split("\n") if lines_of_one else [])
        figures = _total(evaluator.figures, communication)
        seconds = time.perf_counter() - started
        if communication.is_main:
            _report(figures, seconds)
            _write_closing(write, figures, seconds, config)
    return 0


def _load(config: RootConfig) -> Hub:
    from seqkit.hub import Hub
    from seqkit.models.base import LanguageModel
    from seqkit.tasks.language_modeling import LanguageModeling

    # The models run on the GPU of this process, which is what its own config says.
    own = {"device_id": config.distributed_training.device_id}
    config.given["distributed_training"] = {**config.given.get("distributed_training", {}), **own}
    hub = Hub.load(config)
    models = [type(model).__name__ for model in hub.models if not isinstance(model, LanguageModel)]
    if models or not isinstance(hub.task, LanguageModeling):
        what = f"a model of type {models[0]}" if models else f"task={hub.task.config._name}"
        raise ConfigError(
            f"common_eval.path={config.common_eval.path} is {what}, and seqkit-eval-lm measures language models "
            "(task=language_modeling); seqkit-validate measures any model by its own loss"
        )
    return hub


def _windows(hub: Hub, context_window: int) -> SequenceDataset:
    """The blocks of the text, none longer than the models take, each behind its context."""
    from seqkit.data.fitting_blocks_dataset import FittingBlocksDataset
    from seqkit.data.lm_context_window_dataset import LMContextWindowDataset
    from seqkit.data.monolingual_dataset import MonolingualDataset

    config = hub.config
    task = hub.task.config
    total = task.tokens_per_sample
    if context_window >= total:
        raise ConfigError(
            f"eval_lm.context_window={context_window} leaves no token of task.tokens_per_sample={total} to evaluate; "
            "the context counts among these, so it must be smaller"
        )
    longest = hub.max_positions
    if total > longest and task.sample_break_mode != "eos":
        raise ConfigError(
            f"task.tokens_per_sample={total} is more than the {longest} positions of the model"
            f"{'s' if len(hub.models) > 1 else ''}; lower it"
        )
    if context_window:
        hub.task.config = dataclasses.replace(task, tokens_per_sample=total - context_window)
        hub.task.config._name = task._name
    blocks = hub.task.load_dataset(config.dataset.gen_subset)
    assert isinstance(blocks, MonolingualDataset)
    limit = longest if config.dataset.max_tokens is None else min(longest, config.dataset.max_tokens)
    leave_out = config.dataset.skip_invalid_size_inputs_valid_test
    fitting = FittingBlocksDataset(blocks, limit, leave_out=leave_out)
    logger.info("%s blocks of text", f"{len(blocks):,}")
    if fitting.too_long:
        logger.warning(
            "%s of %s blocks (%s tokens) are longer than %s tokens, the most that the model and dataset.max_tokens "
            "take; they are %s",
            *(f"{number:,}" for number in (fitting.too_long, len(blocks), fitting.tokens_too_long, limit)),
            "left out"
            if leave_out
            else "evaluated in pieces (dataset.skip_invalid_size_inputs_valid_test=true leaves them out)",
        )
    if not context_window:
        return fitting
    return LMContextWindowDataset(fitting, total - context_window, context_window, blocks.src_dict.pad())


def _evaluator(hub: Hub) -> TextEvaluator:
    from seqkit.generation.ensemble import Ensemble
    from seqkit.generation.text_evaluation import TextEvaluator
    from seqkit.generation.word_spelling import WordSpelling

    config = hub.config
    dictionary = hub.task.target_dictionary
    spelling = WordSpelling(
        dictionary,
        config.common_eval.post_process,
        bpe_name=None if config.bpe is None else config.bpe._name,
        bpe=hub.bpe,
    )
    return TextEvaluator(
        Ensemble(hub.models),
        dictionary,
        spelling,
        softmax_batch=config.eval_lm.softmax_batch,
        skip_first=hub.task.config.add_bos_token,
        word_probs=config.eval_lm.output_word_probs and not config.common_eval.quiet,
        word_stats=config.eval_lm.output_word_stats and not config.common_eval.quiet,
    )


def _batches(hub: Hub, dataset: SequenceDataset, communication: Communication) -> Any:
    """This process's batches of this shard."""
    settings = hub.config.dataset
    max_tokens = settings.max_tokens
    if max_tokens is None and settings.batch_size is None:
        max_tokens = _DEFAULT_MAX_TOKENS
    iterator = hub.task.batch_iterator(
        dataset,
        max_tokens=max_tokens,
        max_sentences=settings.batch_size,
        seed=hub.config.common.seed,
        num_shards=settings.num_shards * communication.world_size,
        shard_id=settings.shard_id + communication.rank * settings.num_shards,
        num_workers=settings.num_workers,
        buffer_size=settings.data_buffer_size,
        shuffle_batches=False,
    )
    return iterator.next_epoch_itr(shuffle=False)


def _total(own: TextFigures, communication: Communication) -> TextFigures:
    """The figures of all processes."""
    from seqkit.generation.text_evaluation import TextFigures

    if communication.world_size == 1:
        return own
    first, *others = (TextFigures.from_dict(json.loads(text)) for text in communication.gather_texts(_dump(own)))
    for other in others:
        first.merge(other)
    return first


def _dump(figures: TextFigures) -> str:
    return json.dumps(figures.to_dict())


def _report(figures: TextFigures, seconds: float) -> None:
    if figures.impossible:
        logger.warning("%s words have probability 0 (or none) and do not count", f"{figures.impossible:,}")
    if not figures.words:
        logger.warning("nothing was evaluated")
    if figures.unknown:
        logger.info(
            "no bits per byte: %s of %s tokens are unknown words, whose text is not known",
            *(f"{number:,}" for number in (figures.unknown, figures.tokens)),
        )
    elif not figures.knows_bytes:
        logger.info("no bits per byte: the text of this subword encoder's symbols is not known")
    counts = (f"{number:,}" for number in (figures.tokens, figures.blocks))
    logger.info("Evaluated %s tokens of %s blocks in %.1fs (%.2f tokens/s)", *counts, seconds, figures.tokens / seconds)


def _block_line(block: ScoredBlock, config: RootConfig) -> str:
    """fairseq's line of a block, or a JSON object with `id`, `words` and `log_probs` (natural logarithms)."""
    if config.common_eval.format == "json":
        scores = [_finite(round(score, 6)) for score in block.log_probs]
        return json.dumps({"id": block.id, "words": block.words, "log_probs": scores}, ensure_ascii=False)
    return f"{block.id} " + "\t".join(
        f"{word} [{score:2f}]" for word, score in zip(block.words, block.log_probs, strict=True)
    )


def _write_closing(write: Write, figures: TextFigures, seconds: float, config: RootConfig) -> None:
    """Statistics of words, then the figures."""
    if config.common_eval.format == "json":
        _write_all(write, [_json_statistics(dataclasses.asdict(word)) for word in figures.by_frequency()])
        closing = _json_figures(figures, seconds, config.dataset.gen_subset)
        _write_all(write, [closing])
        if config.common_eval.results_path:
            logger.info(closing)
        return
    for word in figures.by_frequency():
        columns = (word.word, word.count, word.log_prob, word.is_bpe, word.next_log_prob, word.next_count)
        _write_all(write, ["\t".join(str(column) for column in columns)])
    lines = [f"Loss (base 2): {figures.loss:.4f}, Perplexity: {figures.perplexity:.2f}"]
    if figures.bits_per_byte is not None:
        lines.append(f"Bits per byte: {figures.bits_per_byte:.4f} ({figures.bytes:,} bytes)")
    _write_all(write, lines)
    if config.common_eval.results_path:
        for line in lines:
            logger.info(line)


def _json_statistics(values: dict[str, Any]) -> str:
    return json.dumps(
        {name: _finite(value) if isinstance(value, float) else value for name, value in values.items()},
        ensure_ascii=False,
    )


def _json_figures(figures: TextFigures, seconds: float, subset: str) -> str:
    content = {
        "subset": subset,
        "loss": _finite(figures.loss),
        "perplexity": _finite(figures.perplexity),
        "bits_per_byte": figures.bits_per_byte,
        "blocks": figures.blocks,
        "tokens": figures.tokens,
        "words": figures.words,
        "bytes": figures.bytes if figures.knows_bytes and not figures.unknown else None,
        "unknown": figures.unknown,
        "seconds": round(seconds, 3),
    }
    return json.dumps(content)


def _finite(value: float) -> float | None:
    """JSON has no infinities."""
    return value if math.isfinite(value) else None


def _write_all(write: Write, lines: Sequence[str]) -> None:
    for line in lines:
        write(f"{line}\n")


@contextmanager
def _output(config: RootConfig, is_main: bool) -> Iterator[Write]:
    """Where lines go: to standard output, or whole or not at all to a file; nowhere unless `is_main`.

    Raises:
        UserError: the file cannot be made.
    """
    evaluation = config.common_eval
    if not is_main:
        yield lambda line: None
        return
    if not evaluation.results_path:
        yield sys.stdout.write
        return
    dataset = config.dataset
    part = "" if dataset.num_shards == 1 else f".{dataset.shard_id}-of-{dataset.num_shards}"
    ending = "jsonl" if evaluation.format == "json" else "txt"
    place = Path(evaluation.results_path) / f"eval_lm-{dataset.gen_subset}{part}.{ending}"
    with ExitStack() as stack:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(atomic_write(place, "w", encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"common_eval.results_path={evaluation.results_path} cannot be written ({error.strerror or error}); "
                "give a folder that can, or leave it out to write to standard output"
            ) from error
        yield file.write
    logger.info("wrote %s", place)


if __name__ == "__main__":
    sys.exit(main())
