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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqkit.config.root import RootConfig, root_from_dict
from seqkit.errors import ConfigError, UserError
from seqkit.files import atomic_write
from seqkit_cli._main import run

if TYPE_CHECKING:
    from seqkit.data.encoders.base import TextEncoder
    from seqkit.data.monolingual_dataset import MonolingualDataset
    from seqkit.data.sequence_dataset import SequenceDataset
    from seqkit.distributed.communication import Communication
    from seqkit.generation.text_evaluation import ScoredBlock, Stretches, TextEvaluator, TextFigures
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
_BLOCK = "tokens_per_sample"
_STRETCH = 16
"""A stretch of blocks is so many times as long as the context that is read before it."""
_AT_ONCE = 128
"""Tokens of a stretch that are read together, or more: fewer do not keep a processor at work."""

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
    _check_lengths(hub)
    stretches = _stretches(hub)
    dataset = _blocks_behind_context(hub) if stretches is None else _stretches_of_text(hub, stretches)
    evaluator = _evaluator(hub, stretches)
    batches = _batches(hub, dataset, stretches, communication)
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
    block = _set_block_aside(config)
    hub = Hub.load(config)
    if block is not None:
        hub.task.config = _with_block(hub.task.config, block)
    models = [type(model).__name__ for model in hub.models if not isinstance(model, LanguageModel)]
    if models or not isinstance(hub.task, LanguageModeling):
        what = f"a model of type {models[0]}" if models else f"task={hub.task.config._name}"
        raise ConfigError(
            f"common_eval.path={config.common_eval.path} is {what}, and seqkit-eval-lm measures language models "
            "(task=language_modeling); seqkit-validate measures any model by its own loss"
        )
    return hub


def _set_block_aside(config: RootConfig) -> int | None:
    """Where blocks that are too long are left out, have no block be, so that it need not fit the models' positions."""
    from seqkit.config.validate import build_config
    from seqkit.tasks.language_modeling import LanguageModelingConfig

    task = config.given.get("task")
    if not config.dataset.skip_invalid_size_inputs_valid_test or not isinstance(task, Mapping) or _BLOCK not in task:
        return None
    config.given["task"] = {**task, _BLOCK: 1}
    return build_config(LanguageModelingConfig, {_BLOCK: task[_BLOCK]}, where="task").tokens_per_sample


def _with_block(task: Any, tokens: int) -> Any:
    """The section `task` with another length of blocks."""
    changed = dataclasses.replace(task, **{_BLOCK: tokens})
    changed._name = task._name
    return changed


def _check_lengths(hub: Hub) -> None:
    """Raises ConfigError where blocks and context do not fit each other, or the models."""
    task, context = hub.task.config, hub.config.eval_lm.context_window
    total, longest = task.tokens_per_sample, hub.max_positions
    if context >= total:
        raise ConfigError(
            f"eval_lm.context_window={context} leaves no token of task.tokens_per_sample={total} to evaluate; "
            "the context counts among these, so it must be smaller"
        )
    leaves_out = hub.config.dataset.skip_invalid_size_inputs_valid_test and not context
    if total > longest and task.sample_break_mode != "eos" and not leaves_out:
        raise ConfigError(
            f"task.tokens_per_sample={total} is more than the {longest} positions of the model"
            f"{'s' if len(hub.models) > 1 else ''}; lower it, or leave such blocks out with "
            "dataset.skip_invalid_size_inputs_valid_test=true"
        )


def _stretches(hub: Hub) -> Stretches | None:
    """How blocks are read one after the other; None where each is read behind a context of its own.

    Raises:
        ConfigError: that is asked for and cannot be done; all reasons at once.
    """
    from seqkit.generation.text_evaluation import Stretches
    from seqkit.models.base import LanguageModel

    options, task, settings = hub.config.eval_lm, hub.task.config, hub.config.dataset
    context, total = options.context_window, task.tokens_per_sample
    named = [(model.config._name, model.decoder) for model in hub.models if isinstance(model, LanguageModel)]
    obstacles = []
    if not context:
        obstacles.append("it needs eval_lm.context_window=N")
    if task.sample_break_mode != "none":
        obstacles.append(
            f"text must go on from block to block, and with task.sample_break_mode={task.sample_break_mode} it need "
            "not; set it to none"
        )
    if task.add_bos_token:
        obstacles.append("with task.add_bos_token=true each block is a text of its own")
    obstacles += sorted({f"model={name}: {why}" for name, decoder in named if (why := decoder.why_not_carried_on())})
    if settings.max_tokens is not None and settings.max_tokens < total:
        obstacles.append(f"dataset.max_tokens={settings.max_tokens} must be at least task.tokens_per_sample={total}")
    reaches = [decoder.context_reach() for _, decoder in named]
    is_same = all(reach is not None and reach <= context for reach in reaches) and settings.max_valid_steps is None
    if options.reuse_context and obstacles:
        raise ConfigError([f"eval_lm.reuse_context=true cannot be used: {obstacle}" for obstacle in obstacles])
    if obstacles or not (options.reuse_context or is_same):
        return None
    if is_same:
        logger.info("no model sees further back than the context: each token is read once, the figures are the same")
    block = total - context
    at_once = max(context, _AT_ONCE)
    if settings.max_tokens is not None:
        at_once = min(at_once, settings.max_tokens - context)
    return Stretches(
        blocks=1 + -(-_STRETCH * context // block), block=block, context=context, at_once=max(at_once // block, 1)
    )


def _stretches_of_text(hub: Hub, stretches: Stretches) -> SequenceDataset:
    """The text in stretches of blocks, each behind its context."""
    from seqkit.data.lm_context_window_dataset import LMContextWindowDataset

    length = stretches.blocks * stretches.block
    rows = _cut_into(hub, length)
    logger.info("%s blocks of text", f"{-(-int(rows.sizes.sum()) // stretches.block):,}")
    return LMContextWindowDataset(rows, length, stretches.context, rows.src_dict.pad())


def _cut_into(hub: Hub, tokens: int) -> MonolingualDataset:
    """The text in blocks of so many tokens."""
    from seqkit.data.monolingual_dataset import MonolingualDataset

    hub.task.config = _with_block(hub.task.config, tokens)
    blocks = hub.task.load_dataset(hub.config.dataset.gen_subset)
    assert isinstance(blocks, MonolingualDataset)
    return blocks


def _blocks_behind_context(hub: Hub) -> SequenceDataset:
    """The blocks of the text, none longer than the models take, each behind its context."""
    from seqkit.data.fitting_blocks_dataset import FittingBlocksDataset
    from seqkit.data.lm_context_window_dataset import LMContextWindowDataset

    settings, context = hub.config.dataset, hub.config.eval_lm.context_window
    block = hub.task.config.tokens_per_sample - context
    blocks = _cut_into(hub, block)
    limit = hub.max_positions if settings.max_tokens is None else min(hub.max_positions, settings.max_tokens)
    leave_out = settings.skip_invalid_size_inputs_valid_test
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
    return fitting if not context else LMContextWindowDataset(fitting, block, context, blocks.src_dict.pad())


def _evaluator(hub: Hub, stretches: Stretches | None) -> TextEvaluator:
    from seqkit.generation.ensemble import Ensemble
    from seqkit.generation.text_evaluation import TextEvaluator
    from seqkit.generation.word_spelling import WordSpelling

    config = hub.config
    dictionary = hub.task.target_dictionary
    name, encoder = _subwords(hub)
    spelling = WordSpelling(dictionary, config.common_eval.post_process, bpe_name=name, bpe=encoder)
    return TextEvaluator(
        Ensemble(hub.models),
        dictionary,
        spelling,
        softmax_batch=config.eval_lm.softmax_batch,
        skip_first=hub.task.config.add_bos_token,
        word_probs=config.eval_lm.output_word_probs and not config.common_eval.quiet,
        word_stats=config.eval_lm.output_word_stats and not config.common_eval.quiet,
        stretches=stretches,
    )


def _subwords(hub: Hub) -> tuple[str | None, TextEncoder | None]:
    """The subword encoder that made the text: the one given, or that of the first checkpoint's training.

    The latter is made only if it is needed, since its files may be elsewhere now.
    """
    from seqkit.data.encoders.base import build_bpe
    from seqkit.generation.word_spelling import SPELLED_OUT

    if hub.config.bpe is not None:
        return hub.config.bpe._name, hub.bpe
    section = hub.trained_with.get("bpe")
    name = section.get("_name") if isinstance(section, Mapping) else None
    if name not in SPELLED_OUT:
        return name, None
    return name, build_bpe(root_from_dict({"bpe": section}, partial=True).bpe)


def _batches(hub: Hub, dataset: SequenceDataset, stretches: Stretches | None, communication: Communication) -> Any:
    """This process's batches of this shard."""
    settings = hub.config.dataset
    max_tokens, rows = settings.max_tokens, settings.batch_size
    if max_tokens is None and rows is None:
        max_tokens = _DEFAULT_MAX_TOKENS
    if stretches is not None and max_tokens is not None:
        # Of each stretch no more is in work at a time than a few blocks and their context.
        at_most = max(1, max_tokens // (stretches.at_once * stretches.block + stretches.context))
        max_tokens, rows = None, at_most if rows is None else min(rows, at_most)
    iterator = hub.task.batch_iterator(
        dataset,
        max_tokens=max_tokens,
        max_sentences=rows,
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
