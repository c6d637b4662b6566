"""CTranslate2 itself loads what is exported and must compute the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError, MissingExtraError
from seqkit.interop.ctranslate2_export import export_ctranslate2
from seqkit.models.base import Model
from tests.unit.generation.tiny import search, tiny_dictionary
from tests.unit.interop.exported import DICTIONARY, OTHER_DICTIONARY, TEXT, small_model, symbols, text_logits

ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")

SOURCES = [[4, 9, 7], [23, 5, 5, 11, 17, 20, 8], [6]]
LONGEST = 10


def translations(model: Model, target: Dictionary) -> tuple[list[str], list[float]]:
    """Outputs without EOS; their scores, without EOS where that was only put to an end (as CTranslate2 has it)."""
    found = search(model, SOURCES, target, beam=3, max_len_a=0, max_len_b=LONGEST, unnormalized=True)
    best = [hypotheses[0] for hypotheses in found]
    texts = [" ".join(target.symbols[token] for token in hypothesis.tokens[:-1].tolist()) for hypothesis in best]
    return texts, [float(hypothesis.positional_scores[:LONGEST].sum()) for hypothesis in best]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"encoder_normalize_before": True, "decoder_normalize_before": True, "activation_fn": "gelu"},
        {"encoder_normalize_before": True, "decoder_normalize_before": True, "no_decoder_final_norm": True},
        {"encoder_normalize_before": True, "layernorm_embedding": True, "activation_fn": "gelu_fast"},
        {"encoder_learned_pos": True, "decoder_learned_pos": True, "no_scale_embedding": True},
        {"share_all_embeddings": True, "activation_fn": "swish"},
        {"share_decoder_input_output_embed": True, "no_token_positional_embeddings": True, "activation_fn": "tanh"},
        {"encoder_embed_dim": 12},
        {"encoder_layers_to_keep": "1", "decoder_layers_to_keep": "0,2"},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_translation(options: dict[str, Any], tmp_path: Path) -> None:
    target = DICTIONARY if "share_all_embeddings" in options else OTHER_DICTIONARY
    model = small_model("transformer", target=target, **options)
    export_ctranslate2(model, symbols(target=target), tmp_path)
    translator = ctranslate2.Translator(str(tmp_path), device="cpu", intra_threads=1)
    words = [[DICTIONARY.symbols[token] for token in source] for source in SOURCES]
    given = [[target.symbols[token] for token in (4, 11, 6, 4)]] * len(words)
    scored = translator.score_batch(words, given)
    for source, result in zip(SOURCES, scored, strict=True):
        row = torch.tensor([[*source, 2]])
        with torch.no_grad():
            logits = model(row, torch.tensor([row.size(1)]), torch.tensor([[2, 4, 11, 6, 4]])).logits[0]
        expected = logits.log_softmax(-1)[range(5), [4, 11, 6, 4, 2]]
        np.testing.assert_allclose(result.log_probs, expected, atol=1e-4)


def test_the_same_hypotheses(tmp_path: Path) -> None:
    model = small_model("transformer", share_all_embeddings=True)
    export_ctranslate2(model, symbols(), tmp_path)
    translator = ctranslate2.Translator(str(tmp_path), device="cpu", intra_threads=1)
    expected, scores = translations(model, DICTIONARY)
    results = translator.translate_batch(
        [[DICTIONARY.symbols[token] for token in source] for source in SOURCES],
        beam_size=3,
        max_decoding_length=LONGEST,
        min_decoding_length=0,  # what it forbids has no share in its scores
        length_penalty=0,
        return_scores=True,
    )
    got = [" ".join(result.hypotheses[0]) for result in results]
    assert got == expected
    np.testing.assert_allclose([result.scores[0] for result in results], scores, atol=1e-4)


def test_outputs_may_be_longer_than_those_of_training(tmp_path: Path) -> None:
    """CTranslate2's own limit is 256 tokens, more than the model's 24."""
    export_ctranslate2(small_model("transformer"), symbols(), tmp_path)
    translator = ctranslate2.Translator(str(tmp_path), device="cpu", intra_threads=1)
    (result,) = translator.translate_batch([["w0"]], min_decoding_length=30, max_decoding_length=30)
    assert len(result.hypotheses[0]) == 30


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("transformer_lm", {}),
        ("transformer_lm", {"decoder_normalize_before": True, "layernorm_embedding": True, "activation_fn": "gelu"}),
        ("transformer_lm", {"decoder_normalize_before": True, "no_decoder_final_norm": True}),
        ("transformer_lm", {"decoder_learned_pos": True, "share_decoder_input_output_embed": True}),
        ("transformer_lm", {"decoder_input_dim": 8, "decoder_output_dim": 12, "no_scale_embedding": True}),
        ("decoder_lm", {}),
        ("decoder_lm", {"decoder_kv_heads": 2, "share_decoder_input_output_embed": True, "activation_fn": "gelu"}),
        ("decoder_lm", {"decoder_kv_heads": 1, "decoder_head_dim": 8, "qk_norm": True}),
        ("decoder_lm", {"sliding_window": 24}),
        ("decoder_lm", {"rope_scaling": "linear", "rope_factor": 4.0, "rope_theta": 500.0}),
        ("decoder_lm", {"rope_scaling": "ntk", "rope_factor": 4.0}),
        ("decoder_lm", {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_positions": 16}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_language_models(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = small_model(name, **options)
    export_ctranslate2(model, symbols(), tmp_path)
    generator = ctranslate2.Generator(str(tmp_path), device="cpu", intra_threads=1)
    (scored,) = generator.score_batch([[DICTIONARY.symbols[token] for token in (2, *TEXT)]])
    expected = text_logits(model, TEXT)[:-1].log_softmax(-1)[range(len(TEXT)), TEXT]
    np.testing.assert_allclose(scored.log_probs, expected, atol=1e-4)
    (result,) = generator.generate_batch(
        [[DICTIONARY.symbols[token] for token in (2, *TEXT[:6])]],
        max_length=4,
        beam_size=1,
        include_prompt_in_result=False,
    )
    text = TEXT[:6]
    for token in result.sequences_ids[0]:
        logits = text_logits(model, text)[-1]
        assert logits[token] > logits.max() - 1e-4
        text = [*text, token]


def test_quantized_weights_are_smaller(tmp_path: Path) -> None:
    model = small_model("transformer", encoder_ffn_embed_dim=256, decoder_ffn_embed_dim=256)
    sizes = {}
    for quantization in ("float32", "int8"):
        (tmp_path / quantization).mkdir()
        export_ctranslate2(model, symbols(), tmp_path / quantization, quantization=quantization)
        sizes[quantization] = (tmp_path / quantization / "model.bin").stat().st_size
    assert sizes["int8"] < 0.5 * sizes["float32"]


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    model = small_model("transformer", no_cross_attention=True, activation_fn="linear", decoder_input_dim=8)
    with pytest.raises(ConfigError) as error:
        export_ctranslate2(model, symbols(), tmp_path)
    assert str(error.value) == (
        "this model (model=transformer) does not fit CTranslate2:\n"
        "  - model.no_cross_attention=true: decoders that do not attend to the source are not known there\n"
        "  - model.decoder_input_dim=8: it must be decoder_embed_dim=16 there\n"
        "  - model.activation_fn=linear: known are relu, gelu, gelu_fast, gelu_accurate, swish, tanh"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("transformer", {"adaptive_softmax_cutoff": "8,16"}, "adaptive softmax is no projection"),
        ("transformer", {"cross_self_attention": True}, "self-attention that reads the source"),
        ("transformer_lm", {"adaptive_input": True, "adaptive_input_cutoff": "8,16"}, "adaptive embeddings"),
        ("transformer_lm", {"character_embeddings": True}, "word vectors made of characters"),
        ("transformer_lm", {"scale_heads": True}, r"model\.scale_heads=true: NormFormer"),
        ("transformer_lm", {"decoder_input_dim": 8}, "both or none must differ"),
        ("decoder_lm", {"rope_scaling": "yarn", "rope_factor": 2.0, "rope_original_positions": 8}, "rope_scaling=yarn"),
        ("decoder_lm", {"sliding_window": 23}, "texts longer than the window"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"does not fit CTranslate2:\n  - .*{reason}"):
        export_ctranslate2(small_model(name, **options), symbols(), tmp_path)


def test_other_models_and_dictionaries(tmp_path: Path) -> None:
    entry_model = small_model("decoder_lm")
    with pytest.raises(ConfigError, match="input and output must have the same symbols, but there are 24 and 10"):
        export_ctranslate2(entry_model, symbols(target=tiny_dictionary(6)), tmp_path)
    other = small_model("transformer_lm")
    other.config._name = "something"
    other.__class__ = type("Something", (type(other),), {})
    with pytest.raises(ConfigError, match="there is no form for model=something; the models that can be exported are"):
        export_ctranslate2(other, symbols(), tmp_path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    with pytest.raises(MissingExtraError, match=r"exporting to CTranslate2 needs the package 'ctranslate2'"):
        export_ctranslate2(small_model("transformer"), symbols(), tmp_path)
