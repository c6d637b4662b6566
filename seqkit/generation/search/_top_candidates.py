"""The best continuations of all hypotheses of a sentence, quickly. Knows nothing of search strategies.

Axes: B sentences, K hypotheses, V vocabulary, G groups of the vocabulary, M members of each, C candidates.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.generation.search.base import Candidates

_MEMBERS = 64
_SORTED_AT_ONCE = 1 << 14
"""Continuations up to which `topk` over all of them costs less than the many small steps that avoid it."""


def top_candidates(log_probs_BKV: Tensor, scores_BK: Tensor, count: int) -> Candidates:
    """The `count` continuations with the highest sum of hypothesis score and token log-probability.

    Where a sentence has fewer continuations than that, the rest are hypothesis 0, token 0, score -inf.
    """
    sentences, hypotheses, vocabulary = log_probs_BKV.shape
    many = sentences * hypotheses * vocabulary > _SORTED_AT_ONCE
    if log_probs_BKV.device.type == "cpu" and many and count <= vocabulary // _MEMBERS:
        return _by_groups(log_probs_BKV, scores_BK, count)
    totals = (log_probs_BKV + scores_BK.unsqueeze(-1)).view(sentences, -1)
    if count == hypotheses == 1:
        best, tokens = totals.max(dim=1, keepdim=True)
        return Candidates(best, tokens, torch.zeros_like(tokens))
    found = min(count, totals.size(1))
    scores, flat = totals.topk(found, dim=1)
    if found < count:
        scores = F.pad(scores, (0, count - found), value=float("-inf"))
        flat = F.pad(flat, (0, count - found))
    return Candidates(scores, flat % vocabulary, flat.div(vocabulary, rounding_mode="floor"))


def _by_groups(log_probs_BKV: Tensor, scores_BK: Tensor, count: int) -> Candidates:
    """As `top_candidates`, exactly, by way of the best `count` groups of 64 neighbours in the vocabulary.

    The `count` best tokens lie in the `count` groups with the best maxima. These maxima are one vectorised pass; `topk`
    over all of K·V takes many times as long on a CPU.
    """
    sentences, hypotheses, vocabulary = log_probs_BKV.shape
    whole = vocabulary - vocabulary % _MEMBERS
    maxima_BKG = log_probs_BKV[..., :whole].view(sentences, hypotheses, -1, _MEMBERS).amax(dim=3)
    if whole < vocabulary:
        maxima_BKG = torch.cat((maxima_BKG, log_probs_BKV[..., whole:].amax(dim=2, keepdim=True)), dim=2)
    groups = maxima_BKG.size(2)
    maxima_BKG += scores_BK.unsqueeze(-1)
    best_BC = maxima_BKG.view(sentences, -1).topk(count, dim=1).indices
    beams_BC = best_BC.div(groups, rounding_mode="floor")
    members_M = torch.arange(_MEMBERS, device=best_BC.device)
    tokens_BCM = ((best_BC - beams_BC * groups) * _MEMBERS).unsqueeze(-1) + members_M
    # the last group may have fewer members: its last token stands in for those that are missing
    flat_BCM = tokens_BCM.clamp(max=vocabulary - 1) + (beams_BC * vocabulary).unsqueeze(-1)
    totals_BCM = log_probs_BKV.view(sentences, -1).gather(1, flat_BCM.view(sentences, -1)).view_as(flat_BCM)
    totals_BCM += scores_BK.gather(1, beams_BC).unsqueeze(-1)
    if whole < vocabulary:
        totals_BCM.masked_fill_(tokens_BCM >= vocabulary, float("-inf"))
    scores, position = totals_BCM.view(sentences, -1).topk(count, dim=1)
    group = position.div(_MEMBERS, rounding_mode="floor")
    return Candidates(scores, tokens_BCM.view(sentences, -1).gather(1, position), beams_BC.gather(1, group))
