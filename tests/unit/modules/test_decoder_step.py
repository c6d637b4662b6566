from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqkit.modules.attention import padding_mask_to_bias
from seqkit.modules.cache import TransformerCache
from seqkit.modules.decoder_step import DecoderLayerStep, mask_for_step
from seqkit.modules.packed_linear import pack_linears
from seqkit.modules.transformer_layer import TransformerDecoderLayer

CHUNKS = [(0, 1), (1, 2), (2, 4), (4, 5)]


def layer_of(**options: Any) -> TransformerDecoderLayer:
    torch.manual_seed(0)
    layer = TransformerDecoderLayer(8, 12, 2, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer.eval()


def in_steps(
    layer: TransformerDecoderLayer, x: Tensor, source: Tensor | None, source_mask: Tensor | None = None, beam: int = 1
) -> tuple[Tensor, Tensor | None]:
    """All positions of x (N, T, C), in chunks of several and of one, and the weights of attention to the source."""
    cache = TransformerCache(1, x.size(0), x.size(1), beam=beam, device="cpu")
    if source is not None:
        cache.set_source(source.size(0), source_mask)
    step = DecoderLayerStep(layer, cache, 0, source)
    parts, weights = [], []
    for start, end in CHUNKS:
        mask, _ = cache.advance(torch.zeros(x.size(0), end - start, dtype=torch.bool), x.dtype)
        if end - start == 1:
            part, seen = step(x[:, start], start, mask_for_step(mask, 2), True)
            part = part.unsqueeze(1)
        else:
            part, seen = step(x[:, start:end], start, mask, True)
        parts.append(part)
        weights.append(seen)
    return torch.cat(parts, 1), None if weights[0] is None else torch.cat([w for w in weights if w is not None], 2)


@torch.no_grad()
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize_before": True},
        {"activation_name": "gelu", "source_dim": 6},
        {"scale_heads": True, "scale_attn": True, "scale_fc": True, "scale_resids": True},
    ],
)
def test_steps_equal_one_pass(options: dict[str, Any], beam: int) -> None:
    layer = layer_of(**options)
    x, source = torch.randn(6, 5, 8), torch.randn(2, 4, options.get("source_dim", 8))
    mask = padding_mask_to_bias(torch.tensor([[False] * 4, [False] * 2 + [True] * 2]), x.dtype)
    expected, expected_weights = layer(x, source, source_mask=mask, need_weights=True)
    found, weights = in_steps(layer, x, source, mask, beam)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_layer_without_a_source_equals_one_pass() -> None:
    layer = layer_of(cross_attention=False)
    x = torch.randn(2, 5, 8)
    found, weights = in_steps(layer, x, None)
    torch.testing.assert_close(found, layer(x)[0], rtol=1e-5, atol=1e-5)
    assert weights is None


@torch.no_grad()
def test_one_row_stands_for_all_at_the_first_position() -> None:
    layer = layer_of()
    x, source = torch.randn(2, 2, 8).repeat_interleave(3, 0), torch.randn(2, 4, 8)
    cache = TransformerCache(1, 6, 2, beam=3, device="cpu")
    cache.set_source(2, None)
    step = DecoderLayerStep(layer, cache, 0, source)
    mask, _ = cache.advance(torch.zeros(2, 1, dtype=torch.bool), x.dtype)
    first, _ = step(x[::3, 0], 0, mask_for_step(mask, 2))
    cache.reorder(torch.tensor([2, 1, 0, 3, 3, 5]))
    mask, _ = cache.advance(torch.zeros(6, 1, dtype=torch.bool), x.dtype)
    second, _ = step(x[:, 1], 1, mask_for_step(mask, 2))
    expected, _ = layer(x, source)
    torch.testing.assert_close(first, expected[::3, 0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second, expected[:, 1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_packed_and_hooked_layers_give_the_same() -> None:
    torch.manual_seed(0)
    layer = TransformerDecoderLayer(512, 1024, 8).eval()
    x, source = torch.randn(4, 5, 512), torch.randn(2, 4, 512)
    expected, _ = in_steps_of(layer, x, source)
    calls: list[str] = []
    layer.fc1.register_forward_hook(lambda *_: calls.append("fc1"))
    pack_linears(layer)
    assert layer.self_attn.joined is not None
    found, _ = in_steps_of(layer, x, source)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert calls == ["fc1"] * len(CHUNKS)


def in_steps_of(layer: TransformerDecoderLayer, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor | None]:
    cache = TransformerCache(1, x.size(0), x.size(1), device="cpu")
    cache.set_source(source.size(0), None)
    step = DecoderLayerStep(layer, cache, 0, source)
    parts = []
    for start, end in CHUNKS:
        mask, _ = cache.advance(torch.zeros(x.size(0), end - start, dtype=torch.bool), x.dtype)
        parts.append(step(x[:, start:end], start, mask)[0])
    return torch.cat(parts, 1), None


def test_dropout_that_is_kept_acts() -> None:
    layer = layer_of(dropout=0.5, attention_dropout=0.5, activation_dropout=0.5).train()
    x, source = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    with torch.no_grad():
        once, again = in_steps(layer, x, source)[0], in_steps(layer, x, source)[0]
    assert not torch.equal(once, again)


def test_rows_must_be_a_multiple_of_the_sources() -> None:
    with pytest.raises(ValueError, match="3 decoder rows cannot be shared out to 2 sources"):
        DecoderLayerStep(layer_of(), TransformerCache(1, 3, 5, device="cpu"), 0, torch.randn(2, 4, 8))


def test_the_mask_of_a_step_is_filled_up() -> None:
    mask = mask_for_step(torch.zeros(2, 1, 3, 17), 4)
    assert mask.shape == (8, 3, 32)
    assert bool((mask[:, :, :17] == 0).all())
    assert bool((mask[:, :, 17:] < -1e4).all())
