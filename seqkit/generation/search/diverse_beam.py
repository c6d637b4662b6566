"""Diverse beam search (Vijayakumar et al., 2018): groups of the beam that keep away from each other.

Knows nothing of models. Axes: B sentences, K hypotheses of each, G groups, M = K/G hypotheses of a group, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.generation.search._top_candidates import top_candidates
from seqkit.generation.search.base import Candidates, Parted, SearchStrategy

_NONE = float("-inf")


class DiverseBeamSearch(SearchStrategy):
    """Each group is a beam search of its own whose words cost more where earlier groups have just chosen them.

        penalty of word v in group g = strength * sum over groups h < g that chose v of (1 + overlap(g, h))

    overlap(g, h) counts the earlier steps at which g and h chose the same word, rank by rank: groups that have gone
    together for long are driven apart the harder. Hypotheses belong to groups in turn (0, 1, …, G-1, 0, 1, …), and
    every one of them ends once: a hypothesis that has ended is not replaced by another of its group.

    Args:
        beam: hypotheses kept for each sentence, a multiple of `groups`.
        groups: G.
        strength: weight of the penalty, nats; it counts in hypotheses' scores.
        reopen_ended: as in fairseq, a group may write on where one of its hypotheses has ended: the same hypothesis
            with words behind its end symbol is then found a second time.
    """

    def __init__(self, beam: int, groups: int, strength: float, *, reopen_ended: bool = False) -> None:
        super().__init__(beam)
        self.groups = groups
        self.strength = strength
        self.reopen_ended = reopen_ended
        self._overlap_BGG = torch.empty(0)
        self._closed_BK = torch.empty(0, dtype=torch.bool)

    def start(self, sample: Any) -> None:
        sentences = sample["net_input"]["src_lengths"]
        self._overlap_BGG = torch.zeros(sentences.numel(), self.groups, self.groups, device=sentences.device)
        self._closed_BK = torch.zeros(sentences.numel(), self.beam, dtype=torch.bool, device=sentences.device)

    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        members = self.beam // self.groups
        everyone_is_equal = log_probs_BKV.size(1) == 1
        found: list[Candidates] = []
        for group in range(self.groups):
            if everyone_is_equal:
                own_BMV, own_scores_BM = log_probs_BKV.clone(), scores_BK
            else:
                own_BMV = log_probs_BKV[:, group :: self.groups].contiguous()
                own_scores_BM = scores_BK[:, group :: self.groups]
            for earlier, chosen in enumerate(found):
                cost_BM = (1 + self._overlap_BGG[:, group, earlier, None]) * chosen.scores.isfinite()
                index = chosen.tokens[:, None].expand(-1, own_BMV.size(1), -1)
                own_BMV.scatter_add_(2, index, (-self.strength * cost_BM)[:, None].expand_as(index))
            best = top_candidates(own_BMV, own_scores_BM, members)
            if not everyone_is_equal and not self.reopen_ended:
                # what has ended leaves its place empty
                alive_B1 = own_scores_BM.ne(_NONE).sum(dim=1, keepdim=True)
                ranks = torch.arange(members, device=alive_B1.device)
                best = best._replace(scores=best.scores.masked_fill(ranks >= alive_B1, _NONE))
            found.append(best._replace(beams=best.beams * self.groups + group))
        tokens_BMG = torch.stack([candidates.tokens for candidates in found], dim=2)
        scores_BMG = torch.stack([candidates.scores for candidates in found], dim=2)
        beams_BMG = torch.stack([candidates.beams for candidates in found], dim=2)
        same_BMGG = tokens_BMG[..., None].eq(tokens_BMG[..., None, :])
        if not self.reopen_ended:
            same_BMGG &= scores_BMG.ne(_NONE)[..., None] & scores_BMG.ne(_NONE)[..., None, :]
        self._overlap_BGG = self._overlap_BGG + same_BMGG.sum(dim=1)
        return Candidates(scores_BMG.flatten(1), tokens_BMG.flatten(1), beams_BMG.flatten(1))

    def part(self, candidates: Candidates, end: int) -> Parted:
        if not self.reopen_ended:
            # hypotheses keep their places, and so their groups
            is_end_BK = candidates.tokens.eq(end)
            places_BK = torch.arange(self.beam, device=is_end_BK.device).expand_as(is_end_BK)
            going_on = candidates._replace(scores=candidates.scores.masked_fill(is_end_BK, _NONE))
            return Parted(is_end_BK & candidates.scores.ne(_NONE), places_BK, going_on)
        # what has ended is told by its place: the next candidate in that place does not count, whatever it continues
        ended_BK = candidates.tokens.eq(end) & candidates.scores.ne(_NONE) & ~self._closed_BK
        closed_BK = self._closed_BK | ended_BK
        chosen_BK = self.first_without(closed_BK)
        self._closed_BK = closed_BK.gather(1, chosen_BK)
        return Parted(ended_BK, chosen_BK, Candidates(*(part.gather(1, chosen_BK) for part in candidates)))

    def select(self, staying: Tensor) -> None:
        self._overlap_BGG = self._overlap_BGG[staying]
        self._closed_BK = self._closed_BK[staying]
