from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from seqkit.config.sections import GenerationConfig
from seqkit.errors import ConfigError
from seqkit.generation.build import build_generator
from seqkit.generation.quantize import quantize_models
from seqkit.models.base import LanguageModel
from seqkit.modules import quantized_linear
from seqkit.modules.packed_linear import pack_linears
from seqkit.modules.quantized_linear import QuantizedLinear
from tests.unit.generation.tiny import random_sources, search, tiny_dictionary, tiny_model
from tests.unit.test_conformance import TinyTask, models_of
from tests.unit.test_conformance import tiny_model as model_of_registry

CPU = torch.device("cpu")
WIDE: dict[str, Any] = {
    "encoder_embed_dim": 256,
    "decoder_embed_dim": 256,
    "encoder_ffn_embed_dim": 512,
    "decoder_ffn_embed_dim": 512,
}
SEARCH: dict[str, Any] = {"beam": 3, "max_len_a": 1.5, "max_len_b": 2}


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also layers that are too small to gain by it are quantised."""
    monkeypatch.setattr(quantized_linear, "_QUANTIZED_FROM", 1)


def test_outputs_are_those_of_the_model_and_do_not_depend_on_the_batch() -> None:
    dictionary = tiny_dictionary(40)
    model = tiny_model(dictionary, **WIDE)
    sources = random_sources(16, dictionary)
    expected = search(model, sources, dictionary, **SEARCH)
    quantize_models([model], "int8", CPU, torch.float32)
    found = search(model, sources, dictionary, quantize="int8", **SEARCH)
    same = [own[0].tokens.tolist() == best[0].tokens.tolist() for own, best in zip(found, expected, strict=True)]
    assert sum(same) >= 12  # the model is undecided here and there: it is random
    for source, hypotheses in zip(sources, found, strict=True):
        (alone,) = search(model, [source], dictionary, quantize="int8", **SEARCH)
        assert alone[0].tokens.tolist() == hypotheses[0].tokens.tolist()
        # the last bits of a float may round to the next whole number
        assert alone[0].score == pytest.approx(hypotheses[0].score, abs=5e-3)


@pytest.mark.usefixtures("every_size")
@pytest.mark.parametrize("name", models_of(LanguageModel))
def test_every_language_model_computes_nearly_the_same_at_once_and_step_by_step(name: str) -> None:
    model = model_of_registry(name, TinyTask()).eval()
    assert isinstance(model, LanguageModel)
    tokens_BT = torch.tensor([[2, 5, 6, 7, 4], [2, 9, 8, 4, 4]])
    with torch.no_grad():
        expected = model(tokens_BT).logits
        if not any(type(module) is nn.Linear for module in model.modules()):
            with pytest.raises(ConfigError, match="has no linear layer that is large enough"):
                quantize_models([model], "int8", CPU, torch.float32)
            return
        quantize_models([model], "int8", CPU, torch.float32)
        full = model(tokens_BT).logits
        cache = model.decoder.new_cache(2, 5)
        steps = [model.decoder(tokens_BT[:, t : t + 1], cache=cache).logits for t in range(5)]
        later = model(tokens_BT, features_only=True, skip=2).logits
    assert 0 < (full - expected).norm() < 0.1 * expected.norm()
    assert (torch.cat(steps, dim=1) - full).norm() < 0.02 * full.norm()
    assert (model.decoder.output_layer(later) - full[:, 2:]).norm() < 0.02 * full.norm()


@pytest.mark.usefixtures("every_size")
def test_a_layer_of_another_kind_is_left_alone() -> None:
    dictionary = tiny_dictionary()
    model = tiny_model(dictionary)
    pack_linears(model)
    model.decoder.layers[0].fc1.register_forward_hook(lambda module, inputs, output: None)
    quantize_models([model], "int8", CPU, torch.float32)
    assert type(model.decoder.layers[0].fc1) is nn.Linear
    assert type(model.decoder.layers[0].fc2) is QuantizedLinear
    assert not any(parameter.requires_grad for parameter in model.parameters())
    before = [id(module) for module in model.modules()]
    quantize_models([model], "int8", CPU, torch.float32)
    assert [id(module) for module in model.modules()] == before


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        (
            "cuda:0",
            torch.float32,
            "generation.quantize=int8 is for decoding on a CPU, and the models run on cuda:0; set common.cpu=true, or "
            "leave it out and use common.fp16=true or common.bf16=true there",
        ),
        ("cpu", torch.bfloat16, "generation.quantize=int8 and common.bf16=true are two ways"),
        ("cpu", torch.float16, "generation.quantize=int8 and common.fp16=true are two ways"),
        ("cpu", torch.float32, "TransformerModel has no linear layer that is large enough to gain by it; leave it out"),
    ],
)
def test_where_it_cannot_be_used(device: str, dtype: torch.dtype, message: str) -> None:
    model = tiny_model(tiny_dictionary())
    with pytest.raises(ConfigError) as error:
        quantize_models([model], "int8", torch.device(device), dtype)
    assert message in str(error.value)
    quantize_models([model], "none", torch.device(device), dtype)
    assert not any(isinstance(module, QuantizedLinear) for module in model.modules())


def test_a_generator_does_not_quantise() -> None:
    dictionary = tiny_dictionary()
    with pytest.raises(ConfigError, match="models are quantised where they are loaded only to be used"):
        build_generator([tiny_model(dictionary)], dictionary, GenerationConfig(quantize="int8"))
