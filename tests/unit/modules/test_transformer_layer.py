from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqkit.modules.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer


def feed_forward(layer: TransformerEncoderLayer | TransformerDecoderLayer, x: Tensor) -> Tensor:
    result: Tensor = layer.fc2(torch.relu(layer.fc1(x)))
    return result


def test_post_norm_encoder_layer_follows_its_equations() -> None:
    layer = TransformerEncoderLayer(8, 12, 2)
    x = torch.randn(2, 3, 8)
    attended = layer.self_attn_layer_norm(x + layer.self_attn(x)[0])
    expected = layer.final_layer_norm(attended + feed_forward(layer, attended))
    torch.testing.assert_close(layer(x), expected)


def test_pre_norm_encoder_layer_follows_its_equations() -> None:
    layer = TransformerEncoderLayer(8, 12, 2, normalize_before=True)
    x = torch.randn(2, 3, 8)
    attended = x + layer.self_attn(layer.self_attn_layer_norm(x))[0]
    expected = attended + feed_forward(layer, layer.final_layer_norm(attended))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("normalize_before", [False, True])
def test_decoder_layer_follows_its_equations(normalize_before: bool) -> None:
    layer = TransformerDecoderLayer(8, 12, 2, source_dim=6, normalize_before=normalize_before)
    assert layer.encoder_attn is not None
    x, source = torch.randn(2, 3, 8), torch.randn(2, 4, 6)
    result, weights = layer(x, source, need_weights=True)
    if normalize_before:
        x = x + layer.self_attn(layer.self_attn_layer_norm(x), is_causal=True)[0]
        x = x + layer.encoder_attn(layer.encoder_attn_layer_norm(x), source)[0]
        x = x + feed_forward(layer, layer.final_layer_norm(x))
    else:
        x = layer.self_attn_layer_norm(x + layer.self_attn(x, is_causal=True)[0])
        x = layer.encoder_attn_layer_norm(x + layer.encoder_attn(x, source)[0])
        x = layer.final_layer_norm(x + feed_forward(layer, x))
    torch.testing.assert_close(result, x)
    assert weights.shape == (2, 2, 3, 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3))


def test_parameters_have_fairseqs_names_in_fairseqs_order() -> None:
    layer = TransformerDecoderLayer(8, 12, 2)
    attention = ["k_proj", "v_proj", "q_proj", "out_proj"]
    expected = [
        *(f"self_attn.{name}" for name in attention),
        "self_attn_layer_norm",
        *(f"encoder_attn.{name}" for name in attention),
        "encoder_attn_layer_norm",
        "fc1",
        "fc2",
        "final_layer_norm",
    ]
    names = [name for name, _ in layer.named_parameters()]
    assert names == [f"{name}.{kind}" for name in expected for kind in ("weight", "bias")]
