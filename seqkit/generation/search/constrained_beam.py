"""Lexically constrained beam search: the beam is shared out to hypotheses by how much of their constraints they have.

Dynamic beam allocation of Post and Vilar (2018), for constraints in any order with the trie of Hu et al. (2019). Knows
nothing of models. Axes: B sentences, K hypotheses of each, C candidates, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.generation.constraints import (
    ConstraintState,
    OrderedConstraints,
    UnorderedConstraints,
    unpack_constraints,
)
from seqkit.generation.search._top_candidates import top_candidates
from seqkit.generation.search.base import Candidates, SearchStrategy

_NONE = float("-inf")


class ConstrainedBeamSearch(SearchStrategy):
    """Beam search whose outputs contain all constraints of their sentence (`constraints` of the batch, packed).

    Candidates are the best continuations of all hypotheses, the best one of each, and every token that brings a
    hypothesis further with its constraints. They are put into banks by the number of constraint tokens they have;
    taken are the best of the fullest bank, the best of the next, …, then the second best of each, and so on. A
    hypothesis cannot end before it has all constraints, so a sentence whose constraints do not fit ends without any.

    Args:
        beam: hypotheses kept for each sentence.
        ordered: constraints come in the order given.
    """

    def __init__(self, beam: int, *, ordered: bool) -> None:
        super().__init__(beam)
        self.ordered = ordered
        self._states: list[list[ConstraintState]] = []
        self._candidates: list[list[ConstraintState]] = []

    def start(self, sample: Any) -> None:
        rows = sample.get("constraints")
        count = sample["net_input"]["src_lengths"].numel()
        constraints = [[] for _ in range(count)] if rows is None else [unpack_constraints(row) for row in rows.cpu()]
        kind = OrderedConstraints if self.ordered else UnorderedConstraints
        self._states = [[kind.of(own)] for own in constraints]

    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        device = log_probs_BKV.device
        unfinished_BK = torch.tensor([[not state.finished for state in states] for states in self._states])
        log_probs_BKV[..., end].masked_fill_(unfinished_BK.to(device), _NONE)
        count = 2 * self.beam
        lists_B = self._best(log_probs_BKV, scores_BK, count, first=step == 0)
        for candidates, further in zip(lists_B, self._further(log_probs_BKV, scores_BK), strict=True):
            candidates.update(further)

        self._candidates = []
        taken_B: list[list[tuple[float, int, int]]] = []
        for states, candidates in zip(self._states, lists_B, strict=True):
            taken, following = _share_out(states, candidates, count)
            missing = count - len(taken)
            taken_B.append(taken + [(_NONE, 0, 0)] * missing)
            self._candidates.append(following + [states[0]] * missing)
        columns = [[[item[part] for item in taken] for taken in taken_B] for part in range(3)]
        return Candidates(
            torch.tensor(columns[0], dtype=scores_BK.dtype, device=device),
            torch.tensor(columns[1], device=device),
            torch.tensor(columns[2], device=device),
        )

    def select(self, staying: Tensor) -> None:
        kept = staying.tolist()
        self._candidates = [self._candidates[place] for place in kept]

    def advance(self, chosen_BK: Tensor) -> None:
        self._states = [
            [candidates[place] for place in places]
            for candidates, places in zip(self._candidates, chosen_BK.tolist(), strict=True)
        ]

    def _best(
        self, log_probs_BKV: Tensor, scores_BK: Tensor, count: int, *, first: bool
    ) -> list[dict[tuple[int, int], float]]:
        """For each sentence, (hypothesis, token) → score of its best continuations."""
        best = top_candidates(log_probs_BKV, scores_BK, count)
        scores, tokens, beams = best
        if not first:
            own_scores, own_tokens = log_probs_BKV.max(dim=2)
            scores = torch.cat([scores, own_scores + scores_BK], dim=1)
            tokens = torch.cat([tokens, own_tokens], dim=1)
            beams = torch.cat([beams, torch.arange(scores_BK.size(1), device=beams.device).expand_as(own_tokens)], 1)
        return [
            {(beam, token): score for beam, token, score in zip(*rows, strict=True) if score != _NONE}
            for rows in zip(beams.tolist(), tokens.tolist(), scores.tolist(), strict=True)
        ]

    def _further(self, log_probs_BKV: Tensor, scores_BK: Tensor) -> list[dict[tuple[int, int], float]]:
        """For each sentence, (hypothesis, token) → score of what brings a hypothesis further."""
        places = [
            (sentence, beam, token)
            for sentence, states in enumerate(self._states)
            for beam, state in enumerate(states)
            for token in state.next_tokens()
        ]
        found: list[dict[tuple[int, int], float]] = [{} for _ in self._states]
        if places:
            rows, beams, tokens = torch.tensor(places, device=scores_BK.device).unbind(1)
            scores = (log_probs_BKV[rows, beams, tokens] + scores_BK[rows, beams]).tolist()
            for (sentence, beam, token), score in zip(places, scores, strict=True):
                if score != _NONE:
                    found[sentence][beam, token] = score
        return found


def _share_out(
    states: list[ConstraintState], candidates: dict[tuple[int, int], float], count: int
) -> tuple[list[tuple[float, int, int]], list[ConstraintState]]:
    """The `count` candidates that are taken, as (score, token, hypothesis) in their order, and their states."""
    following = {key: states[key[0]].advance(key[1]) for key in candidates}
    by_score = sorted(candidates, key=candidates.__getitem__, reverse=True)
    seats: dict[int, int] = {}
    order: list[tuple[int, int, tuple[int, int]]] = []
    for key in by_score:
        bank = following[key].generated
        rank = seats.get(bank, 0)
        seats[bank] = rank + 1
        order.append((rank, -bank, key))
    order.sort(key=lambda item: item[:2])
    taken = [key for _, _, key in order[:count]]
    return [(candidates[key], key[1], key[0]) for key in taken], [following[key] for key in taken]
