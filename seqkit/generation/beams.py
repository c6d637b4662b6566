"""The hypotheses of a search: those still being written and those that have ended, all on the device.

Knows nothing of models, or of how candidates are chosen.
Axes: B sentences still decoded, K hypotheses of each (the beam), N = B·K decoder rows, T tokens so far,
S source length, L longest output with its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seqkit.generation.hypothesis import Hypothesis

_NONE = float("-inf")


@dataclass(frozen=True)
class Beams:
    """Hypotheses of equal length that are being written.

    Attributes:
        sentences: (B,) int64, which sentences of the batch these are.
        tokens: (B, K, 1+T) int64, the beginning symbol first.
        cumulative: (B, K, T) float32, summed log-probabilities up to each token.
        first_rows: (B, 1) int64, the decoder row of each sentence's first hypothesis.
        attention: (B, K, T, S) cross-attention for each token; one step longer than the rest between `attending` and
            `followed_by`. None unless asked for.
    """

    sentences: Tensor
    tokens: Tensor
    cumulative: Tensor
    first_rows: Tensor
    attention: Tensor | None = None

    @classmethod
    def first(cls, sentences: int, beam: int, begin: int, device: torch.device) -> Beams:
        """`beam` equal and empty hypotheses for each of `sentences` sentences."""
        return cls(
            sentences=torch.arange(sentences, device=device),
            tokens=torch.full((sentences, beam, 1), begin, device=device),
            cumulative=torch.zeros((sentences, beam, 0), device=device),
            first_rows=torch.arange(0, sentences * beam, beam, device=device).unsqueeze(1),
        )

    @property
    def length(self) -> int:
        """T: tokens that every hypothesis has."""
        return self.cumulative.size(2)

    def distinct(self, values_BK: Tensor) -> Tensor:
        """(B, K, …) → the part that belongs to different hypotheses: at first they are all the same, then (B, 1, …)."""
        return values_BK if self.length else values_BK[:, :1].contiguous()

    def scores(self) -> Tensor:
        """(B, K) summed log-probability of each distinct hypothesis."""
        if self.length:
            return self.cumulative[..., -1]
        return self.cumulative.new_zeros(self.cumulative.size(0), 1)

    def attending(self, attention_NS: Tensor | None) -> Beams:
        """With the cross-attention of the token that comes next."""
        if attention_NS is None:
            return self
        newest = attention_NS.view(self.tokens.size(0), self.tokens.size(1), 1, -1)
        attention = newest if self.attention is None else torch.cat([self.attention, newest], dim=2)
        return Beams(self.sentences, self.tokens, self.cumulative, self.first_rows, attention)

    def followed_by(self, scores_BK: Tensor, tokens_BK: Tensor, rows_N: Tensor | None) -> Beams:
        """Hypothesis n becomes hypothesis `rows_N[n]` (see `rows`) with one more token and the new summed score."""

        def moved(history: Tensor) -> Tensor:
            return history if rows_N is None else history.flatten(0, 1).index_select(0, rows_N).view_as(history)

        return Beams(
            self.sentences,
            torch.cat((moved(self.tokens), tokens_BK.unsqueeze(2)), dim=2),
            torch.cat((moved(self.cumulative), scores_BK.unsqueeze(2)), dim=2),
            self.first_rows,
            None if self.attention is None else moved(self.attention),
        )

    def select(self, staying: Tensor) -> Beams:
        """The sentences at the places `staying` (B',)."""
        attention = self.attention
        return Beams(
            self.sentences[staying],
            self.tokens[staying],
            self.cumulative[staying],
            self.first_rows[: staying.numel()],
            None if attention is None else attention[staying],
        )

    def rows(self, beams_BK: Tensor) -> Tensor | None:
        """(N,) numbers of the decoder rows of the hypotheses `beams_BK`; None where each sentence has but one."""
        if beams_BK.size(1) == 1:
            return None
        return (self.first_rows + beams_BK).flatten()


class Finished:
    """Hypotheses that have ended: K slots for each sentence of the batch, filled in order, and one that is thrown away.

    Args:
        limits: most tokens of each sentence before its end symbol.
        beam: hypotheses taken for each sentence.
        device: where the search runs.
    """

    def __init__(self, limits: list[int], beam: int, device: torch.device) -> None:
        self.beam = beam
        self.limits_B = torch.tensor(limits, device=device)
        self.smallest_limit, self.longest_limit = min(limits), max(limits)
        slots = (len(limits), beam + 1)
        self._longest = self.longest_limit + 1
        self._taken = torch.zeros(len(limits), dtype=torch.int64, device=device)
        self._lengths = torch.zeros(slots, dtype=torch.int64, device=device)
        self._ranks = torch.full(slots, _NONE, device=device)
        self._tokens = torch.zeros((*slots, self._longest), dtype=torch.int64, device=device)
        self._cumulative = torch.zeros((*slots, self._longest), device=device)
        self._attention: Tensor | None = None

    def add(self, ending: Beams, ended_BK: Tensor, ranks_BK: Tensor) -> None:
        """Take the hypotheses of `ending` that `ended_BK` marks, as long as their sentence has free slots."""
        length = ending.length
        sentences_B = ending.sentences
        ended_BK = ended_BK & self.limits_B[sentences_B].ge(length - 1)[:, None]
        taken_B = self._taken[sentences_B]
        slots_BK = taken_B[:, None] + ended_BK.cumsum(dim=1) - 1
        rows = sentences_B[:, None]
        slots_BK = slots_BK.masked_fill(~ended_BK, self.beam).clamp(max=self.beam)
        self._lengths[rows, slots_BK] = length
        self._ranks[rows, slots_BK] = ranks_BK
        self._tokens[rows, slots_BK, :length] = ending.tokens[..., 1:]
        self._cumulative[rows, slots_BK, :length] = ending.cumulative
        if ending.attention is not None:
            if self._attention is None:
                shape = (*self._ranks.shape, self._longest, ending.attention.size(3))
                self._attention = ending.attention.new_zeros(shape)
            self._attention[rows, slots_BK, :length] = ending.attention
        self._taken[sentences_B] = (taken_B + ended_BK.sum(dim=1)).clamp(max=self.beam)

    def wanting(self, sentences_B: Tensor, number: int) -> Tensor:
        """(B,) True for sentences with free slots that may have more than `number` tokens before their end."""
        return self._taken[sentences_B].lt(self.beam) & self.limits_B[sentences_B].gt(number)

    def hypotheses(self) -> list[list[Hypothesis]]:
        """All of them, on the host, the best of each sentence first."""
        longest = int(self._lengths.max())
        cumulative = self._cumulative[..., :longest].cpu()
        positional = torch.diff(cumulative, dim=2, prepend=cumulative.new_zeros(*cumulative.shape[:2], 1))
        tokens = self._tokens[..., :longest].cpu()
        attention = None if self._attention is None else self._attention[:, :, :longest].cpu()
        results: list[list[Hypothesis]] = []
        for sentence, (taken, lengths, ranks) in enumerate(
            zip(self._taken.tolist(), self._lengths.tolist(), self._ranks.tolist(), strict=True)
        ):
            best_first = sorted(range(taken), key=ranks.__getitem__, reverse=True)
            results.append(
                [
                    Hypothesis(
                        tokens=tokens[sentence, slot, : lengths[slot]],
                        score=ranks[slot],
                        positional_scores=positional[sentence, slot, : lengths[slot]],
                        attention=None if attention is None else attention[sentence, slot, : lengths[slot]],
                    )
                    for slot in best_first
                ]
            )
        return results
