"""What a text costs under a language model: loss, perplexity, bits per byte, and the log-probability of every word.

Knows nothing of files, of how text was cut into blocks, or of where results are printed.
Axes: B blocks, T length, N tokens of a batch that are scored, W words that these make.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.sequence_scorer import score_stretches, score_targets
from seqkit.generation.word_spelling import WordSpelling


@dataclass
class ScoredBlock:
    """The words of one block.

    Attributes:
        id: the block's number.
        words: their texts.
        log_probs: their natural log-probabilities.
    """

    id: int
    words: list[str]
    log_probs: list[float]


@dataclass
class WordStatistics:
    """How often a word occurs, and how well it is predicted (natural logarithms).

    Attributes:
        word: its text.
        is_bpe: whether it had several subwords when it first occurred.
        count: occurrences.
        log_prob: sum of its log-probabilities.
        next_log_prob: sum of the log-probabilities of the words behind it, where there is one in its block.
        next_count: how often there is one.
    """

    word: str
    is_bpe: bool
    count: int = 0
    log_prob: float = 0.0
    next_log_prob: float = 0.0
    next_count: int = 0

    def add(self, log_prob: float, next_log_prob: float | None) -> None:
        """Count an occurrence."""
        self.count += 1
        self.log_prob += log_prob
        if next_log_prob is not None:
            self.next_log_prob += next_log_prob
            self.next_count += 1

    def merge(self, other: WordStatistics) -> None:
        """Add what was counted elsewhere."""
        self.count += other.count
        self.log_prob += other.log_prob
        self.next_log_prob += other.next_log_prob
        self.next_count += other.next_count


@dataclass
class TextFigures:
    """What was counted of a text; adds up over batches and processes.

    Attributes:
        blocks: blocks, or pieces of blocks.
        tokens: tokens that were scored.
        words: words that these make and whose probability is not 0; what loss and perplexity are per.
        impossible: words whose probability is 0, or no number; they do not count.
        log_prob: sum of the words' natural log-probabilities.
        bytes: of the text in UTF-8.
        unknown: tokens whose text is not known.
        knows_bytes: whether `bytes` means anything.
        statistics: by word, in the order of first occurrence, where these are asked for.
    """

    blocks: int = 0
    tokens: int = 0
    words: int = 0
    impossible: int = 0
    log_prob: float = 0.0
    bytes: int = 0
    unknown: int = 0
    knows_bytes: bool = True
    statistics: dict[str, WordStatistics] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Bits per word; 0 where there is none."""
        return -self.log_prob / self.words / math.log(2) if self.words else 0.0

    @property
    def perplexity(self) -> float:
        """2 to the loss; infinity where it is too large for a number."""
        return 2.0**self.loss if self.loss < 1024 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of text; None where the text is not known in full."""
        if not self.knows_bytes or self.unknown or self.impossible or not self.bytes:
            return None
        return -self.log_prob / self.bytes / math.log(2)

    def by_frequency(self) -> list[WordStatistics]:
        """The statistics of words, the most frequent first."""
        return sorted(self.statistics.values(), key=lambda word: -word.count)

    def merge(self, other: TextFigures) -> None:
        """Add what was counted elsewhere."""
        for name in ("blocks", "tokens", "words", "impossible", "log_prob", "bytes", "unknown"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.knows_bytes &= other.knows_bytes
        for word, statistics in other.statistics.items():
            if word in self.statistics:
                self.statistics[word].merge(statistics)
            else:
                self.statistics[word] = statistics

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `from_dict` makes the same."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TextFigures:
        """What `to_dict` gave."""
        statistics = {word: WordStatistics(**entry) for word, entry in values["statistics"].items()}
        return cls(**{**values, "statistics": statistics})


@dataclass(frozen=True)
class Stretches:
    """Items of a batch that are several blocks in a row, of which each goes on from what is known of those before.

    Attributes:
        blocks: in an item; the last item of a text may have fewer.
        block: tokens of a block.
        context: tokens before each that models still see.
        at_once: blocks that are read together.
    """

    blocks: int
    block: int
    context: int
    at_once: int = 1


class TextEvaluator:
    """Scores batches of text and counts.

    Args:
        ensemble: language models, whose probabilities are averaged.
        dictionary: of what is predicted.
        spelling: which tokens make a word; over the same symbols.
        softmax_batch: most positions whose words are scored at a time.
        skip_first: the first target of each block is a BOS that was put there, and not text.
        word_probs: give the words of each block.
        word_stats: keep statistics of every word.
        stretches: what the items of batches are, where each is not one block alone. Blocks are then numbered through.

    Attributes:
        figures: what was counted so far.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        dictionary: Dictionary,
        spelling: WordSpelling,
        *,
        softmax_batch: int | None = None,
        skip_first: bool = False,
        word_probs: bool = False,
        word_stats: bool = False,
        stretches: Stretches | None = None,
    ) -> None:
        self.ensemble = ensemble
        self.pad = dictionary.pad()
        self.spelling = spelling
        self.softmax_batch = softmax_batch
        self.skip_first = skip_first
        self.word_probs = word_probs
        self.word_stats = word_stats
        self.stretches = stretches
        self.figures = TextFigures(knows_bytes=spelling.knows_bytes)

    @torch.inference_mode()
    def add(self, sample: Any) -> list[ScoredBlock]:
        """Score a batch of a `MonolingualDataset`, on the models' device; padding among its targets is not scored.

        Returns:
            the words of its blocks, with `word_probs`.

        Raises:
            ConfigError: the data have several targets.
        """
        target_BT = sample["target"]
        if isinstance(target_BT, list):
            raise ConfigError(
                "a text is evaluated by one prediction for each token, and this task has several; set one of "
                "task.self_target, task.future_target and task.past_target alone"
            )
        if self.skip_first:
            first = target_BT.ne(self.pad).int().argmax(dim=1, keepdim=True)
            target_BT = target_BT.scatter(1, first, self.pad)
        net_input = sample["net_input"]
        with self.ensemble.evaluating():
            scores_BT = self._scores(net_input, target_BT)
        scored = target_BT.ne(self.pad).cpu().numpy()
        tokens = target_BT.cpu().numpy()[scored]
        before = net_input["src_tokens"].cpu().numpy()[scored]
        scores = scores_BT.double().cpu().numpy()[scored]
        ids, rows = sample["id"].tolist(), np.nonzero(scored)[0]
        if self.stretches is not None:
            ids, rows = _blocks_of(self.stretches, ids, scored)
        return self._count(ids, rows, tokens, before, scores)

    def _scores(self, net_input: dict[str, Any], target_BT: Tensor) -> Tensor:
        """(B, T) log-probabilities, 0 at padding."""
        if self.stretches is not None:
            return score_stretches(
                self.ensemble,
                net_input["src_tokens"],
                target_BT,
                pad=self.pad,
                block=self.stretches.block,
                context=self.stretches.context,
                at_once=self.stretches.at_once,
                softmax_batch=self.softmax_batch,
            )
        scores_BT, _ = score_targets(
            self.ensemble, net_input, target_BT, pad=self.pad, softmax_batch=self.softmax_batch
        )
        return scores_BT

    def _count(
        self,
        ids: list[int],
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        before: NDArray[np.int64],
        scores: NDArray[np.float64],
    ) -> list[ScoredBlock]:
        """Take up (N,) tokens of a batch, each with its row, the token before it and its log-probability."""
        figures = self.figures
        figures.blocks += len(ids)
        if not len(tokens):
            return []
        figures.tokens += len(tokens)
        figures.bytes += int(self.spelling.bytes_of(tokens, before).sum())
        figures.unknown += int(self.spelling.is_unknown(tokens).sum())
        joined = self.spelling.joined(tokens) & (rows[:-1] == rows[1:])
        firsts = np.concatenate(([0], np.flatnonzero(~joined) + 1))
        word_scores = np.add.reduceat(scores, firsts)
        finite = np.isfinite(word_scores)
        figures.words += int(finite.sum())
        figures.impossible += int((~finite).sum())
        figures.log_prob += float(word_scores[finite].sum())
        if not self.word_probs and not self.word_stats:
            return []
        pieces = tokens.tolist()
        ends = [*firsts[1:].tolist(), len(pieces)]
        spans = [pieces[first:end] for first, end in zip(firsts.tolist(), ends, strict=True)]
        words = [self.spelling.word(span) for span in spans]
        return self._by_block(ids, rows[firsts].tolist(), words, spans, word_scores.tolist())

    def _by_block(
        self, ids: list[int], rows: list[int], words: list[str], spans: list[list[int]], scores: list[float]
    ) -> list[ScoredBlock]:
        """Take up W words, each with its row, its tokens and its log-probability."""
        blocks = [ScoredBlock(number, [], []) for number in ids]
        for place, (row, word, score) in enumerate(zip(rows, words, scores, strict=True)):
            if self.word_probs:
                blocks[row].words.append(word)
                blocks[row].log_probs.append(score)
            if self.word_stats:
                has_next = place + 1 < len(rows) and rows[place + 1] == row
                statistics = self.figures.statistics.get(word)
                if statistics is None:
                    statistics = self.figures.statistics[word] = WordStatistics(word, len(spans[place]) > 1)
                statistics.add(score, scores[place + 1] if has_next else None)
        return blocks if self.word_probs else []


def _blocks_of(stretches: Stretches, ids: list[int], scored: NDArray[np.bool_]) -> tuple[list[int], NDArray[np.int64]]:
    """The numbers of all blocks in a batch of stretches, and of each token scored the place of its block among them."""
    rows, columns = np.nonzero(scored)
    counts = -(-scored.sum(1) // stretches.block)
    firsts = np.cumsum(counts) - counts
    places = firsts[rows] + (columns - scored.argmax(1)[rows]) // stretches.block
    numbers = [
        number * stretches.blocks + block for number, count in zip(ids, counts, strict=True) for block in range(count)
    ]
    return numbers, places
