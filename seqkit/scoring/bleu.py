"""BLEU over whitespace tokens or token numbers, as fairseq counts it (Papineni et al., 2002).

Knows nothing of tokenization rules: what is between white space is a token. For figures to compare with
other people's, use `sacrebleu`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.scoring._ngrams import exact_ngrams, hashed_ngrams
from seqkit.scoring.base import Scorer, register_scoring

MAX_ORDER = 4
_NEVER_MATCHED = -999


@dataclass
class BleuConfig(Config):
    pad: int = option(1, "number of the padding symbol, which is not counted before or behind a sentence", low=0)
    eos: int = option(2, "number of the end-of-sentence symbol, which is not counted behind a sentence", low=0)
    unk: int = option(3, "number of the unknown word; in a reference it never matches", low=0)
    exact_counts: bool = option(
        False, "compare n-grams themselves, not fairseq's hashes of them (under which a few different ones are equal)"
    )


@register_scoring("bleu", config=BleuConfig)
class Bleu(Scorer):
    """Corpus BLEU with clipped n-gram counts up to 4, one reference, no smoothing.

        BLEU = 100 * min(1, exp(1 - reflen/syslen)) * exp(mean over n of log precision_n)

    Sentences are strings (`add`) or token numbers (`add_tokens`). Padding before and padding and end-of-sentence
    behind a sentence are not counted; but an empty sentence counts as its one end-of-sentence symbol. `<unk>` in
    the reference never matches.
    """

    config: BleuConfig

    def __init__(self, config: BleuConfig) -> None:
        super().__init__(config)
        self._numbers: dict[str, int] = {"<s>": 0, "<pad>": config.pad, "</s>": config.eos, "<unk>": config.unk}
        self.reset()

    def number_words_as(self, symbols: Sequence[str]) -> None:
        """Give the words of strings the numbers that they have in a dictionary (and new words the next ones).

        Only matters where the figure must equal fairseq's to the last match, since its hashes depend on it.

        Args:
            symbols: the dictionary's symbols in order.
        """
        self._numbers = {symbol: number for number, symbol in enumerate(symbols)}

    def reset(self, one_init: bool = False) -> None:
        """Forget all sentences (not the numbers of words).

        Args:
            one_init: begin the counts of orders 2 to 4 at one match of one, so that a single short sentence
                does not come to zero (the "+1" smoothing of Lin and Och, 2004).
        """
        super().reset()
        start = 1 if one_init else 0
        self._matches = [0] + [start] * (MAX_ORDER - 1)
        self._counts = [0] + [start] * (MAX_ORDER - 1)
        self.reference_length = 0
        self.system_length = 0

    def add(self, reference: str, hypothesis: str) -> None:
        """Count one sentence of words."""
        found = self._numbered(hypothesis)
        self.add_tokens(self._numbered(reference), found)

    def add_tokens(self, reference: Sequence[int], hypothesis: Sequence[int]) -> None:
        """Count one sentence of token numbers, each with its end-of-sentence symbol."""
        expected = [_NEVER_MATCHED if token == self.config.unk else token for token in self._trimmed(reference)]
        found = self._trimmed(hypothesis)
        ngrams = exact_ngrams if self.config.exact_counts else hashed_ngrams
        self.reference_length += len(expected)
        self.system_length += len(found)
        for index, (theirs, ours) in enumerate(zip(ngrams(expected, MAX_ORDER), ngrams(found, MAX_ORDER), strict=True)):
            self._counts[index] += ours.total()
            self._matches[index] += (theirs & ours).total()

    def precisions(self) -> list[float]:
        """Share of the hypotheses' n-grams that are in the reference, for n = 1 to 4, each 0 to 1."""
        return [matches / count if count else 0.0 for matches, count in zip(self._matches, self._counts, strict=True)]

    def brevity_penalty(self) -> float:
        """1 for hypotheses at least as long as the references, less for shorter ones."""
        if self.system_length == 0:
            return 0.0
        return min(1.0, math.exp(1 - self.reference_length / self.system_length))

    def score(self, order: int = MAX_ORDER) -> float:
        """BLEU, 0 to 100, with n-grams up to `order`.

        Raises:
            ConfigError: the order is not 1 to 4.
        """
        if not 1 <= order <= MAX_ORDER:
            raise ConfigError(f"BLEU's order is {order}; n-grams are counted for orders 1 to {MAX_ORDER}")
        precisions = self.precisions()[:order]
        if min(precisions) == 0.0:
            return 0.0
        return 100 * self.brevity_penalty() * math.exp(sum(map(math.log, precisions)) / order)

    def result_string(self, order: int = MAX_ORDER) -> str:
        """`BLEU4 = 9.33, 57.5/24.3/10.6/4.1 (BP=0.593, ratio=0.657, syslen=906, reflen=1379)`."""
        score = self.score(order)
        precisions = "/".join(f"{100 * precision:.1f}" for precision in self.precisions()[:order])
        ratio = self.system_length / self.reference_length if self.reference_length else math.inf
        return (
            f"BLEU{order} = {score:.2f}, {precisions} (BP={self.brevity_penalty():.3f}, ratio={ratio:.3f}, "
            f"syslen={self.system_length}, reflen={self.reference_length})"
        )

    def score_sentence(self, reference: str, hypothesis: str, order: int = MAX_ORDER) -> tuple[float, str]:
        """Smoothed figure and line of one sentence alone (see `reset`)."""
        alone = Bleu(self.config)
        alone._numbers = self._numbers
        alone.reset(one_init=True)
        alone.add(reference, hypothesis)
        return alone.score(order), alone.result_string(order)

    def _numbered(self, sentence: str) -> list[int]:
        numbers = self._numbers
        return [*(numbers.setdefault(word, len(numbers)) for word in sentence.split()), self.config.eos]

    def _trimmed(self, tokens: Sequence[int]) -> Sequence[int]:
        start, end = 0, len(tokens)
        while start < end and tokens[start] == self.config.pad:
            start += 1
        while end - start > 1 and tokens[end - 1] in (self.config.pad, self.config.eos):
            end -= 1
        return tokens[start:end]
