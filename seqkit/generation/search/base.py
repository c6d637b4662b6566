"""What a search strategy promises: given every continuation's score, the candidates in the order they are taken.

Knows nothing of models, or of when a sentence ends.
Axes: B sentences still decoded, K hypotheses of each (1 at the first step, then the beam), V vocabulary,
C candidates (at least the beam; twice the beam where other hypotheses take the places of those that end).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

_NONE = float("-inf")


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


class Parted(NamedTuple):
    """Candidates, parted into those that end and those that go on.

    Attributes:
        ended: (B, K) bool, which of the first `beam` candidates are finished hypotheses; None where it is known, and
            cost nothing to find out, that none is.
        chosen: (B, K) int64, places among the candidates of those that are the next hypotheses.
        going_on: what stands at these places; score -inf where there is no hypothesis.
    """

    ended: Tensor | None
    chosen: Tensor
    going_on: Candidates


class SearchStrategy(ABC):
    """Base of all search strategies.

    Args:
        beam: hypotheses kept for each sentence.
    """

    def __init__(self, beam: int) -> None:
        self.beam = beam
        self._first_places = torch.arange(beam)

    def start(self, sample: Any) -> None:
        """Called before the first step of every batch, with the batch."""

    @abstractmethod
    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        """Choose candidates.

        Args:
            step: tokens that every hypothesis has already.
            log_probs_BKV: log-probabilities of the next token, after all processors; may be written into.
            scores_BK: summed log-probability of each hypothesis so far.
            end: the symbol that ends a hypothesis.
        """

    def part(self, candidates: Candidates, end: int) -> Parted:
        """Say which candidates end and which are the next hypotheses; see `Candidates`."""
        is_end_BC = candidates.tokens.eq(end)
        if is_end_BC.device.type == "cpu" and not bool(is_end_BC.any()):
            first = Candidates(*(part[:, : self.beam] for part in candidates))
            return Parted(None, self._first_places.expand_as(first.tokens), first)
        ended_BK = is_end_BC[:, : self.beam] & candidates.scores[:, : self.beam].ne(_NONE)
        chosen_BK = self.first_without(is_end_BC)
        going_on = Candidates(*(part.gather(1, chosen_BK) for part in candidates))
        # a strategy may offer too few that go on: those places stay empty
        scores_BK = going_on.scores.masked_fill(is_end_BC.gather(1, chosen_BK), _NONE)
        return Parted(ended_BK, chosen_BK, going_on._replace(scores=scores_BK))

    def first_without(self, marked_BC: Tensor) -> Tensor:
        """(B, K) places of the first `beam` candidates that are not marked; behind them, of the first that are."""
        places = torch.arange(marked_BC.size(1), device=marked_BC.device)
        return (marked_BC * places.numel() + places).topk(self.beam, dim=1, largest=False).indices

    def select(self, staying: Tensor) -> None:
        """Told that only the sentences at the places `staying` (B',) go on."""

    def advance(self, chosen_BK: Tensor) -> None:
        """Told which of the C candidates (B, K), by place, are the next hypotheses of the sentences that go on."""
