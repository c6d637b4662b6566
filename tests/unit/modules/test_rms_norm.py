"""The root-mean-square norm, beside PyTorch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seqkit.modules.rms_norm import RMSNorm


@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 8), (2, 3, 4, 8)])
def test_it_is_the_norm_with_its_gradients(shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    norm = RMSNorm(8, eps=1e-3).double()
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = F.rms_norm(x, (8,), norm.weight, 1e-3)
    torch.testing.assert_close(norm(x), expected)
    up = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(norm(x), (x, norm.weight), up), torch.autograd.grad(expected, (x, norm.weight), up)
    )


def test_zeros_stay_zeros_and_half_precision_works() -> None:
    norm = RMSNorm(4)
    assert norm(torch.zeros(2, 4)).abs().max() == 0
    half = norm.bfloat16()(torch.tensor([[1.0, -1.0, 1.0, -1.0]], dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert half.float().tolist() == [[1.0, -1.0, 1.0, -1.0]]
