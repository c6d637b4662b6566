"""Diverse siblings (Li et al., 2016): beam search in which one hypothesis's many continuations cost more.

Knows nothing of models. Axes: B sentences, K hypotheses of each, C candidates, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.generation.search._top_candidates import top_candidates
from seqkit.generation.search.base import Candidates, SearchStrategy


class DiverseSiblingsSearch(SearchStrategy):
    """Beam search in which the r-th best continuation of each hypothesis loses r * rate; the loss stays in its score.

    The first step, where there is one hypothesis only, is that of plain beam search.

    Args:
        beam: hypotheses kept for each sentence.
        rate: nats.
    """

    def __init__(self, beam: int, rate: float) -> None:
        super().__init__(beam)
        self.rate = rate

    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        count = 2 * self.beam
        sentences, hypotheses, vocabulary = log_probs_BKV.shape
        if step == 0:
            return top_candidates(log_probs_BKV, scores_BK, count)
        # a score that grows with the rank cannot reach the best `count` with a rank above `count`
        ranks = min(count, vocabulary)
        own = top_candidates(log_probs_BKV.view(sentences * hypotheses, 1, vocabulary), scores_BK.reshape(-1, 1), ranks)
        losses = torch.arange(1, ranks + 1, device=log_probs_BKV.device) * self.rate
        totals_BC = (own.scores - losses).view(sentences, -1)
        found = min(count, totals_BC.size(1))
        scores, place = totals_BC.topk(found, dim=1)
        tokens = own.tokens.view(sentences, -1).gather(1, place)
        beams = place.div(ranks, rounding_mode="floor")
        if found < count:
            scores = F.pad(scores, (0, count - found), value=float("-inf"))
            tokens, beams = F.pad(tokens, (0, count - found)), F.pad(beams, (0, count - found))
        return Candidates(scores, tokens, beams)
