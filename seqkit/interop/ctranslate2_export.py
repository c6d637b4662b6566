"""Transformers in CTranslate2's layout, by the model specifications that CTranslate2 itself brings.

The result is a folder for `ctranslate2.Translator` (encoder-decoder models) or `ctranslate2.Generator` (language
models). Knows nothing of checkpoints or commands. Axes: C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
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
from seqkit.models._transformer_stack import TransformerDecoder, TransformerEncoder
from seqkit.models.base import Model
from seqkit.models.decoder_lm import DecoderLanguageModel, DecoderLMConfig
from seqkit.models.transformer import TransformerConfig, TransformerModel
from seqkit.models.transformer_lm import TransformerLanguageModel, TransformerLMConfig
from seqkit.modules.attention import MultiheadAttention
from seqkit.modules.positional_embedding import LearnedPositionalEmbedding
from seqkit.modules.rms_norm import RMSNorm
from seqkit.modules.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer

QUANTIZATIONS = ("float32", "int8", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16")
MODELS = ("transformer", "transformer_lm", "decoder_lm")

_LIBRARY = "CTranslate2"
_ACTIVATIONS = {
    "relu": "RELU",
    "gelu": "GELU",
    "gelu_fast": "GELUTanh",
    "gelu_accurate": "GELUTanh",
    "swish": "SWISH",
    "tanh": "Tanh",
}
_SCALINGS = ("linear", "llama3")
_POSITIONS = 1024
"""Rows of a table that could have any number; the library fails, and does not stop, at an output that is longer."""


def export_ctranslate2(model: Model, symbols: Symbols, folder: str | Path, *, quantization: str = "float32") -> None:
    """Write a `transformer`, `transformer_lm` or `decoder_lm` for CTranslate2.

    Args:
        folder: an existing folder, which gets `model.bin`, `config.json` and the vocabularies.
        quantization: type of the weights in the file, one of `QUANTIZATIONS`. CTranslate2 also converts on loading.

    Raises:
        MissingExtraError: the `ctranslate2` package is not installed (extra `export`).
        ConfigError: what in the model CTranslate2 has no form for, all of it.
    """
    require_fit(_LIBRARY, model, list(ctranslate2_problems(model, symbols)))
    specs = require_extra("ctranslate2.specs", extra="export", purpose="exporting to CTranslate2")
    with torch.no_grad():
        if isinstance(model, TransformerModel):
            spec = _encoder_decoder(specs, model, symbols)
        else:
            spec = _language_model(specs, model, symbols)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))


def ctranslate2_problems(model: Model, symbols: Symbols) -> Iterator[str]:
    """What in a model CTranslate2 has no form for, in the user's words."""
    config = model.config
    if type(model) is TransformerModel and isinstance(config, TransformerConfig):
        yield from transformer_problems(config)
        for name in ("decoder_input_dim", "decoder_output_dim"):
            width = getattr(config, name) or config.decoder_embed_dim
            if width != config.decoder_embed_dim:
                yield f"model.{name}={width}: it must be decoder_embed_dim={config.decoder_embed_dim} there"
    elif type(model) is TransformerLanguageModel and isinstance(config, TransformerLMConfig):
        yield from transformer_problems(config)
        yield from vocabulary_problems(symbols)
        widths = (config.decoder_input_dim, config.decoder_output_dim)
        if config.decoder_embed_dim in widths and widths[0] != widths[1]:
            yield (
                f"model.decoder_input_dim={widths[0]}, decoder_output_dim={widths[1]}: there, both or none must differ "
                f"from decoder_embed_dim={config.decoder_embed_dim}"
            )
    elif type(model) is DecoderLanguageModel and isinstance(config, DecoderLMConfig):
        yield from vocabulary_problems(symbols)
        yield from rotary_problems(config, _SCALINGS)
        if config.sliding_window is not None and config.sliding_window < model.decoder.max_positions():
            yield (
                f"model.sliding_window={config.sliding_window}: there, texts longer than the window cannot be read at "
                "once"
            )
    else:
        yield unknown_model(model, MODELS)
        return
    if config.activation_fn not in _ACTIVATIONS:
        yield f"model.activation_fn={config.activation_fn}: known are {', '.join(_ACTIVATIONS)}"


def _encoder_decoder(specs: ModuleType, model: TransformerModel, symbols: Symbols) -> Any:
    config = model.config
    assert isinstance(config, TransformerConfig)
    encoder = specs.transformer_spec.TransformerEncoderSpec(
        len(model.encoder.layers),
        config.encoder_attention_heads,
        pre_norm=config.encoder_normalize_before,
        activation=_activation(specs, config.activation_fn),
        layernorm_embedding=config.layernorm_embedding,
    )
    decoder = specs.transformer_spec.TransformerDecoderSpec(
        len(model.decoder.layers),
        config.decoder_attention_heads,
        pre_norm=config.decoder_normalize_before,
        no_final_norm=config.no_decoder_final_norm,
        activation=_activation(specs, config.activation_fn),
        layernorm_embedding=config.layernorm_embedding,
        alignment_heads=0,  # the mean of all, as in seqkit
    )
    _fill_encoder(encoder, model.encoder)
    _fill_decoder(decoder, model.decoder)
    spec = specs.transformer_spec.TransformerSpec(encoder, decoder)
    spec.register_source_vocabulary(list(symbols.source.symbols))
    spec.register_target_vocabulary(list(symbols.target.symbols))
    _name_special_symbols(spec.config, symbols.target)
    spec.config.add_source_eos = True
    spec.config.decoder_start_token = symbols.target.symbols[symbols.begin]
    return spec


def _language_model(specs: ModuleType, model: Model, symbols: Symbols) -> Any:
    if isinstance(model, DecoderLanguageModel):
        decoder, epsilon = _rotary_decoder(specs, model)
    else:
        assert isinstance(model, TransformerLanguageModel)
        decoder, epsilon = _plain_decoder(specs, model), None
    spec = specs.transformer_spec.TransformerDecoderModelSpec(decoder)
    spec.register_vocabulary(list(symbols.target.symbols))
    _name_special_symbols(spec.config, symbols.target)
    spec.config.bos_token = symbols.target.symbols[symbols.begin]
    spec.config.layer_norm_epsilon = epsilon
    return spec


def _plain_decoder(specs: ModuleType, model: TransformerLanguageModel) -> Any:
    config = model.config
    assert isinstance(config, TransformerLMConfig)
    spec = specs.transformer_spec.TransformerDecoderSpec(
        len(model.decoder.layers),
        config.decoder_attention_heads,
        pre_norm=config.decoder_normalize_before,
        no_final_norm=config.no_decoder_final_norm,
        activation=_activation(specs, config.activation_fn),
        layernorm_embedding=config.layernorm_embedding,
        with_encoder_attention=False,
        project_in_out=model.decoder.project_in_dim is not None,
    )
    _fill_decoder(spec, model.decoder)
    return spec


def _rotary_decoder(specs: ModuleType, model: DecoderLanguageModel) -> tuple[Any, float]:
    """The decoder, and what its norms add to the mean square."""
    config, decoder = model.config, model.decoder
    assert isinstance(config, DecoderLMConfig)
    heads = config.decoder_attention_heads
    head_dim = decoder.rotary.head_dim
    scaling = decoder.rotary.scaling
    kinds = specs.attention_spec.RotaryScalingType
    spec = specs.transformer_spec.TransformerDecoderSpec(
        len(decoder.layers),
        heads,
        pre_norm=True,
        activation=_activation(specs, config.activation_fn),
        with_encoder_attention=False,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=head_dim,
        rotary_interleave=False,
        rotary_scaling_type={"linear": kinds.Linear, "llama3": kinds.Llama3}.get(scaling.kind),
        rotary_scaling_factor=scaling.factor,
        rotary_base=rotary_theta(config, head_dim),
        original_max_position_embeddings=scaling.original if scaling.kind == "llama3" else 0,
        max_position_embeddings=decoder.max_positions(),
        num_heads_kv=config.decoder_kv_heads or heads,
        head_dim=head_dim,
        qk_norm=config.qk_norm,
    )
    spec.scale_embeddings = False
    spec.embeddings.weight = _array(decoder.embed_tokens.weight)
    spec.projection.weight = _array(decoder.output_projection.weight)
    _fill_norm(spec.layer_norm, decoder.norm)
    for layer_spec, layer in zip(spec.layer, decoder.layers, strict=True):
        assert isinstance(layer, RotaryDecoderLayer)
        attention, attention_spec = layer.self_attn, layer_spec.self_attention
        _fill_norm(attention_spec.layer_norm, layer.self_attn_norm)
        _fill_linear(attention_spec.linear[0], [attention.qkv_proj])
        _fill_linear(attention_spec.linear[1], [attention.out_proj])
        if attention.q_norm is not None and attention.k_norm is not None:
            _fill_norm(attention_spec.q_norm, attention.q_norm)
            _fill_norm(attention_spec.k_norm, attention.k_norm)
        if scaling.kind == "llama3":
            # The library reads the factor, but its specification has no field for it with this kind of scaling.
            vars(attention_spec)["rotary_scaling_factor"] = np.float32(scaling.factor)
            attention_spec.rotary_low_freq_factor = np.float32(scaling.low_frequency_factor)
            attention_spec.rotary_high_freq_factor = np.float32(scaling.high_frequency_factor)
        _fill_norm(layer_spec.ffn.layer_norm, layer.feed_forward_norm)
        gate, up = layer.feed_forward.gate_up_proj.weight.chunk(2)
        layer_spec.ffn.linear_0.weight = _array(gate)
        layer_spec.ffn.linear_0_noact.weight = _array(up)
        _fill_linear(layer_spec.ffn.linear_1, [layer.feed_forward.down_proj])
    return spec, config.norm_eps


def _fill_encoder(spec: Any, encoder: TransformerEncoder) -> None:
    spec.embeddings[0].weight = _array(encoder.embed_tokens.weight)
    _fill_stack(spec, encoder)
    for layer_spec, layer in zip(spec.layer, encoder.layers, strict=True):
        assert isinstance(layer, TransformerEncoderLayer)
        _fill_attention(layer_spec.self_attention, layer.self_attn, layer.self_attn_layer_norm, own=True)
        _fill_feed_forward(layer_spec.ffn, layer)


def _fill_decoder(spec: Any, decoder: TransformerDecoder) -> None:
    assert isinstance(decoder.embed_tokens, nn.Embedding)
    assert decoder.output_projection is not None
    spec.embeddings.weight = _array(decoder.embed_tokens.weight)
    if decoder.project_in_dim is not None and decoder.project_out_dim is not None:
        _fill_linear(spec.project_in, [decoder.project_in_dim])
        _fill_linear(spec.project_out, [decoder.project_out_dim])
    _fill_linear(spec.projection, [decoder.output_projection])
    for layer_spec, layer in zip(spec.layer, decoder.layers, strict=True):
        assert isinstance(layer, TransformerDecoderLayer)
        _fill_attention(layer_spec.self_attention, layer.self_attn, layer.self_attn_layer_norm, own=True)
        if layer.encoder_attn is not None:
            _fill_attention(layer_spec.attention, layer.encoder_attn, layer.encoder_attn_layer_norm, own=False)
        _fill_feed_forward(layer_spec.ffn, layer)
    _fill_stack(spec, decoder)


def _fill_stack(spec: Any, stack: TransformerEncoder | TransformerDecoder) -> None:
    scale = stack.options.embed_scale
    spec.scale_embeddings = False if scale == 1.0 else np.float32(scale)
    longest = stack.max_positions()
    if not isinstance(stack.embed_positions, LearnedPositionalEmbedding):
        longest = max(longest, _POSITIONS)
    spec.position_encodings.encodings = _array(position_table(stack, longest))
    if stack.layernorm_embedding is not None:
        _fill_norm(spec.layernorm_embedding, stack.layernorm_embedding)
    if stack.layer_norm is not None:
        _fill_norm(spec.layer_norm, stack.layer_norm)


def _fill_attention(spec: Any, attention: MultiheadAttention, norm: nn.LayerNorm, *, own: bool) -> None:
    """Queries, keys and values are one projection in self-attention, keys and values in attention to the source."""
    fused = [attention.q_proj, attention.k_proj, attention.v_proj]
    groups = [fused, [attention.out_proj]] if own else [fused[:1], fused[1:], [attention.out_proj]]
    for linear_spec, linears in zip(spec.linear, groups, strict=True):
        _fill_linear(linear_spec, linears)
    _fill_norm(spec.layer_norm, norm)


def _fill_feed_forward(spec: Any, layer: TransformerEncoderLayer | TransformerDecoderLayer) -> None:
    _fill_linear(spec.linear_0, [layer.fc1])
    _fill_linear(spec.linear_1, [layer.fc2])
    _fill_norm(spec.layer_norm, layer.final_layer_norm)


def _fill_linear(spec: Any, linears: Sequence[nn.Linear]) -> None:
    """Linear maps of one input, one below the other."""
    spec.weight = _array(torch.cat([linear.weight for linear in linears]))
    if linears[0].bias is not None:
        spec.bias = _array(torch.cat([linear.bias for linear in linears]))


def _fill_norm(spec: Any, norm: nn.LayerNorm | RMSNorm) -> None:
    spec.gamma = _array(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        spec.beta = _array(norm.bias)


def _name_special_symbols(config: Any, dictionary: Dictionary) -> None:
    config.bos_token = dictionary.bos_word
    config.eos_token = dictionary.eos_word
    config.unk_token = dictionary.unk_word


def _activation(specs: ModuleType, name: str) -> Any:
    return getattr(specs.common_spec.Activation, _ACTIVATIONS[name])


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().float().cpu().contiguous().numpy()
    return array
