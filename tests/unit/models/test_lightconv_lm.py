"""The language model of lightweight and dynamic convolutions: its options, and decoding step by step."""

from __future__ import annotations

import pytest
import torch

from seqkit.config.root import root_from_dict
from seqkit.errors import ConfigError
from seqkit.models.lightconv_lm import LightConvLanguageModel
from tests.unit.models.language_models import assert_decodes_as_a_whole, language_model

TINY = {
    "decoder_embed_dim": 8,
    "decoder_conv_dim": 8,
    "decoder_input_dim": 8,
    "decoder_output_dim": 8,
    "decoder_ffn_embed_dim": 12,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_kernel_size_list": [3, 5],
}
TOKENS = torch.tensor([[2, 5, 6, 7, 8, 9, 10], [2, 10, 11, 4, 4, 5, 1]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoder_conv_type": "lightweight"},
        {"decoder_conv_type": "lightweight", "weight_softmax": False, "decoder_glu": False},
        {"decoder_glu": False, "weight_softmax": False, "decoder_conv_dim": 12},
        {"decoder_learned_pos": True, "share_decoder_input_output_embed": True},
        {"no_token_positional_embeddings": True, "decoder_kernel_size_list": [1]},
        {"decoder_input_dim": 6, "decoder_output_dim": 10},
        {"adaptive_softmax_cutoff": "5,10"},
        {"adaptive_input": True, "adaptive_input_cutoff": "5,10", "adaptive_input_factor": 2.0},
        {"character_embeddings": True, "character_filters": "[(1, 4), (2, 4)]"},
    ],
)
def test_it_decodes_step_by_step(options: dict[str, object]) -> None:
    assert_decodes_as_a_whole(language_model("lightconv_lm", **{**TINY, **options}), TOKENS)


def test_padding_in_front_moves_no_position() -> None:
    model = language_model("lightconv_lm", **{**TINY, "decoder_kernel_size_list": [1]})
    padded = torch.cat((torch.ones(2, 3, dtype=torch.int64), TOKENS[:, :6]), dim=1)
    torch.testing.assert_close(model(padded).logits[:, 3:], model(TOKENS[:, :6]).logits)
    assert_decodes_as_a_whole(model, padded)


def test_one_kernel_width_serves_all_layers() -> None:
    model = language_model("lightconv_lm", **{**TINY, "decoder_kernel_size_list": [4]})
    assert isinstance(model, LightConvLanguageModel)
    assert [layer.conv.kernel_size for layer in model.decoder.layers] == [4, 4]


def test_widths_follow_the_model_s() -> None:
    mapping = {
        "task": {"_name": "language_modeling", "tokens_per_sample": 33},
        "model": {"_name": "lightconv_lm", "decoder_embed_dim": 24, "decoder_output_dim": 8},
    }
    config = root_from_dict(mapping, missing_allowed=True).model
    widths = [vars(config)[f"decoder_{name}_dim"] for name in ("conv", "input", "output")]
    assert widths == [24, 24, 8]
    assert language_model("lightconv_lm", **vars(config)).max_positions() == 33


def test_every_dropout_is_heard_in_training() -> None:
    for option in ("dropout", "input_dropout", "relu_dropout", "weight_dropout"):
        silent = dict.fromkeys(("dropout", "input_dropout", "relu_dropout", "weight_dropout"), 0.0)
        model = language_model("lightconv_lm", **TINY, **{**silent, option: 0.5}).train()
        assert not torch.allclose(model(TOKENS).logits, model(TOKENS).logits), option


def test_options_that_do_not_fit_are_all_told() -> None:
    with pytest.raises(ConfigError) as error:
        language_model(
            "lightconv_lm",
            **{**TINY, "decoder_attention_heads": 3, "decoder_kernel_size_list": [3, 5, 7], "tie_adaptive_proj": True},
        )
    text = str(error.value)
    assert "decoder_conv_dim=8 is not divisible by model.decoder_attention_heads=3; make it 9" in text
    assert "gives 3 widths for model.decoder_layers=2" in text
    assert "tie_adaptive_proj=true needs model.tie_adaptive_weights=true" in text
    with pytest.raises(ConfigError, match="decoder_normalize_before=false cannot be used: the model does not train"):
        language_model("lightconv_lm", **TINY, decoder_normalize_before=False)
