"""Greedy search: the likeliest token at every step. Knows nothing of models."""

from __future__ import annotations

from torch import Tensor

from seqkit.generation.search._top_candidates import top_candidates
from seqkit.generation.search.base import Candidates, SearchStrategy


class GreedySearch(SearchStrategy):
    """What beam search is with a beam of 1, without the candidates that would never be taken."""

    def __init__(self) -> None:
        super().__init__(beam=1)

    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        return top_candidates(log_probs_BKV, scores_BK, 1)
