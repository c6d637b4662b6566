"""The gated feed-forward map, beside its formula."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from seqkit.modules.gated_feed_forward import GatedFeedForward


def test_it_is_swiglu() -> None:
    torch.manual_seed(1)
    layer = GatedFeedForward(4, 6)
    x = torch.randn(2, 3, 4)
    gate, up = layer.gate_up_proj.weight.chunk(2)
    torch.testing.assert_close(layer(x), (F.silu(x @ gate.t()) * (x @ up.t())) @ layer.down_proj.weight.t())


def test_other_activations_and_dropout() -> None:
    torch.manual_seed(1)
    layer = GatedFeedForward(4, 6, activation_name="relu", dropout=0.5)
    x = torch.randn(2, 3, 4)
    gate, up = layer.gate_up_proj.weight.chunk(2)
    expected = (F.relu(x @ gate.t()) * (x @ up.t())) @ layer.down_proj.weight.t()
    assert not torch.allclose(layer(x), expected)
    torch.testing.assert_close(layer.eval()(x), expected)
