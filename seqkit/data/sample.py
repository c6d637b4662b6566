"""The shape of a batch: the nested dictionary that datasets make and models and criterions read.

Axes: B batch, T target length, S source length.
"""

from __future__ import annotations

from typing import Any, TypedDict

from torch import Tensor
from typing_extensions import NotRequired


class NetInput(TypedDict):
    """What is passed to a model as keyword arguments.

    `src_tokens` (B, S) int64, padded with the pad index; `src_lengths` (B,) int64, true lengths with EOS;
    `prev_output_tokens` (B, T) int64, the target shifted right by one (EOS first).
    """

    src_tokens: Tensor
    src_lengths: Tensor
    prev_output_tokens: NotRequired[Tensor]


class Sample(TypedDict):
    """One batch. Empty batches (a shard that ran out) are the empty dictionary `{}`.

    `id` (B,) int64, dataset indices; `target` (B, T) int64, padded; `ntokens`: target tokens that are not
    padding (source tokens where there is no target); `nsentences`: B.
    """

    id: Tensor
    nsentences: int
    ntokens: int
    net_input: NetInput
    target: NotRequired[Tensor | None]
    alignments: NotRequired[Any]
    align_weights: NotRequired[Any]
    constraints: NotRequired[Any]
