"""The lightweight convolution and its sibling, whose kernels each position predicts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seqkit.modules.dynamic_convolution import DynamicConvolution
from seqkit.modules.lightweight_convolution import LightweightConvolution

KINDS = [LightweightConvolution, DynamicConvolution]


def test_the_lightweight_convolution_is_a_depthwise_one_with_shared_weights() -> None:
    torch.manual_seed(1)
    layer = LightweightConvolution(6, 3, padding_left=2, num_heads=2, weight_softmax=True)
    assert layer.weight.shape == (2, 1, 3)
    x = torch.randn(2, 5, 6)
    kernel = F.softmax(layer.weight, dim=-1).repeat_interleave(3, 0)
    expected = F.conv1d(F.pad(x.transpose(1, 2), (2, 0)), kernel, groups=6).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)


def test_the_dynamic_convolution_weighs_by_its_own_position() -> None:
    torch.manual_seed(1)
    layer = DynamicConvolution(4, 3, padding_left=1, num_heads=2)
    x = torch.randn(1, 4, 4)
    weight = layer.weight_linear(x).view(1, 4, 2, 3)
    around = F.pad(x, (0, 0, 1, 1))
    expected = torch.stack(
        [sum(weight[0, t, :, k].repeat_interleave(2) * around[0, t + k] for k in range(3)) for t in range(4)]
    )
    torch.testing.assert_close(layer(x)[0], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("softmax", [True, False])
def test_what_came_before_may_be_given(kind: type, softmax: bool) -> None:
    torch.manual_seed(1)
    layer = kind(6, 4, padding_left=3, num_heads=3, weight_softmax=softmax)
    x = torch.randn(2, 7, 6)
    whole = layer(x)
    torch.testing.assert_close(layer(x[:, 4:], x[:, 1:4]), whole[:, 4:])
    torch.testing.assert_close(layer(x[:, 6:], x[:, 3:6]), whole[:, 6:])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_dropped_in_training_alone(kind: type) -> None:
    torch.manual_seed(1)
    layer = kind(64, 4, padding_left=3, num_heads=1, weight_softmax=True, weight_dropout=0.5)
    x = torch.ones(3, 50, 64)
    dropped = layer(x)
    assert dropped.std() > 0.1
    # each position on its own, all channels of the head alike, the expected value unchanged
    torch.testing.assert_close(dropped[..., 0], dropped[..., 63])
    assert dropped[:, 3:].mean().item() == pytest.approx(1.0, abs=0.15)
    torch.testing.assert_close(layer.eval()(x)[:, 3:], x[:, 3:])


@pytest.mark.parametrize("kind", KINDS)
def test_heads_must_divide_the_channels(kind: type) -> None:
    with pytest.raises(ValueError, match="5 channels cannot be shared out to 2 heads"):
        kind(5, 3, padding_left=2, num_heads=2)


def test_dynamic_kernels_begin_as_in_fairseq():
    """Its linear map is drawn as torch draws one, not by Xavier's rule as the other maps of these models are."""
    torch.manual_seed(2)
    weight = DynamicConvolution(64, 3, padding_left=2, num_heads=2).weight_linear.weight
    assert 0.9 / 8 < float(weight.detach().abs().max()) <= 1 / 8
