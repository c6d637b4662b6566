"""The modern language model: beside a plain reference, with its masks, and decoding step by step."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.errors import ConfigError
from seqkit.models.decoder_lm import DecoderLanguageModel
from tests.unit.models.language_models import assert_decodes_as_a_whole, language_model

TINY = {"decoder_embed_dim": 16, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_embed_dim": 24}
TOKENS = torch.tensor([[2, 5, 6, 7, 8, 9, 10, 11], [2, 10, 11, 4, 4, 5, 6, 7]])
# EOS (2) begins a document.
PACKED = torch.tensor([[4, 5, 2, 7, 8, 9, 2, 11], [2, 10, 11, 4, 2, 2, 6, 7]])


def model_of(**options: object) -> DecoderLanguageModel:
    model = language_model("decoder_lm", **{**TINY, "init_std": 0.2, **options})
    assert isinstance(model, DecoderLanguageModel)
    return model


def reference(model: DecoderLanguageModel, tokens: Tensor, heads: int, groups: int, theta: float) -> Tensor:
    """The model written out, from its parameters alone."""
    weights = dict(model.named_parameters())

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"decoder.{name}.weight"]

    x = weights["decoder.embed_tokens.weight"][tokens]
    batch, length, width = x.shape
    head = width // heads
    angle = torch.arange(length).unsqueeze(1) * theta ** -(torch.arange(0, head, 2) / head)
    for place in range(len(model.decoder.layers)):
        layer = f"layers.{place}"
        projected = norm(x, f"{layer}.self_attn_norm") @ weights[f"decoder.{layer}.self_attn.qkv_proj.weight"].t()
        projected = projected.view(batch, length, heads + 2 * groups, head).transpose(1, 2)
        pairs = torch.complex(projected[..., : head // 2], projected[..., head // 2 :])
        turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle))
        turned = torch.cat((turned[..., 0], turned[..., 1]), dim=-1)
        queries = turned[:, :heads]
        keys = turned[:, heads : heads + groups].repeat_interleave(heads // groups, 1)
        values = projected[:, heads + groups :].repeat_interleave(heads // groups, 1)
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(head)
        scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
        context = (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)
        x = x + context @ weights[f"decoder.{layer}.self_attn.out_proj.weight"].t()
        both = norm(x, f"{layer}.feed_forward_norm") @ weights[f"decoder.{layer}.feed_forward.gate_up_proj.weight"].t()
        gate, up = both.chunk(2, dim=-1)
        x = x + (F.silu(gate) * up) @ weights[f"decoder.{layer}.feed_forward.down_proj.weight"].t()
    return norm(x, "norm") @ weights["decoder.output_projection.weight"].t()


@pytest.mark.parametrize(("groups", "theta"), [(4, 10000.0), (2, 100.0), (1, 500000.0)])
def test_it_is_what_the_papers_say(groups: int, theta: float) -> None:
    model = model_of(decoder_kv_heads=groups, rope_theta=theta)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1, 0.2)
    expected = reference(model, TOKENS, 4, groups, theta)
    torch.testing.assert_close(model(TOKENS).logits, expected, atol=1e-5, rtol=1e-5)
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoder_kv_heads": 2, "qk_norm": True},
        {"decoder_kv_heads": 1, "decoder_head_dim": 6, "share_decoder_input_output_embed": True},
        {"document_mask": True},
        {"sliding_window": 3},
        {"sliding_window": 2, "document_mask": True, "decoder_kv_heads": 2},
        {"sliding_window": 1},
        {"rope_scaling": "linear", "rope_factor": 4.0},
        {"rope_scaling": "dynamic", "rope_factor": 4.0, "rope_original_positions": 8},
        {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_positions": 4},
    ],
)
@pytest.mark.parametrize("tokens", [TOKENS, PACKED], ids=["one", "packed"])
def test_it_decodes_step_by_step(options: dict[str, object], tokens: Tensor) -> None:
    assert_decodes_as_a_whole(model_of(**options), tokens)


def test_dynamic_positions_are_those_of_a_row_whatever_is_beside_it() -> None:
    model = model_of(rope_scaling="dynamic", rope_factor=4.0, rope_original_positions=3)
    pads = torch.ones(1, 3, dtype=torch.int64)
    rows = torch.cat((TOKENS[:1], torch.cat((pads, TOKENS[1:, :5]), dim=1)))

    def decoded(tokens: Tensor, room: int, cuts: tuple[int, ...]) -> Tensor:
        cache = model.decoder.new_cache(len(tokens), room)
        pieces = zip((0, *cuts), cuts, strict=False)
        return torch.cat([model.decoder(tokens[:, start:end], cache=cache).logits for start, end in pieces], dim=1)

    by_one = tuple(range(1, 9))
    both = decoded(rows, 8, by_one)
    torch.testing.assert_close(both[0], decoded(rows[:1], 100, by_one)[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both[1, 3:], decoded(rows[1:, 3:], 50, by_one[:5])[0], atol=1e-5, rtol=1e-5)
    # As long as the text is not stretched, and in a piece that is read at once, they are those of the whole text.
    torch.testing.assert_close(both[:1, :3], model(rows[:1, :3]).logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(decoded(rows, 20, (8,))[0], model(rows[:1]).logits[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(both[0], model(rows[:1]).logits[0], atol=1e-5)


def test_dynamic_positions_are_stretched_by_the_longest_document() -> None:
    options = {"rope_scaling": "dynamic", "rope_factor": 4.0, "rope_original_positions": 4, "document_mask": True}
    found = model_of(**options)(PACKED).logits
    for start, end in ((0, 2), (2, 6), (6, 8)):
        alone = model_of(**options)(PACKED[:1, start:end]).logits
        torch.testing.assert_close(found[:1, start:end], alone, atol=1e-5, rtol=1e-5)


def test_leading_positions_can_be_left_out() -> None:
    for options in ({}, {"decoder_kv_heads": 2, "qk_norm": True}, {"sliding_window": 3}, {"document_mask": True}):
        model = model_of(**options)
        for tokens in (TOKENS, PACKED, torch.cat((torch.ones(2, 2, dtype=torch.int64), PACKED), dim=1)):
            whole = model(tokens)
            for skip in (1, 3, tokens.size(1) - 1):
                found = model(tokens, skip=skip).logits
                torch.testing.assert_close(found, whole.logits[:, skip:], atol=1e-5, rtol=1e-5)


def test_padding_on_either_side_changes_nothing() -> None:
    model = model_of(document_mask=True)
    pads = torch.ones(2, 3, dtype=torch.int64)
    padded = torch.cat((pads, PACKED, pads), dim=1)
    torch.testing.assert_close(model(padded).logits[:, 3:-3], model(PACKED).logits, atol=1e-5, rtol=1e-5)
    assert_decodes_as_a_whole(model, padded)


def test_documents_in_one_block_are_as_if_alone() -> None:
    model, across = model_of(document_mask=True), model_of()
    found = model(PACKED).logits
    for start, end in ((0, 2), (2, 6), (6, 8)):
        alone = model(PACKED[:1, start:end]).logits
        torch.testing.assert_close(found[:1, start:end], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(across(PACKED).logits[:, :2], found[:, :2], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(across(PACKED).logits[0, 3], found[0, 3])


def test_a_window_bounds_what_is_seen() -> None:
    model = model_of(sliding_window=3, decoder_layers=1)
    changed = TOKENS.clone()
    changed[:, 2] = 20
    difference = (model(changed).logits - model(TOKENS).logits).abs().amax(dim=(0, 2))
    assert (difference > 1e-4).nonzero().flatten().tolist() == [2, 3, 4]


def test_a_window_bounds_the_cache() -> None:
    model = model_of(sliding_window=4, tokens_per_sample=200)
    cache = model.decoder.new_cache(1, 200)
    for _ in range(200):
        model.decoder(torch.tensor([[5]]), cache=cache)
    assert cache.length == 200
    assert cache.stored <= 9
    assert max(layer.buffer.size(3) for layer in cache.self_attention if layer.buffer is not None) <= 32


def test_activation_checkpointing_gives_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = model_of(checkpoint_activations=checkpointing, document_mask=True).train()
        model(PACKED).logits.square().mean().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_parameters_are_drawn_as_asked() -> None:
    options = {"decoder_embed_dim": 256, "decoder_layers": 8, "decoder_ffn_embed_dim": None}
    for scaled in (True, False):
        model = model_of(**options, init_std=0.04, scale_residual_init=scaled)
        deviations = {
            name.split(".", 3)[-1]: parameter.std().item()
            for name, parameter in model.named_parameters()
            if name.startswith("decoder.layers.3") and parameter.dim() == 2
        }
        last = 0.01 if scaled else 0.04
        assert deviations == pytest.approx(
            {
                "self_attn.qkv_proj.weight": 0.04,
                "self_attn.out_proj.weight": last,
                "feed_forward.gate_up_proj.weight": 0.04,
                "feed_forward.down_proj.weight": last,
            },
            rel=0.02,
        )
        assert model.decoder.embed_tokens.weight[1].abs().max() == 0, "padding is zero"
        assert model.decoder.layers[0].feed_forward.down_proj.in_features == 704


def test_dropouts_are_heard_in_training_alone() -> None:
    for option in ("dropout", "attention_dropout", "activation_dropout"):
        model = model_of(**{option: 0.5})
        torch.testing.assert_close(model(TOKENS).logits, model(TOKENS).logits)
        model.train()
        assert not torch.allclose(model(TOKENS).logits, model(TOKENS).logits), option


def test_features_and_projection_are_the_logits() -> None:
    model = model_of()
    linear = model.output_linear()
    assert linear is not None
    torch.testing.assert_close(linear(model(TOKENS, features_only=True).logits), model(TOKENS).logits)
    with pytest.raises(TypeError, match="made by its new_cache"):
        model.decoder(TOKENS, cache=language_model("lstm_lm").decoder.new_cache(2, 8))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"decoder_kv_heads": 3}, "decoder_kv_heads=3 does not divide model.decoder_attention_heads=4"),
        ({"decoder_embed_dim": 18}, "decoder_embed_dim=18 is not divisible by model.decoder_attention_heads=4"),
        ({"decoder_embed_dim": 12}, "a head's width is 3"),
        ({"decoder_head_dim": 5}, "a head's width is 5"),
        ({"rope_factor": 2.0}, "rope_factor=2.0 needs model.rope_scaling"),
        ({"rope_scaling": "yarn", "rope_factor": 2.0}, "rope_scaling=yarn needs model.rope_original_positions"),
        ({"rope_low_frequency_factor": 4.0}, "rope_low_frequency_factor=4.0 must be below"),
        ({"rope_beta_slow": 40.0}, "rope_beta_slow=40.0 must be below"),
        ({"rope_scaling": "longer"}, "'longer' is not one of none, linear"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        model_of(**options)
