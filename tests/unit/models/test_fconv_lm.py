"""The gated convolutional language model: its layers, and decoding step by step."""

from __future__ import annotations

import math
import sys

import pytest
import torch
import torch.nn.functional as F

from seqkit.errors import ConfigError
from seqkit.models._convolutional_stack import ConvolutionSpec, parse_convolutions
from seqkit.models.fconv_lm import FConvLanguageModel
from tests.unit.models.language_models import assert_decodes_as_a_whole, language_model

TOKENS = torch.tensor([[2, 5, 6, 7, 8, 9, 10], [2, 10, 11, 4, 4, 5, 6]])


def test_layers_are_read_from_text() -> None:
    specs = parse_convolutions("[(8, 3)] * 2 + [(4, 1, 2), (4, 2, 0)]")
    assert specs == [ConvolutionSpec(8, 3, 1)] * 2 + [ConvolutionSpec(4, 1, 2), ConvolutionSpec(4, 2, 0)]


@pytest.mark.parametrize(
    "options",
    [
        {"decoder_layers": "[(8, 3)] * 2 + [(6, 1)]"},
        {"decoder_layers": "[(8, 4), (4, 1, 0), (4, 3, 0), (8, 1, 3)]"},
        {"decoder_layers": "[(8, 3)]", "criterion": "adaptive_loss", "adaptive_softmax_cutoff": "5,10"},
    ],
)
def test_it_decodes_step_by_step(options: dict[str, object]) -> None:
    assert_decodes_as_a_whole(language_model("fconv_lm", decoder_embed_dim=6, **options), TOKENS)


def test_a_layer_is_a_gated_convolution_with_a_residual() -> None:
    model = language_model("fconv_lm", decoder_embed_dim=6, decoder_layers="[(8, 3), (4, 2, 2)]")
    assert isinstance(model, FConvLanguageModel)
    decoder = model.decoder
    first = decoder.fc1(decoder.embed_tokens(TOKENS))
    outputs = [first]
    for convolution, projection, back in zip(decoder.convolutions, decoder.projections, (1, 2), strict=True):
        weight = convolution.weight.permute(2, 1, 0)
        padded = F.pad(outputs[-1].transpose(1, 2), (weight.size(2) - 1, 0))
        gated = F.glu(F.conv1d(padded, weight, convolution.bias).transpose(1, 2), dim=-1)
        outputs.append((gated + projection(outputs[-back])) * math.sqrt(0.5))
    assert decoder.fc2 is not None
    assert decoder.fc3 is not None
    torch.testing.assert_close(model(TOKENS).logits, decoder.fc3(decoder.fc2(outputs[-1])))


def test_texts_may_have_any_length_unless_bounded() -> None:
    assert language_model("fconv_lm", decoder_layers="[(4, 2)]").max_positions() == sys.maxsize
    assert language_model("fconv_lm", decoder_layers="[(4, 2)]", max_target_positions=9).max_positions() == 9


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[(8, 3)", "is not a list such as"),
        ("[]", "at least one layer"),
        ("[8]", "8 is not \\(channels, kernel width\\)"),
        ("[(8, 3.5)]", "is not \\(channels, kernel width\\)"),
        ("[(8, 3, 2)]", "reaches back at most 1 layers"),
        ("[(8, 0)]", "at least 1"),
    ],
)
def test_layers_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"model.decoder_layers=.*{problem}"):
        language_model("fconv_lm", decoder_layers=text)
