"""What changes the next token's log-probabilities before candidates are chosen: bounds, bans, penalties, prefixes.

Knows nothing of models or of how candidates are chosen.
Axes: B sentences still decoded, K hypotheses of each, T tokens so far, P prefix length, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NEVER = float("-inf")

AllowedTokensFunction = Callable[[int, Tensor], Sequence[int]]
"""Given a sentence's id and the tokens of a hypothesis so far (T,), the beginning symbol first: the tokens that may
come next (fairseq's `prefix_allowed_tokens_fn`)."""


@dataclass
class Step:
    """Where the search stands.

    Attributes:
        number: tokens that every hypothesis has already, the beginning symbol not counted.
        sentences: (B,) int64, which sentences of the batch are still decoded.
        batch_ids: int64, the `id` of every sentence of the batch.
        tokens: (B, K, T) int64 tokens so far, the beginning symbol first.
        limits: (B,) int64, most tokens of each sentence before its end symbol.
        smallest_limit: no sentence of the batch has a smaller limit.
        prefix: (B,) int64, the token each sentence has to take now, the pad index where it is free; None where all are.
        pad, unk, end: indices of the special symbols.
        given: (B,) int64, how many tokens each sentence's prefix has; None where there are no prefixes.
    """

    number: int
    sentences: Tensor
    batch_ids: Tensor
    tokens: Tensor
    limits: Tensor
    smallest_limit: int
    prefix: Tensor | None
    pad: int
    unk: int
    end: int
    given: Tensor | None = None

    def free(self) -> Tensor | None:
        """(B,) True for sentences that may choose; None where all may."""
        return None if self.prefix is None else self.prefix.eq(self.pad)


class StepProcessor(ABC):
    """Base of all step processors."""

    @abstractmethod
    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        """Change `log_probs_BKV` (B, K, V) in place."""


class BannedSymbols(StepProcessor):
    """Symbols that are never generated: padding, and what a task adds."""

    def __init__(self, symbols: list[int]) -> None:
        self.symbols = symbols

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        for symbol in self.symbols:
            log_probs_BKV.select(-1, symbol).fill_(_NEVER)


class UnknownPenalty(StepProcessor):
    """Takes `penalty` (nats) from the unknown word's log-probability; a negative penalty favours it."""

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        log_probs_BKV.select(-1, step.unk).sub_(self.penalty)


class LengthBounds(StepProcessor):
    """At its limit a sentence can only end; before its shortest length it cannot, unless its prefix says so.

    Args:
        min_len: fewest tokens before the end symbol.
        exact: every sentence has as many tokens as its limit, and its end costs nothing (log-probability 0).
    """

    def __init__(self, min_len: int, *, exact: bool = False) -> None:
        self.min_len = min_len
        self.exact = exact

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        if step.number >= step.smallest_limit:
            at_limit_B = step.limits.le(step.number)
            ending = log_probs_BKV[..., step.end].clone()
            if self.exact:
                ending.masked_fill_(at_limit_B[:, None], 0.0)
            log_probs_BKV.masked_fill_(at_limit_B[:, None, None], _NEVER)
            log_probs_BKV[..., step.end] = ending
        if self.exact or step.number < self.min_len:
            too_short_B = step.limits.gt(step.number)
            free_B = step.free()
            if free_B is not None:
                too_short_B &= free_B
            log_probs_BKV[..., step.end].masked_fill_(too_short_B[:, None], _NEVER)


class NoRepeatNgram(StepProcessor):
    """No `size` tokens in a row occur twice in a hypothesis. The beginning symbol counts as a token; the end may recur.

    Sentences whose next token is given by a prefix are left alone.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        tokens_BKT = step.tokens
        if tokens_BKT.size(2) < self.size:
            return
        followers = tokens_BKT[..., self.size - 1 :]
        repeated = torch.ones_like(followers, dtype=torch.bool)
        for offset in range(self.size - 1):
            # the n-gram that began `offset` tokens before has the same word here as the one being written
            earlier = tokens_BKT[..., offset : offset + followers.size(2)]
            repeated &= earlier.eq(tokens_BKT[..., tokens_BKT.size(2) - self.size + 1 + offset].unsqueeze(-1))
        repeated &= followers.ne(step.end)
        free_B = step.free()
        if free_B is not None:
            repeated &= free_B[:, None, None]
        penalties = torch.zeros_like(followers, dtype=log_probs_BKV.dtype).masked_fill_(repeated, _NEVER)
        log_probs_BKV.scatter_add_(2, followers, penalties)


class AllowedTokens(StepProcessor):
    """Hypotheses go on only with tokens that a function allows (De Cao et al., 2021).

    A hypothesis that may not go on is dropped; a sentence that loses all of them has no output.

    Args:
        function: see `AllowedTokensFunction`.
    """

    def __init__(self, function: AllowedTokensFunction) -> None:
        self.function = function

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        banned = torch.ones(log_probs_BKV.shape, dtype=torch.bool)
        ids = step.batch_ids[step.sentences].tolist()
        for place, (number, rows) in enumerate(zip(ids, step.tokens.cpu(), strict=True)):
            for beam, tokens in enumerate(rows):
                if bool(tokens[1:].eq(step.end).any()):
                    continue  # the empty place of a hypothesis that has ended
                banned[place, beam, list(self.function(number, tokens))] = False
        log_probs_BKV.masked_fill_(banned.to(log_probs_BKV.device), _NEVER)


class PrefixTokens(StepProcessor):
    """A sentence that has a prefix takes the prefix's token; its score is the token's own log-probability."""

    def __call__(self, log_probs_BKV: Tensor, step: Step) -> None:
        if step.prefix is None:
            return
        index_BK1 = step.prefix[:, None, None].expand(-1, log_probs_BKV.size(1), 1)
        own = log_probs_BKV.gather(2, index_BK1)
        forced_B11 = step.prefix.ne(step.pad)[:, None, None]
        # a free sentence writes back what stands at its pad column
        log_probs_BKV.masked_fill_(forced_B11, _NEVER).scatter_(2, index_BK1, own)
