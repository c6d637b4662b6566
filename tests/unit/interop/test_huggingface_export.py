"""Hugging Face transformers itself loads what is exported and must compute the same."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqkit.errors import ConfigError, MissingExtraError
from seqkit.interop.huggingface_export import export_huggingface
from tests.unit.generation.tiny import search
from tests.unit.interop.exported import (
    DICTIONARY,
    OTHER_DICTIONARY,
    TEXT,
    small_model,
    symbols,
    text_logits,
    translation_logits,
)

pytest.importorskip("safetensors", reason="the extra `export` is not installed")

SOURCES = [[4, 9, 7], [23, 5, 5, 11, 17, 20, 8], [6]]
PREVIOUS = [4, 11, 6, 4, 8]
PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="Hugging Face transformers is not installed")


def load(transformers: Any, folder: Path, kind: str) -> Any:
    """The model as `AutoModel` classes load it; no parameter may be missing or left over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model.eval()


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("FSMT", {}),
        ("FSMT", {"activation_fn": "swish", "no_scale_embedding": True}),
        ("FSMT", {"share_decoder_input_output_embed": True, "encoder_layers_to_keep": "1"}),
        ("FSMT", {"share_all_embeddings": True}),
        ("M2M100", {**PRE_NORM, "share_all_embeddings": True, "activation_fn": "gelu"}),
        ("Bart", {"layernorm_embedding": True, "share_all_embeddings": True, **LEARNED, "activation_fn": "gelu_fast"}),
        ("Bart", {"layernorm_embedding": True, "share_all_embeddings": True, "max_source_positions": 40}),
        ("MBart", {**PRE_NORM, "layernorm_embedding": True, "share_all_embeddings": True, **LEARNED}),
        (
            "MBart",
            {
                **PRE_NORM,
                "layernorm_embedding": True,
                "merge_src_tgt_embed": True,
                "no_token_positional_embeddings": True,
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_translation(transformers: Any, architecture: str, options: dict[str, Any], tmp_path: Path) -> None:
    joined = "share_all_embeddings" in options or "merge_src_tgt_embed" in options
    target = DICTIONARY if joined else OTHER_DICTIONARY
    model = small_model("transformer", target=target, **options)
    export_huggingface(model, symbols(target=target), tmp_path)
    theirs = load(transformers, tmp_path, "AutoModelForSeq2SeqLM")
    assert type(theirs).__name__ == f"{architecture}ForConditionalGeneration"
    longest = max(map(len, SOURCES)) + 1
    rows = torch.tensor([[*source, 2] + [1] * (longest - 1 - len(source)) for source in SOURCES])
    with torch.no_grad():
        logits = theirs(
            input_ids=rows,
            attention_mask=rows.ne(1).long(),
            decoder_input_ids=torch.tensor([[2, *PREVIOUS]] * len(SOURCES)),
            use_cache=False,  # FSMT lets positions see later ones where it is on
        ).logits
    np.testing.assert_allclose(logits, translation_logits(model, SOURCES, PREVIOUS), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {**PRE_NORM, "share_all_embeddings": True}], ids=["FSMT", "M2M100"])
def test_the_same_hypotheses(transformers: Any, options: dict[str, Any], tmp_path: Path) -> None:
    model = small_model("transformer", **options)
    export_huggingface(model, symbols(), tmp_path)
    theirs = load(transformers, tmp_path, "AutoModelForSeq2SeqLM")
    for source in SOURCES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = theirs.generate(torch.tensor([[*source, 2]]), num_beams=1, max_length=10)[0].tolist()
        (expected,) = search(model, [source], DICTIONARY, beam=1, max_len_a=0, max_len_b=8)
        assert output == [2, *expected[0].tokens.tolist()]


def test_a_batch_of_text_with_a_beam(transformers: Any, tmp_path: Path) -> None:
    """As docs/export.md says."""
    model = small_model("transformer", target=OTHER_DICTIONARY)
    export_huggingface(model, symbols(target=OTHER_DICTIONARY), tmp_path)
    theirs = load(transformers, tmp_path, "AutoModelForSeq2SeqLM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = transformers.AutoTokenizer.from_pretrained(tmp_path / "source")
        target = transformers.AutoTokenizer.from_pretrained(tmp_path / "target")
        lines = [" ".join(DICTIONARY.symbols[token] for token in tokens) for tokens in SOURCES]
        batch = source(lines, return_tensors="pt", padding=True, return_token_type_ids=False)
        texts = target.batch_decode(theirs.generate(**batch, max_length=10), skip_special_tokens=True)
    expected = search(model, SOURCES, OTHER_DICTIONARY, beam=5, max_len_a=0, max_len_b=8)
    assert texts == [OTHER_DICTIONARY.string(hypotheses[0].tokens) for hypotheses in expected]


@pytest.mark.parametrize(
    ("architecture", "name", "options"),
    [
        ("OPT", "transformer_lm", {}),
        ("OPT", "transformer_lm", {"decoder_normalize_before": True, "decoder_learned_pos": True}),
        ("OPT", "transformer_lm", {"decoder_normalize_before": True, "no_decoder_final_norm": True}),
        ("OPT", "transformer_lm", {"share_decoder_input_output_embed": True, "activation_fn": "gelu"}),
        ("OPT", "transformer_lm", {"share_decoder_input_output_embed": True, "no_scale_embedding": True}),
        ("OPT", "transformer_lm", {"decoder_input_dim": 8, "decoder_output_dim": 8}),
        ("Llama", "decoder_lm", {}),
        ("Llama", "decoder_lm", {"decoder_kv_heads": 2, "share_decoder_input_output_embed": True}),
        ("Llama", "decoder_lm", {"decoder_head_dim": 8, "activation_fn": "relu_squared"}),
        ("Llama", "decoder_lm", {"rope_scaling": "linear", "rope_factor": 4.0, "rope_theta": 500.0}),
        ("Llama", "decoder_lm", {"rope_scaling": "ntk", "rope_factor": 4.0}),
        ("Llama", "decoder_lm", {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_positions": 16}),
        ("Llama", "decoder_lm", {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_positions": 16}),
        ("Qwen3", "decoder_lm", {"qk_norm": True, "decoder_kv_heads": 1}),
        ("Qwen3", "decoder_lm", {"qk_norm": True, "sliding_window": 4}),
        ("Mistral", "decoder_lm", {"sliding_window": 4}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_language_models(
    transformers: Any, architecture: str, name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = small_model(name, **options)
    export_huggingface(model, symbols(), tmp_path)
    theirs = load(transformers, tmp_path, "AutoModelForCausalLM")
    assert type(theirs).__name__ == f"{architecture}ForCausalLM"
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor([[2, *TEXT]])).logits[0]
    np.testing.assert_allclose(logits, text_logits(model, TEXT), atol=1e-4)


def test_tokenizers(transformers: Any, tmp_path: Path) -> None:
    for name, target in (("joined", DICTIONARY), ("two", OTHER_DICTIONARY)):
        (tmp_path / name).mkdir()
        export_huggingface(small_model("transformer", target=target), symbols(target=target), tmp_path / name)
    (tmp_path / "text").mkdir()
    export_huggingface(small_model("decoder_lm"), symbols(), tmp_path / "text")

    def encode(folder: str, text: str) -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / folder)
        ids: list[int] = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text.replace(" what", "")
        return ids

    assert encode("joined", "w3 w19 what w0") == [7, 23, 3, 4, 2]
    assert encode("two/source", "w3 w19") == [7, 23, 2]
    assert encode("two/target", "w3 w14") == [7, 18, 2]
    assert encode("text", "w3 w19") == [2, 7, 23]


def test_the_folder(tmp_path: Path) -> None:
    export_huggingface(small_model("transformer", target=OTHER_DICTIONARY), symbols(target=OTHER_DICTIONARY), tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "config.json",
        "dict.de.txt",
        "dict.en.txt",
        "generation_config.json",
        "model.safetensors",
        "source/tokenizer.json",
        "source/tokenizer_config.json",
        "target/tokenizer.json",
        "target/tokenizer_config.json",
    ]
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["langs"] == ["de", "en"]
    assert (config["src_vocab_size"], config["tgt_vocab_size"]) == (24, 19)


def test_all_that_does_not_fit_is_told_at_once(tmp_path: Path) -> None:
    model = small_model("transformer", encoder_normalize_before=True, encoder_learned_pos=True, encoder_embed_dim=12)
    with pytest.raises(ConfigError) as error:
        export_huggingface(model, symbols(), tmp_path)
    assert str(error.value) == (
        "this model (model=transformer) does not fit Hugging Face transformers:\n"
        "  - model.encoder_normalize_before=true, decoder_normalize_before=false: they must be equal there\n"
        "  - model.decoder_embed_dim=16: it must be encoder_embed_dim=12 there\n"
        "  - model.encoder_learned_pos=true: only BART and mBART, which have layernorm_embedding, have learned "
        "positions\n"
        "  - model.encoder_normalize_before=true: M2M100, which is pre-norm, needs share_all_embeddings"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("transformer", {"adaptive_softmax_cutoff": "8,16"}, "adaptive softmax"),
        ("transformer", {"layernorm_embedding": True}, "BART and mBART, which have it, need share_all_embeddings"),
        (
            "transformer",
            {**LEARNED, "layernorm_embedding": True, "share_all_embeddings": True, "max_source_positions": 40},
            "with learned positions they must be equal in BART and mBART",
        ),
        ("transformer", {"no_token_positional_embeddings": True}, "FSMT and M2M100 always have positions"),
        (
            "transformer",
            {**PRE_NORM, "share_all_embeddings": True, "no_decoder_final_norm": True},
            "pre-norm decoders end with a layer norm there",
        ),
        ("transformer_lm", {"layernorm_embedding": True}, "OPT has no layer norm on embeddings"),
        ("transformer_lm", {"decoder_output_dim": 8}, "they must be equal in OPT"),
        ("transformer_lm", {"scale_fc": True}, "NormFormer"),
        (
            "decoder_lm",
            {"rope_scaling": "dynamic", "rope_factor": 2.0, "rope_original_positions": 8},
            "model.rope_scaling=dynamic: positions are stretched otherwise there; known are none, ntk, linear, yarn",
        ),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"does not fit Hugging Face transformers:\n  - .*{reason}"):
        export_huggingface(small_model(name, **options), symbols(), tmp_path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match="Hugging Face transformers needs the package 'safetensors'"):
        export_huggingface(small_model("transformer"), symbols(), tmp_path)
    assert list(tmp_path.iterdir()) == []
