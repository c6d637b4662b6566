"""Evaluation of language models: the figures and words that fairseq-eval-lm printed, through seqkit's own command."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from seqkit.config.base import default_of, option_info
from seqkit.config.validate import options_of
from seqkit.errors import DataError
from seqkit.interop.fairseq.flags import to_root_config
from seqkit.tasks.language_modeling import LanguageModelingConfig
from seqkit_cli.eval_lm import eval_lm
from tests.parity.fairseqs_text import fairseqs_text
from tests.parity.loader import Case, separated

KNOWN = {
    "what",
    "area",
    "tool",
    "loss_base2",
    "perplexity",
    "evaluated_tokens",
    "examples",
    "out",
    "tolerance",
    "versions",
    "informational",
}
CLOSING = re.compile(r"Loss \(base 2\): ([\d.]+), Perplexity: ([\d.]+)")
WORD = re.compile(r"(.+) \[(\S+)\]", re.DOTALL)


@dataclass
class Block:
    """The words of a block with their log-probabilities."""

    id: int
    words: list[tuple[str, float]]


@dataclass
class Statistics:
    """A line of statistics of a word."""

    word: str
    count: int
    log_prob: float
    is_bpe: str
    next_log_prob: float
    next_count: int


def run(case: Case) -> None:
    spec = case.spec
    flags_key = f"flags (cwd = {case.area_folder.name}/)"
    unknown = sorted(set(spec) - KNOWN - {flags_key})
    assert not unknown, f"case.json has keys that this adapter does not know: {unknown}"
    assert spec["tool"] == "fairseq-eval-lm", f"unknown tool {spec['tool']!r}"
    tolerance = spec["tolerance"]
    assert set(tolerance) == {"loss_atol", "word_prob_atol"}, f"unknown tolerance {tolerance}"

    flags = _without_passed_over(separated(spec[flags_key]))
    if not spec["evaluated_tokens"]:
        # every block is too long: fairseq says that the loss is 0, seqkit that there is nothing to evaluate
        with pytest.raises(DataError):
            run_command(case, flags)
        return
    lines, messages = run_command(case, flags)
    closing = next(match for line in lines if (match := CLOSING.fullmatch(line)))
    loss, perplexity = float(closing[1]), float(closing[2])
    assert abs(loss - spec["loss_base2"]) <= tolerance["loss_atol"], f"loss {loss}, recorded {spec['loss_base2']}"
    # as far as the loss may be off, the perplexity may be too; both sides show two decimals
    slack = spec["perplexity"] * (2 ** tolerance["loss_atol"] - 1) + 0.01
    assert abs(perplexity - spec["perplexity"]) <= slack, f"perplexity {perplexity}, recorded {spec['perplexity']}"
    examples = _number_in(messages, r"([\d,]+) blocks of text")
    assert examples == spec["examples"], f"{examples} blocks, recorded {spec['examples']}"
    tokens = _number_in(messages, r"Evaluated ([\d,]+) tokens .*")
    # fairseq also counts the BOS before each block, whose probability it then leaves away
    begins = _number_in(messages, r"Evaluated .* tokens of ([\d,]+) blocks.*") if "--add-bos-token" in flags else 0
    assert tokens + begins == spec["evaluated_tokens"], f"{tokens} tokens, recorded {spec['evaluated_tokens']}"
    if spec["out"] is not None:
        recorded = (case.folder / spec["out"]).read_text(encoding="utf-8")
        _compare_words(lines, recorded.split("\n"), tolerance["word_prob_atol"])


def _without_passed_over(flags: list[str]) -> list[str]:
    """The flags without those that fairseq-eval-lm passes over in silence; seqkit heeds them."""
    kept = [flag for flag in flags if flag != "--quiet"]
    if "--max-valid-steps" in kept:
        place = kept.index("--max-valid-steps")
        del kept[place : place + 2]
    for flag in {"--remove-bpe", "--post-process"} & set(kept):
        place = kept.index(flag)
        value = next((item for item in kept[place + 1 : place + 2] if not item.startswith("--")), None)
        # under this name, subwords are taken for what ends in the name itself, and there are none
        if value in (None, "subword_nmt"):
            del kept[place : place + (1 if value is None else 2)]
    return kept


def run_command(case: Case, flags: list[str]) -> tuple[list[str], list[str]]:
    """Run seqkit's command with fairseq's flags from the area's folder, in this process: its lines and log messages."""
    output = io.StringIO()
    with _folder(case.area_folder), fairseqs_text(), _messages() as messages, contextlib.redirect_stdout(output):
        config = to_root_config("eval_lm", flags)
        # fairseq makes the task from the flags alone, not from the checkpoint, and leaves out what is too long
        options = options_of(LanguageModelingConfig)
        defaults = {name: default_of(item) for name, item in options.items() if option_info(item).follows is None}
        config.given["task"] = {**defaults, "seed": config.common.seed, **config.given.get("task", {})}
        for section, option, value in (
            ("dataset", "skip_invalid_size_inputs_valid_test", True),
            ("common", "log_format", "none"),
        ):
            setattr(getattr(config, section), option, value)
            config.given.setdefault(section, {})[option] = value
        assert eval_lm(config) == 0
    return output.getvalue().split("\n"), messages


def _compare_words(ours: list[str], recorded: list[str], tolerance: float) -> None:
    blocks, statistics = _parse(ours)
    expected_blocks, expected_statistics = _parse(recorded)
    assert [block.id for block in blocks] == [block.id for block in expected_blocks], "other blocks, or another order"
    for block, expected in zip(blocks, expected_blocks, strict=True):
        words, expected_words = ([word for word, _ in side.words] for side in (block, expected))
        assert words == expected_words, f"block {block.id}: {words}, recorded {expected_words}"
        for place, ((word, score), (_, expected_score)) in enumerate(zip(block.words, expected.words, strict=True)):
            assert abs(score - expected_score) <= tolerance, (
                f"block {block.id}, word {place} ({word!r}): {score}, recorded {expected_score}"
            )
    assert [entry.word for entry in statistics] == [entry.word for entry in expected_statistics], "words of statistics"
    for entry, other in zip(statistics, expected_statistics, strict=True):
        assert (entry.count, entry.is_bpe, entry.next_count) == (other.count, other.is_bpe, other.next_count), (
            entry.word
        )
        for found, wanted, count in (
            (entry.log_prob, other.log_prob, entry.count),
            (entry.next_log_prob, other.next_log_prob, entry.next_count),
        ):
            assert abs(found - wanted) <= tolerance * max(count, 1), f"{entry.word!r}: {found}, recorded {wanted}"


def _parse(lines: list[str]) -> tuple[list[Block], list[Statistics]]:
    blocks, statistics = [], []
    for line in lines:
        columns = line.split("\t")
        if len(columns) == 6 and columns[3] in ("True", "False"):
            word, count, log_prob, is_bpe, next_log_prob, next_count = columns
            statistics.append(
                Statistics(word, int(count), float(log_prob), is_bpe, float(next_log_prob), int(next_count))
            )
        elif line and not CLOSING.fullmatch(line) and not line.startswith("Bits per byte: "):
            number, _, rest = line.partition(" ")
            words = [WORD.fullmatch(word) for word in rest.split("\t")]
            assert all(words), f"a line that is neither of a block nor of a word: {line!r}"
            blocks.append(Block(int(number), [(word[1], float(word[2])) for word in words if word]))
    return blocks, statistics


def _number_in(messages: list[str], pattern: str) -> int:
    found = [match[1] for message in messages if (match := re.fullmatch(pattern, message))]
    assert len(found) == 1, f"no message {pattern!r} among {messages}"
    return int(found[0].replace(",", ""))


class _Collector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _messages() -> Iterator[list[str]]:
    """What the command logs."""
    logger = logging.getLogger("seqkit-eval-lm")
    messages: list[str] = []
    collector, level = _Collector(messages), logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.setLevel(level)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
