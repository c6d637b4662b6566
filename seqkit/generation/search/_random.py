"""Random numbers that are a function of (seed, sentence, step, hypothesis) and of nothing else.

The same on every device and in every batch. Knows nothing of search.
"""

from __future__ import annotations

import torch
from torch import Tensor

_INCREMENT = 0x9E3779B97F4A7C15 - 2**64
_FIRST_FACTOR = 0xBF58476D1CE4E5B9 - 2**64
_SECOND_FACTOR = 0x94D049BB133111EB - 2**64


def stream_of(seed: int, sentences_B: Tensor) -> Tensor:
    """(B,) int64 state of each sentence's stream of numbers."""
    start = torch.tensor(seed % 2**63, dtype=torch.int64, device=sentences_B.device)
    return _mixed(_mixed(start) + sentences_B)


def random_numbers(stream_B: Tensor, step: int, count: int) -> Tensor:
    """(B, count) float64 numbers of one step, evenly distributed from 0 to below 1."""
    places = torch.arange(count, device=stream_B.device)
    mixed = _mixed(_mixed(stream_B + step).unsqueeze(1) + places)
    return _shifted(mixed, 11).double() * 2.0**-53


def _mixed(values: Tensor) -> Tensor:
    """The next output of SplitMix64 (Steele et al., 2014) for states that are `values`; int64 wraps around."""
    values = values + _INCREMENT
    values = (values ^ _shifted(values, 30)) * _FIRST_FACTOR
    values = (values ^ _shifted(values, 27)) * _SECOND_FACTOR
    return values ^ _shifted(values, 31)


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Moved right as an unsigned number."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
