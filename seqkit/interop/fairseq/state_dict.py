"""Parameter names of fairseq's models, turned into those of seqkit's.

Names are equal wherever a name is natural; what differs is older layouts and buffers that hold no parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_BUFFER = re.compile(
    r"(^|\.)(version|_float_tensor|embed_positions\.weights|running_mean|running_var|num_batches_tracked)$"
)
_KEPT_BUFFER = re.compile(r"\.(running_mean|running_var|num_batches_tracked)$")
_UNUSED = re.compile(r"(^|\.)conv\.conv_bias$")
"""The biases of dynamic convolutions: parameters that fairseq neither set nor used."""
_COPY = re.compile(r"(^|\.)layers\.\d+\.(in_proj|out_proj|fc1|fc2)_(weight|bias)$")
"""Second copies of an encoder layer's weights, which fairseq 0.12.2 made for a quicker way of evaluating; in training
they are parameters without gradients, and out of date."""
_PACKED = re.compile(r"^(.*\.)in_proj_(weight|bias)$")
_OLD_LAYER_NORM = re.compile(r"^(.*\.layers\.\d+)\.layer_norms\.(\d)\.(weight|bias)$")
_LAYER_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
_SCALES = {
    "scale_heads": ".c_attn",
    "scale_attn": ".attn_ln.weight",
    "scale_fc": ".ffn_layernorm.weight",
    "scale_resids": ".w_resid",
}
"""NormFormer's options and what their parameters' names end with."""
_NO_OUTPUT_PROJECTION = ("lstm", "lstm_lm")
"""Models whose tied output is the embedding itself."""


def is_parameter(name: str) -> bool:
    """Whether fairseq's optimizers knew what a state calls `name`: a parameter, not a buffer."""
    return _BUFFER.search(name) is None


def is_copy(name: str) -> bool:
    """Whether a parameter is a second copy of others, as fairseq 0.12.2 kept of each encoder layer."""
    return _COPY.search(name) is not None


def names_today(name: str) -> tuple[str, ...]:
    """What a tensor of fairseq's is called today; none where nothing is kept of it.

    Several names are those of equal parts of it, in order along its first axis: packed `in_proj` projections.
    """
    if _UNUSED.search(name) or is_copy(name) or (not is_parameter(name) and not _KEPT_BUFFER.search(name)):
        return ()
    packed = _PACKED.match(name)
    if packed:
        return tuple(f"{packed[1]}{part}.{packed[2]}" for part in ("q_proj", "k_proj", "v_proj"))
    old = _OLD_LAYER_NORM.match(name)
    if old:
        side = "decoder" if ".decoder." in f".{name}" else "encoder"
        return (f"{old[1]}.{_LAYER_NORMS[side][int(old[2])]}.{old[3]}",)
    return ("decoder.output_projection.weight" if name == "decoder.embed_out" else name,)


def upgrade_state_dict(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Today's names for a fairseq model's state.

    Leaves out what is no parameter (versions, sinusoidal tables, the biases that dynamic convolutions neither set nor
    use) and second copies of parameters, splits packed `in_proj` projections, renames numbered layer norms, fills in
    an output projection that old files left to the tied embedding, and measures the lengths of normalised convolutions
    by output, as today.

    Args:
        state: parameter name to tensor, as in the file.
        config: the converted root config, for what cannot be seen from the names.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        names = names_today(name)
        parts = tensor.chunk(len(names)) if len(names) > 1 else (tensor,) * len(names)
        renamed.update(zip(names, parts, strict=True))
    model = config.get("model") or {}
    tied = model.get("share_all_embeddings") or model.get("share_decoder_input_output_embed")
    tied = tied and model.get("_name") not in _NO_OUTPUT_PROJECTION
    if tied and "decoder.output_projection.weight" not in renamed and "decoder.embed_tokens.weight" in renamed:
        renamed["decoder.output_projection.weight"] = renamed["decoder.embed_tokens.weight"]
    if model.get("_name") in _NO_OUTPUT_PROJECTION and any(".adaptive_softmax." in name for name in renamed):
        # A map to the width of the output, which an adaptive softmax does not have: fairseq made it and never used it.
        renamed = {name: tensor for name, tensor in renamed.items() if not name.startswith("decoder.additional_fc.")}
    for name in [name for name in renamed if name.endswith(".weight_g")]:
        _measure_by_output(renamed, name.removesuffix("_g"))
    return renamed


def without_final_norms(state: Mapping[str, Tensor], model: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a pre-norm Transformer of before fairseq had norms behind its stacks must be built with.

    Such files have no tensors for these norms.

    Args:
        state: as in the file.
        model: the model's converted options.
    """
    return {
        f"no_{side}_final_norm": True
        for side in ("encoder", "decoder")
        if model.get(f"{side}_normalize_before")
        and not model.get(f"no_{side}_final_norm")
        and f"{side}.layers.0.fc1.weight" in state
        and f"{side}.layers.0.linear1.weight" not in state  # convolutions have no such norm
        and f"{side}.layer_norm.weight" not in state
    }


def without_unused_scales(state: Mapping[str, Tensor], model: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a Transformer must be built with where fairseq took NormFormer's flags and passed over them.

    Args:
        state: as in the file.
        model: the model's converted options.
    """
    return {
        option: False
        for option, parameter in _SCALES.items()
        if model.get(option) and not any(name.endswith(parameter) for name in state)
    }


def with_plain_embedding(state: Mapping[str, Tensor], model: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a Transformer with an encoder must be built with where fairseq passed over what they said.

    Its target embedding was a table of the decoder's width, whatever `decoder_input_dim` and `adaptive_input` were.

    Args:
        state: as in the file.
        model: the model's converted options.
    """
    table = state.get("decoder.embed_tokens.weight")
    if table is None or "encoder.embed_tokens.weight" not in state:
        return {}
    width = int(table.size(1))
    plain = {"adaptive_input": False} if model.get("adaptive_input") else {}
    return plain | ({} if model.get("decoder_input_dim") in (None, width) else {"decoder_input_dim": width})


def _measure_by_output(state: dict[str, Tensor], prefix: str) -> None:
    """Lengths of a convolution's weights (K, I, O) by output channel; fairseq's first files have them by position."""
    length, direction = state[f"{prefix}_g"], state[f"{prefix}_v"]
    if direction.dim() != 3 or length.shape == (1, 1, direction.size(2)):
        return
    weight = direction * (length / torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True))
    state[f"{prefix}_g"] = torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True)
    state[f"{prefix}_v"] = weight
