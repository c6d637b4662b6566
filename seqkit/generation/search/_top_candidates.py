"""The best continuations of all hypotheses of a sentence, quickly. Knows nothing of search strategies.

Axes: B sentences, K hypotheses, V vocabulary, G groups of the vocabulary, M members of each, C candidates, X = C·M.
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
    by_groups = log_probs_BKV.device.type == "cpu" and many and count <= vocabulary // _MEMBERS
    if count == hypotheses == 1:
        best, tokens = (_best_by_groups if by_groups else _best)(log_probs_BKV.view(sentences, vocabulary))
        return Candidates(best + scores_BK, tokens, torch.zeros_like(tokens))
    if by_groups:
        return _by_groups(log_probs_BKV, scores_BK, count)
    totals = (log_probs_BKV + scores_BK.unsqueeze(-1)).view(sentences, -1)
    found = min(count, totals.size(1))
    scores, flat = totals.topk(found, dim=1)
    if found < count:
        scores = F.pad(scores, (0, count - found), value=float("-inf"))
        flat = F.pad(flat, (0, count - found))
    return Candidates(scores, flat % vocabulary, flat.div(vocabulary, rounding_mode="floor"))


def _best(log_probs_BV: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1) the highest number of each row, and where it stands."""
    best, places = log_probs_BV.max(dim=1, keepdim=True)
    return best, places


def _best_by_groups(log_probs_BV: Tensor) -> tuple[Tensor, Tensor]:
    """As `_best`, by way of the best group of 64 neighbours: `amax` is many times as fast as `max`."""
    maxima_BG = _maxima_of_groups(log_probs_BV)
    # where the last group has fewer members, others before it are looked at again
    firsts_B1 = (maxima_BG.argmax(dim=1, keepdim=True) * _MEMBERS).clamp_(max=log_probs_BV.size(1) - _MEMBERS)
    members_M = torch.arange(_MEMBERS, device=log_probs_BV.device)
    best, places = _best(log_probs_BV.gather(1, firsts_B1 + members_M))
    return best, places.add_(firsts_B1)


def _by_groups(log_probs_BKV: Tensor, scores_BK: Tensor, count: int) -> Candidates:
    """As `top_candidates`, exactly, by way of the best `count` groups of 64 neighbours in the vocabulary.

    The `count` best tokens lie in the `count` groups with the best maxima. These maxima are one vectorised pass; `topk`
    over all of K·V takes many times as long on a CPU.
    """
    sentences, _, vocabulary = log_probs_BKV.shape
    maxima_BKG = _maxima_of_groups(log_probs_BKV)
    groups = maxima_BKG.size(2)
    maxima_BKG += scores_BK.unsqueeze(-1)
    best_BC = maxima_BKG.view(sentences, -1).topk(count, dim=1).indices
    beams_BC = best_BC.div(groups, rounding_mode="floor")
    # places in a row of all K·V continuations
    firsts_BC = best_BC * _MEMBERS
    lacking = groups * _MEMBERS - vocabulary
    if lacking:
        firsts_BC -= beams_BC * lacking
    places_BCM = firsts_BC.unsqueeze(-1) + torch.arange(_MEMBERS, device=best_BC.device)
    missing_BCM: Tensor | None = None
    if lacking:
        # the last group of a hypothesis has fewer members: its last token stands in for those that are missing
        last_BC1 = (beams_BC * vocabulary + (vocabulary - 1)).unsqueeze(-1)
        missing_BCM = places_BCM > last_BC1
        places_BCM = places_BCM.minimum(last_BC1)
    places_BX = places_BCM.view(sentences, -1)
    totals_BCM = log_probs_BKV.view(sentences, -1).gather(1, places_BX).view_as(places_BCM)
    totals_BCM += scores_BK.gather(1, beams_BC).unsqueeze(-1)
    if missing_BCM is not None:
        totals_BCM.masked_fill_(missing_BCM, float("-inf"))
    scores, found = totals_BCM.view(sentences, -1).topk(count, dim=1)
    places_BC = places_BX.gather(1, found)
    return Candidates(scores, places_BC % vocabulary, places_BC.div(vocabulary, rounding_mode="floor"))


def _maxima_of_groups(values: Tensor) -> Tensor:
    """(…, V) → (…, G) the highest number of each 64 neighbours; of fewer in the last group, where V leaves a rest."""
    vocabulary = values.size(-1)
    whole = vocabulary - vocabulary % _MEMBERS
    maxima = values[..., :whole].view(*values.shape[:-1], -1, _MEMBERS).amax(dim=-1)
    if whole < vocabulary:
        maxima = torch.cat((maxima, values[..., whole:].amax(dim=-1, keepdim=True)), dim=-1)
    return maxima
