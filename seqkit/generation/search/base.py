"""What a search strategy promises: given every continuation's score, the candidates in the order they are taken.

Knows nothing of models, or of when a sentence ends.
Axes: B sentences still decoded, K hypotheses of each (1 at the first step, then the beam), V vocabulary,
C candidates (at least the beam; twice the beam where every hypothesis may end at once).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor


class Candidates(NamedTuple):
    """Continuations in the order in which they are taken.

    Those that end count as finished hypotheses only among the first `beam`; the first `beam` of those that do not
    end are the next hypotheses.

    Attributes:
        scores: (B, C) float32 summed log-probability of the whole hypothesis; -inf where there is none.
        tokens: (B, C) int64 new tokens.
        beams: (B, C) int64, the hypothesis (0 … K-1) that each continues.
    """

    scores: Tensor
    tokens: Tensor
    beams: Tensor


class SearchStrategy(ABC):
    """Base of all search strategies.

    Args:
        beam: hypotheses kept for each sentence.
    """

    def __init__(self, beam: int) -> None:
        self.beam = beam

    def start(self, sentences: int) -> None:
        """Called before the first step of every batch of `sentences` sentences."""

    @abstractmethod
    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        """Choose candidates.

        Args:
            step: tokens that every hypothesis has already.
            log_probs_BKV: log-probabilities of the next token, after all processors; may be written into.
            scores_BK: summed log-probability of each hypothesis so far.
            end: the symbol that ends a hypothesis.
        """

    def select(self, staying: Tensor) -> None:
        """Told that only the sentences at the places `staying` (B',) go on."""

    def advance(self, chosen_BK: Tensor) -> None:
        """Told which of the C candidates (B, K), by place, are the next hypotheses of the sentences that go on."""
