"""Rotary positions: turns of channel pairs, and the ways to stretch them."""

from __future__ import annotations

import math

import pytest
import torch

from seqkit.modules.rotary_embedding import RotaryEmbedding, RotaryScaling


def test_pairs_of_channels_are_turned_by_their_angles() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 5, 3, 8)
    turned = RotaryEmbedding(8, theta=100.0)(5)(x)
    pairs, result = torch.complex(x[..., :4], x[..., 4:]), torch.complex(turned[..., :4], turned[..., 4:])
    angles = torch.arange(5.0).unsqueeze(1) * 100.0 ** -(torch.arange(0, 8, 2) / 8)
    torch.testing.assert_close(result, pairs * torch.polar(torch.ones(5, 4), angles).unsqueeze(1))


def test_products_depend_on_the_distance_alone() -> None:
    torch.manual_seed(1)
    rotary = RotaryEmbedding(16)
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(at: int, other: int) -> float:
        turned_query = rotary(600, torch.tensor([[at]]))(query)
        turned_key = rotary(600, torch.tensor([[other]]))(key)
        return float((turned_query * turned_key).sum())

    assert product(7, 3) == pytest.approx(product(504, 500), abs=1e-3)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-2)


def test_the_gradient_is_turned_back() -> None:
    rotation = RotaryEmbedding(4)(3)
    x = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotation, (x,))


def test_positions_and_a_table_that_grows() -> None:
    rotary = RotaryEmbedding(4)
    x = torch.randn(1, 2, 1, 4)
    first = rotary(2)(x)
    far = rotary(1000, torch.tensor([[0, 999]]))(x)
    torch.testing.assert_close(far[:, :1], first[:, :1])
    assert not torch.allclose(far[:, 1:], first[:, 1:])
    assert not rotary.state_dict(), "the table is computed, not saved"


def test_linear_and_ntk_scaling() -> None:
    plain = RotaryEmbedding(8).frequencies()
    linear = RotaryEmbedding(8, scaling=RotaryScaling("linear", 4.0)).frequencies()
    torch.testing.assert_close(linear, plain / 4)
    ntk = RotaryEmbedding(8, scaling=RotaryScaling("ntk", 4.0)).frequencies()
    assert ntk[0] == plain[0], "the fastest pair is kept"
    torch.testing.assert_close(ntk[-1], plain[-1] / 4, msg="the slowest one is stretched by the factor")


@pytest.mark.parametrize(
    "scaling",
    [RotaryScaling("llama3", 8.0, original=64), RotaryScaling("yarn", 8.0, original=64, beta_fast=8.0)],
)
def test_high_frequencies_are_kept_and_low_ones_stretched(scaling: RotaryScaling) -> None:
    plain = RotaryEmbedding(32).frequencies()
    ratio = plain / RotaryEmbedding(32, scaling=scaling).frequencies()
    assert ratio[0].item() == pytest.approx(1.0)
    assert ratio[-1].item() == pytest.approx(8.0)
    assert (ratio.diff() >= -1e-5).all()
    assert ((ratio > 1.01) & (ratio < 7.9)).any(), "there is a ramp between them"


def test_yarn_makes_queries_and_keys_longer() -> None:
    scaling = RotaryScaling("yarn", 4.0, original=32)
    x = torch.randn(1, 3, 1, 8)
    turned = RotaryEmbedding(8, scaling=scaling)(3)(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1) * (0.1 * math.log(4) + 1))
    fixed = RotaryScaling("yarn", 4.0, original=32, attention_factor=2.0)
    torch.testing.assert_close(RotaryEmbedding(8, scaling=fixed)(3)(x).norm(dim=-1), 2 * x.norm(dim=-1))


def test_dynamic_scaling_goes_by_the_length_of_each_text() -> None:
    rotary = RotaryEmbedding(8, scaling=RotaryScaling("dynamic", 2.0, original=4))
    plain = RotaryEmbedding(8)
    x = torch.randn(1, 6, 1, 8).expand(2, -1, -1, -1)
    torch.testing.assert_close(rotary(4)(x[:, :4]), plain(4)(x[:, :4]))
    found = rotary(6, None, torch.tensor([4, 6]))(x)
    torch.testing.assert_close(found[0], plain(6)(x)[0])
    stretched = RotaryEmbedding(8, theta=10000.0 * (2 * 6 / 4 - 1) ** (8 / 6))
    torch.testing.assert_close(found[1], stretched(6)(x)[1])
    torch.testing.assert_close(rotary(6)(x)[1], found[1], msg="without lengths, that of the batch counts")


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="width 3 must be even"):
        RotaryEmbedding(3)
    with pytest.raises(ValueError, match="unknown rotary scaling 'twice'; there are: none, linear"):
        RotaryEmbedding(4, scaling=RotaryScaling("twice"))


def test_training_goes_on_with_tables_that_were_made_while_decoding() -> None:
    rotary = RotaryEmbedding(8)
    x = torch.randn(1, 5, 2, 8)
    with torch.inference_mode():
        rotary(5)(x)
    trained = x.clone().requires_grad_()
    rotary(5)(trained).sum().backward()
    assert trained.grad is not None
