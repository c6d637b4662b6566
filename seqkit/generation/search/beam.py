"""Beam search: the continuations with the highest summed log-probability. Knows nothing of models."""

from __future__ import annotations

from torch import Tensor

from seqkit.generation.search._top_candidates import top_candidates
from seqkit.generation.search.base import Candidates, SearchStrategy


class BeamSearch(SearchStrategy):
    """Twice `beam` candidates, so that `beam` hypotheses go on even where `beam` end."""

    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        return top_candidates(log_probs_BKV, scores_BK, 2 * self.beam)
