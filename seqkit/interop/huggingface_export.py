"""Models as folders of Hugging Face `transformers`, where that library has an architecture that computes the same.

Written are `config.json`, `generation_config.json`, `model.safetensors`, the dictionaries, and tokenizers for text
that is segmented already; the library itself is not needed. Knows nothing of checkpoints or commands. Axes: C channels.

| model | architecture |
|---|---|
| `transformer`, post-norm, sinusoidal positions | FSMT |
| `transformer`, pre-norm, sinusoidal positions, shared embeddings | M2M100 |
| `transformer` with `layernorm_embedding` and shared embeddings | BART (post-norm), mBART (pre-norm) |
| `transformer_lm` | OPT |
| `decoder_lm` | Llama; with `qk_norm` Qwen3; with `sliding_window` Mistral |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqkit.data.dictionary import Dictionary
from seqkit.errors import require_extra
from seqkit.interop.exports import (
    Symbols,
    position_table,
    require_fit,
    rotary_problems,
    rotary_theta,
    transformer_problems,
    unknown_model,
    vocabulary_problems,
)
from seqkit.models._rotary_stack import RotaryDecoderLayer
from seqkit.models.base import Model
from seqkit.models.decoder_lm import DecoderLanguageModel, DecoderLMConfig
from seqkit.models.transformer import TransformerConfig, TransformerModel
from seqkit.models.transformer_lm import TransformerLanguageModel, TransformerLMConfig
from seqkit.modules.rotary_embedding import RotaryScaling

MODELS = ("transformer", "transformer_lm", "decoder_lm")

_LIBRARY = "Hugging Face transformers"
_ACTIVATIONS = {
    "swish": "silu",
    "gelu_fast": "gelu_pytorch_tanh",
    "gelu_accurate": "gelu_pytorch_tanh",
    "relu_squared": "relu2",
}
"""The library's names where they are not ours."""

_SCALINGS = ("linear", "yarn", "llama3")
_POSITION_OFFSET = 2
"""Rows that BART, mBART and OPT keep free in front of the first position."""

_LONGEST_OUTPUT = 200
_BEAM = 5


class _Export(NamedTuple):
    """What `config.json` says and what `model.safetensors` holds."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


def export_huggingface(model: Model, symbols: Symbols, folder: str | Path) -> None:
    """Write a `transformer`, `transformer_lm` or `decoder_lm` as a folder for `from_pretrained`.

    Args:
        folder: an existing folder.

    Raises:
        MissingExtraError: the `safetensors` package is not installed (extra `export`).
        ConfigError: what in the model no architecture there can do, all of it.
    """
    require_fit(_LIBRARY, model, list(huggingface_problems(model, symbols)))
    library = require_extra("safetensors.torch", extra="export", purpose="exporting to Hugging Face transformers")
    place = Path(folder)
    with torch.no_grad():
        if isinstance(model, TransformerModel):
            export = _encoder_decoder(model, symbols)
        elif isinstance(model, TransformerLanguageModel):
            export = _opt(model, symbols)
        else:
            assert isinstance(model, DecoderLanguageModel)
            export = _rotary(model, symbols)
    special = {
        "bos_token_id": symbols.begin if export.config.get("decoder_start_token_id") is None else symbols.target.bos(),
        "pad_token_id": symbols.target.pad(),
        "eos_token_id": symbols.target.eos(),
    }
    _write_json(place / "config.json", {**export.config, **special, "dtype": "float32", "torch_dtype": "float32"})
    generation = {**special, "suppress_tokens": [symbols.target.pad()]}
    if isinstance(model, TransformerModel):
        generation |= {
            "decoder_start_token_id": symbols.begin,
            "forced_eos_token_id": symbols.target.eos(),
            "min_new_tokens": 1,
            "num_beams": _BEAM,
            "early_stopping": True,
            "max_length": _LONGEST_OUTPUT,
        }
    _write_json(place / "generation_config.json", generation)
    # One tensor under two names is written twice: the library ties only what `tie_word_embeddings` says.
    tensors = {name: tensor.detach().float().cpu().clone().contiguous() for name, tensor in export.tensors.items()}
    library.save_file(tensors, str(place / "model.safetensors"), metadata={"format": "pt"})
    symbols.source.save(place / symbols.source_name)
    symbols.target.save(place / symbols.target_name)
    _write_tokenizers(place, symbols, encoder_decoder=isinstance(model, TransformerModel))


def huggingface_problems(model: Model, symbols: Symbols) -> Iterator[str]:
    """What in a model no architecture of the library can do, in the user's words."""
    config = model.config
    if type(model) is TransformerModel and isinstance(config, TransformerConfig):
        yield from transformer_problems(config)
        yield from _encoder_decoder_problems(config)
    elif type(model) is TransformerLanguageModel and isinstance(config, TransformerLMConfig):
        yield from transformer_problems(config)
        yield from vocabulary_problems(symbols)
        if config.layernorm_embedding:
            yield "model.layernorm_embedding=true: OPT has no layer norm on embeddings"
        if config.decoder_input_dim != config.decoder_output_dim:
            yield (
                f"model.decoder_input_dim={config.decoder_input_dim}, decoder_output_dim={config.decoder_output_dim}: "
                "they must be equal in OPT"
            )
    elif type(model) is DecoderLanguageModel and isinstance(config, DecoderLMConfig):
        yield from vocabulary_problems(symbols)
        yield from rotary_problems(config, _SCALINGS)
    else:
        yield unknown_model(model, MODELS)


def _encoder_decoder_problems(config: TransformerConfig) -> Iterator[str]:
    if config.encoder_normalize_before != config.decoder_normalize_before:
        yield (
            f"model.encoder_normalize_before={_word(config.encoder_normalize_before)}, decoder_normalize_before="
            f"{_word(config.decoder_normalize_before)}: they must be equal there"
        )
    if config.no_decoder_final_norm and config.decoder_normalize_before:
        yield "model.no_decoder_final_norm=true: pre-norm decoders end with a layer norm there"
    widths = {
        "decoder_embed_dim": config.decoder_embed_dim,
        "decoder_input_dim": config.decoder_input_dim or config.encoder_embed_dim,
        "decoder_output_dim": config.decoder_output_dim or config.encoder_embed_dim,
    }
    for name, width in widths.items():
        if width != config.encoder_embed_dim:
            yield f"model.{name}={width}: it must be encoder_embed_dim={config.encoder_embed_dim} there"
    shared = config.share_all_embeddings or config.merge_src_tgt_embed
    if config.layernorm_embedding:
        if not shared:
            yield "model.layernorm_embedding=true: BART and mBART, which have it, need share_all_embeddings"
        learned = config.encoder_learned_pos or config.decoder_learned_pos
        if learned and config.max_source_positions != config.max_target_positions:
            yield (
                f"model.max_source_positions={config.max_source_positions}, max_target_positions="
                f"{config.max_target_positions}: with learned positions they must be equal in BART and mBART"
            )
        return
    for side in ("encoder", "decoder"):
        if getattr(config, f"{side}_learned_pos"):
            yield (
                f"model.{side}_learned_pos=true: only BART and mBART, which have layernorm_embedding, have learned "
                "positions"
            )
    if config.no_token_positional_embeddings:
        yield "model.no_token_positional_embeddings=true: FSMT and M2M100 always have positions"
    if config.encoder_normalize_before and not shared:
        yield "model.encoder_normalize_before=true: M2M100, which is pre-norm, needs share_all_embeddings"


def _encoder_decoder(model: TransformerModel, symbols: Symbols) -> _Export:
    """The parameters have fairseq's names there too."""
    config = model.config
    assert isinstance(config, TransformerConfig)
    shared = config.share_all_embeddings or config.merge_src_tgt_embed
    if config.layernorm_embedding:
        kind, architecture = ("mbart", "MBart") if config.encoder_normalize_before else ("bart", "Bart")
    else:
        kind, architecture = ("m2m_100", "M2M100") if config.encoder_normalize_before else ("fsmt", "FSMT")
    longest = max(model.encoder.max_positions(), model.decoder.max_positions())
    settings: dict[str, Any] = {
        "model_type": kind,
        "architectures": [f"{architecture}ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "d_model": config.encoder_embed_dim,
        "encoder_layers": len(model.encoder.layers),
        "encoder_attention_heads": config.encoder_attention_heads,
        "encoder_ffn_dim": config.encoder_ffn_embed_dim,
        "encoder_layerdrop": 0.0,
        "decoder_layers": len(model.decoder.layers),
        "decoder_attention_heads": config.decoder_attention_heads,
        "decoder_ffn_dim": config.decoder_ffn_embed_dim,
        "decoder_layerdrop": 0.0,
        "activation_function": _activation(config.activation_fn),
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout or config.relu_dropout,
        "scale_embedding": not config.no_scale_embedding,
        "max_position_embeddings": longest,
        "tie_word_embeddings": shared,
        "decoder_start_token_id": symbols.begin,
        "forced_eos_token_id": symbols.target.eos(),
    }
    tensors = _with_prefix("model.", model)
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        name = f"model.{side}.embed_positions.weight"
        if kind == "fsmt":
            table = position_table(stack, longest)
            padding = stack.padding_idx
            tensors[name] = torch.cat((table.new_zeros(padding + 1, table.size(1)), table))
        elif kind != "m2m_100":
            tensors[name] = _offset(position_table(stack, longest))
    if kind == "fsmt":
        languages = [name.removeprefix("dict.").removesuffix(".txt") for name in _names(symbols)]
        settings |= {
            "langs": languages,
            "src_vocab_size": len(symbols.source),
            "tgt_vocab_size": len(symbols.target),
        }
        return _Export(settings, tensors)
    settings["vocab_size"] = len(symbols.target)
    tensors["model.shared.weight"] = tensors.pop("model.decoder.embed_tokens.weight")
    del tensors["model.encoder.embed_tokens.weight"], tensors["model.decoder.output_projection.weight"]
    if kind != "m2m_100":
        tensors["final_logits_bias"] = torch.zeros(1, len(symbols.target))
    return _Export(settings, tensors)


def _opt(model: TransformerLanguageModel, symbols: Symbols) -> _Export:
    """OPT neither scales embeddings nor knows sinusoids: both are worked into the tables."""
    config, decoder = model.config, model.decoder
    assert isinstance(config, TransformerLMConfig)
    assert isinstance(decoder.embed_tokens, nn.Embedding)
    assert decoder.output_projection is not None
    scale = decoder.options.embed_scale
    tied = config.share_decoder_input_output_embed and scale == 1.0
    settings: dict[str, Any] = {
        "model_type": "opt",
        "architectures": ["OPTForCausalLM"],
        "vocab_size": len(symbols.target),
        "hidden_size": config.decoder_embed_dim,
        "word_embed_proj_dim": config.decoder_input_dim,
        "num_hidden_layers": len(decoder.layers),
        "num_attention_heads": config.decoder_attention_heads,
        "ffn_dim": config.decoder_ffn_embed_dim,
        "activation_function": _activation(config.activation_fn),
        "do_layer_norm_before": config.decoder_normalize_before,
        "_remove_final_layer_norm": config.no_decoder_final_norm,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "layerdrop": 0.0,
        "max_position_embeddings": decoder.max_positions(),
        "tie_word_embeddings": tied,
    }
    tensors = {
        name.replace("decoder.layer_norm.", "decoder.final_layer_norm.").replace("_dim.weight", ".weight"): tensor
        for name, tensor in _with_prefix("model.", model).items()
    }
    output = tensors.pop("model.decoder.output_projection.weight")
    if not tied:
        tensors["lm_head.weight"] = output
    tensors["model.decoder.embed_tokens.weight"] = scale * decoder.embed_tokens.weight
    tensors["model.decoder.embed_positions.weight"] = _offset(position_table(decoder))
    return _Export(settings, tensors)


def _rotary(model: DecoderLanguageModel, symbols: Symbols) -> _Export:
    config, decoder = model.config, model.decoder
    assert isinstance(config, DecoderLMConfig)
    heads, kv_heads = config.decoder_attention_heads, config.decoder_kv_heads or config.decoder_attention_heads
    head_dim = decoder.rotary.head_dim
    first = decoder.layers[0]
    assert isinstance(first, RotaryDecoderLayer)
    kind = "qwen3" if config.qk_norm else "mistral" if config.sliding_window is not None else "llama"
    theta = rotary_theta(config, head_dim)
    rope = _rope_parameters(decoder.rotary.scaling)
    settings: dict[str, Any] = {
        "model_type": kind,
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "vocab_size": len(symbols.target),
        "hidden_size": config.decoder_embed_dim,
        "intermediate_size": first.feed_forward.down_proj.in_features,
        "num_hidden_layers": len(decoder.layers),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": _activation(config.activation_fn),
        "rms_norm_eps": config.norm_eps,
        "attention_bias": False,
        "attention_dropout": config.attention_dropout,
        "max_position_embeddings": decoder.max_positions(),
        "tie_word_embeddings": config.share_decoder_input_output_embed,
        # Versions of the library before 5 read the two others.
        "rope_parameters": {**rope, "rope_theta": theta},
        "rope_theta": theta,
        "rope_scaling": rope if rope["rope_type"] != "default" else None,
    }
    if config.sliding_window is not None:
        settings["sliding_window"] = config.sliding_window
    if kind == "qwen3":
        settings |= {"use_sliding_window": config.sliding_window is not None, "max_window_layers": 0}
    tensors: dict[str, Tensor] = {
        "model.embed_tokens.weight": decoder.embed_tokens.weight,
        "model.norm.weight": decoder.norm.weight,
    }
    if not config.share_decoder_input_output_embed:
        tensors["lm_head.weight"] = decoder.output_projection.weight
    for place, layer in enumerate(decoder.layers):
        own = layer.state_dict()
        queries, keys, values = own["self_attn.qkv_proj.weight"].split(
            [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim]
        )
        gate, up = own["feed_forward.gate_up_proj.weight"].chunk(2)
        renamed = {
            "input_layernorm": own["self_attn_norm.weight"],
            "self_attn.q_proj": queries,
            "self_attn.k_proj": keys,
            "self_attn.v_proj": values,
            "self_attn.o_proj": own["self_attn.out_proj.weight"],
            "post_attention_layernorm": own["feed_forward_norm.weight"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": own["feed_forward.down_proj.weight"],
        }
        if config.qk_norm:
            renamed |= {f"self_attn.{name}": own[f"self_attn.{name}.weight"] for name in ("q_norm", "k_norm")}
        tensors |= {f"model.layers.{place}.{name}.weight": tensor for name, tensor in renamed.items()}
    return _Export(settings, tensors)


def _rope_parameters(scaling: RotaryScaling) -> dict[str, Any]:
    if scaling.kind == "linear":
        return {"rope_type": "linear", "factor": scaling.factor}
    if scaling.kind == "llama3":
        return {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "original_max_position_embeddings": scaling.original,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
        }
    if scaling.kind == "yarn":
        attention = {} if scaling.attention_factor is None else {"attention_factor": scaling.attention_factor}
        return {
            "rope_type": "yarn",
            "factor": scaling.factor,
            "original_max_position_embeddings": scaling.original,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            **attention,
        }
    return {"rope_type": "default"}


def _with_prefix(prefix: str, model: Model) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def _offset(table: Tensor) -> Tensor:
    return torch.cat((table.new_zeros(_POSITION_OFFSET, table.size(1)), table))


def _activation(name: str) -> str:
    return _ACTIVATIONS.get(name, name)


def _names(symbols: Symbols) -> tuple[str, str]:
    return symbols.source_name, symbols.target_name


def _word(value: bool) -> str:
    return "true" if value else "false"


def _write_tokenizers(folder: Path, symbols: Symbols, *, encoder_decoder: bool) -> None:
    """In the folder itself where input and output have the same symbols, else in `source` and `target`."""
    begin = "" if encoder_decoder else symbols.target.symbols[symbols.begin]
    if symbols.are_joined:
        _write_tokenizer(folder, symbols.target, begin)
        return
    for name, dictionary in (("source", symbols.source), ("target", symbols.target)):
        (folder / name).mkdir()
        _write_tokenizer(folder / name, dictionary, begin)


def _write_tokenizer(folder: Path, dictionary: Dictionary, begin: str) -> None:
    """A tokenizer that parts text at spaces, as dictionaries are made to.

    Args:
        begin: the symbol in front of a language model's texts; empty: sentences that end with EOS.
    """
    special = {
        "bos_token": dictionary.bos_word,
        "pad_token": dictionary.pad_word,
        "eos_token": dictionary.eos_word,
        "unk_token": dictionary.unk_word,
    }
    edge = begin or dictionary.eos_word
    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    symbol = [{"SpecialToken": {"id": edge, "type_id": 0}}]
    single: list[dict[str, Any]] = [*symbol, *text] if begin else [*text, *symbol]
    edge_id = dictionary.indices[edge]
    _write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": dictionary.indices[word],
                    "content": word,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for word in special.values()
            ],
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": single,
                "pair": [*single, {"Sequence": {"id": "B", "type_id": 0}}],
                "special_tokens": {edge: {"id": edge, "ids": [edge_id], "tokens": [edge]}},
            },
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": dictionary.indices, "unk_token": dictionary.unk_word},
        },
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "padding_side": "left" if begin else "right",
            "clean_up_tokenization_spaces": False,
        },
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
