"""Joining rows of tokens into one padded matrix.

Knows nothing of sources, targets or datasets. Axes: B rows, T longest length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def collate_tokens(
    values: Sequence[Tensor],
    pad_idx: int,
    eos_idx: int | None = None,
    left_pad: bool = False,
    move_eos_to_beginning: bool = False,
    pad_to_length: int | None = None,
    pad_to_multiple: int = 1,
    pad_to_bsz: int | None = None,
) -> Tensor:
    """Pad rows to one length and stack them.

    Args:
        values: B tensors (t_i,) of one dtype.
        pad_idx: the padding value.
        eos_idx: what stands first with `move_eos_to_beginning`; the row's own last token for None.
        left_pad: pad on the left instead of on the right.
        move_eos_to_beginning: shift each row right by one: its last token goes, `eos_idx` comes first.
        pad_to_length: least length of the result.
        pad_to_multiple: round the length up to a multiple of this.
        pad_to_bsz: least number of rows; those beyond B are all padding.

    Returns:
        (max(B, pad_to_bsz), T) of the rows' dtype.
    """
    lengths = torch.tensor([len(row) for row in values])
    width = max(int(lengths.max()), pad_to_length or 0)
    width += -width % pad_to_multiple
    result = values[0].new_full((max(len(values), pad_to_bsz or 0), width), pad_idx)

    # All rows are copied at once: their tokens, end to end, go to the flat positions that they have in the matrix.
    tokens = torch.cat(list(values))
    ends = lengths.cumsum(0)
    starts = ends - lengths
    if move_eos_to_beginning:
        full = lengths > 0
        first = tokens[ends[full] - 1] if eos_idx is None else eos_idx
        tokens = tokens.roll(1)
        tokens[starts[full]] = first
    row_starts = torch.arange(len(values)) * width
    if left_pad:
        row_starts += width - lengths
    positions = torch.arange(len(tokens)) + (row_starts - starts).repeat_interleave(lengths)
    result.view(-1)[positions] = tokens
    return result
