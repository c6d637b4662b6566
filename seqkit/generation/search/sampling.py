"""Sampling: every hypothesis takes its next token at random. Knows nothing of models.

Axes: B sentences, K hypotheses of each, V vocabulary, M tokens that may be drawn.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.generation.search._random import random_numbers, stream_of
from seqkit.generation.search.base import Candidates, SearchStrategy

_FIRST_GUESS = 64
"""How many tokens are looked at first for the likeliest ones that reach a probability."""


class Sampling(SearchStrategy):
    """Draws of the next token, with probabilities as they are or from the likeliest tokens alone.

    A token's score is its own log-probability, whatever it was drawn from. What is drawn for a sentence depends on the
    seed and on its `id` in the batch, not on the other sentences.

    Args:
        beam: hypotheses drawn for each sentence, independently of each other.
        topk: draw from this many likeliest tokens (Fan et al., 2018); 0 or less: from all.
        topp: draw from the likeliest tokens that together reach this probability (nucleus sampling, Holtzman et al.,
            2020); 0 or less: from all.
        seed: None takes one from torch's generator for each batch.
    """

    def __init__(self, beam: int, *, topk: int = -1, topp: float = -1.0, seed: int | None = 1) -> None:
        super().__init__(beam)
        self.topk = topk
        self.topp = topp
        self.seed = seed
        self._stream_B = torch.empty(0, dtype=torch.int64)

    def start(self, sample: Any) -> None:
        lengths = sample["net_input"]["src_lengths"]
        ids = sample.get("id")
        if ids is None:
            ids = torch.arange(lengths.numel())
        seed = int(torch.randint(2**62, ())) if self.seed is None else self.seed
        self._stream_B = stream_of(seed, ids.to(lengths.device))

    def step(self, step: int, log_probs_BKV: Tensor, scores_BK: Tensor, end: int) -> Candidates:
        probs_BKM, tokens_BKM = likeliest(log_probs_BKV.exp(), self.topk, self.topp)
        numbers_BK = random_numbers(self._stream_B, step, self.beam)
        # in double precision, so that the sum over a large vocabulary stays one that never passes over a token
        reached = probs_BKM.double().cumsum(dim=2).expand(-1, self.beam, -1).contiguous()
        total = reached[..., -1:]
        place = torch.searchsorted(reached, numbers_BK.unsqueeze(2) * total, right=True)
        # where all that may come is too unlikely for a floating-point number, the likeliest comes
        first = log_probs_BKV.argmax(dim=2, keepdim=True) if tokens_BKM is None else torch.zeros_like(place[:, :1])
        place = torch.where(total > 0, place, first)
        tokens_BK1 = place if tokens_BKM is None else _of_each(tokens_BKM, place)
        own = _of_each(log_probs_BKV, tokens_BK1)
        scores = own.squeeze(2) + scores_BK
        beams = torch.arange(self.beam, device=scores.device).expand_as(scores)
        return Candidates(scores, tokens_BK1.squeeze(2), beams)

    def select(self, staying: Tensor) -> None:
        self._stream_B = self._stream_B[staying]


def likeliest(probs_BKV: Tensor, topk: int, topp: float) -> tuple[Tensor, Tensor | None]:
    """The tokens that may be drawn, the likeliest first, with their probabilities, which are not made to sum to 1.

    Args:
        probs_BKV: (B, K, V) probabilities.
        topk, topp: see `Sampling`; `topp` goes first where both are given.

    Returns:
        (B, K, M) probabilities, 0 where a row has fewer tokens than others, and (B, K, M) tokens; the probabilities
        as they came and None where every token may be drawn.
    """
    vocabulary = probs_BKV.size(2)
    if topp > 0:
        if probs_BKV.device.type != "cpu":
            return _nucleus(probs_BKV, vocabulary, topp)
        count = _FIRST_GUESS
        while count < vocabulary:
            kept, tokens = _nucleus(probs_BKV, count, topp)
            if not bool(kept[..., -1].any()):
                return kept, tokens
            count *= 8
        return _nucleus(probs_BKV, vocabulary, topp)
    if topk > 0:
        best = probs_BKV.topk(min(topk, vocabulary), dim=2)
        return best.values, best.indices
    return probs_BKV, None


def _nucleus(probs_BKV: Tensor, count: int, topp: float) -> tuple[Tensor, Tensor]:
    """Of the `count` likeliest tokens those that reach `topp`, the one that crosses it among them; 0 for the others."""
    best = probs_BKV.topk(count, dim=2)
    before = F.pad(best.values.cumsum(dim=2)[..., :-1], (1, 0))
    return best.values.masked_fill(before >= topp, 0.0), best.indices


def _of_each(values_BKV: Tensor, index_BKM: Tensor) -> Tensor:
    """`gather` along the last axis; the first dimension K of `values_BKV` may be 1 for all."""
    return values_BKV.expand(-1, index_BKM.size(1), -1).gather(2, index_BKM)
