"""Convolutions with one kernel per head, beside the sum that defines them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.modules.head_convolution import check_heads, convolve_each, convolve_shared, with_context


def by_definition(x: Tensor, weight: Tensor) -> Tensor:
    """`x` (B, T + K - 1, C), `weight` (B, T, H, K)."""
    batch, length, heads, width = weight.shape
    channels = x.size(2)
    result = torch.zeros(batch, length, channels, dtype=x.dtype)
    for t in range(length):
        for k in range(width):
            result[:, t] += weight[:, t, :, k].repeat_interleave(channels // heads, 1) * x[:, t + k]
    return result


@pytest.mark.parametrize("width", [1, 3, 9])
@pytest.mark.parametrize("length", [1, 2, 50, 150])
def test_both_convolutions_are_what_they_say(length: int, width: int) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, length + width - 1, 6, dtype=torch.float64, requires_grad=True)
    shared = torch.randn(3, width, dtype=torch.float64, requires_grad=True)
    each = torch.randn(2, length, 3, width, dtype=torch.float64, requires_grad=True)
    for weight, ours in ((shared, convolve_shared), (each, convolve_each)):
        expected = by_definition(x, weight.expand(2, length, 3, width))
        found = ours(x, weight)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(
            torch.autograd.grad(found.square().sum(), (x, weight)),
            torch.autograd.grad(expected.square().sum(), (x, weight)),
        )


def test_context_is_put_in_front_and_zeros_behind() -> None:
    x = torch.ones(1, 2, 1)
    assert with_context(x, None, 1, 3).flatten().tolist() == [0, 1, 1, 0]
    assert with_context(x, torch.full((1, 2, 1), 5.0), 2, 3).flatten().tolist() == [5, 5, 1, 1]
    assert with_context(x, torch.full((1, 1, 1), 5.0), 1, 3).flatten().tolist() == [5, 1, 1, 0]


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="10 channels cannot be shared out to 3 heads"):
        check_heads(10, 3)
