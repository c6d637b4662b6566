"""Normalised weights: the length is g's, the direction v's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seqkit.modules.weight_norm import WeightNormConvolution, WeightNormLinear


def test_a_linear_map_is_that_of_its_normalised_weight() -> None:
    torch.manual_seed(1)
    layer = WeightNormLinear(4, 3)
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight_g", "weight_v"]
    assert layer.weight_g.shape == (3, 1)
    torch.testing.assert_close(layer.weight, layer.weight_v)
    with torch.no_grad():
        layer.weight_g.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        layer.weight_v.mul_(7)
        layer.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(layer.weight.norm(dim=1), torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(2, 5, 4)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("kernel_size", [1, 3, 6])
def test_a_convolution_is_the_sum_over_its_kernel(kernel_size: int) -> None:
    torch.manual_seed(1)
    layer = WeightNormConvolution(3, 4, kernel_size)
    assert layer.weight_g.shape == (1, 1, 4)
    with torch.no_grad():
        layer.bias.normal_()
    x = torch.randn(2, 6, 3)
    padded = torch.cat((torch.zeros(2, kernel_size - 1, 3), x), dim=1)
    expected = sum(padded[:, k : k + 6] @ layer.weight[k] for k in range(kernel_size)) + layer.bias
    torch.testing.assert_close(layer(x, left=kernel_size - 1), expected)
    # one output alone, as in a step of decoding
    torch.testing.assert_close(layer(padded[:, -kernel_size:], left=0), expected[:, -1:])


def test_weights_start_so_that_dropout_is_made_up_for() -> None:
    torch.manual_seed(1)
    assert WeightNormLinear(400, 400, dropout=0.75).weight_v.std().item() == pytest.approx(0.5 / 20, rel=0.02)
    assert WeightNormConvolution(100, 200, 4).weight_v.std().item() == pytest.approx(2 / 20, rel=0.02)
