"""Parameter names of fairseq's models, turned into those of seqkit's.

Names are equal wherever a name is natural; what differs is older layouts and buffers that hold no parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_NO_PARAMETERS = re.compile(r"(^|\.)(version|_float_tensor|embed_positions\.weights|conv\.conv_bias)$")
_OLD_LAYER_NORM = re.compile(r"^(.*\.layers\.\d+)\.layer_norms\.(\d)\.(weight|bias)$")
_LAYER_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
_NO_OUTPUT_PROJECTION = ("lstm", "lstm_lm")
"""Models whose tied output is the embedding itself."""
_PACKED = re.compile(r"^(.*\.)in_proj_(weight|bias)$")


def upgrade_state_dict(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Today's names for a fairseq model's state.

    Leaves out what is no parameter (versions, sinusoidal tables, the biases that dynamic convolutions neither set nor
    use), splits packed `in_proj` projections, renames numbered layer norms, and fills in an output projection that old
    files left to the tied embedding.

    Args:
        state: parameter name to tensor, as in the file.
        config: the converted root config, for what cannot be seen from the names.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if _NO_PARAMETERS.search(name):
            continue
        packed = _PACKED.match(name)
        if packed:
            for part, rows in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
                renamed[f"{packed[1]}{part}.{packed[2]}"] = rows
            continue
        old = _OLD_LAYER_NORM.match(name)
        if old:
            side = "decoder" if ".decoder." in f".{name}" else "encoder"
            name = f"{old[1]}.{_LAYER_NORMS[side][int(old[2])]}.{old[3]}"
        renamed[name] = tensor
    if "decoder.embed_out" in renamed:
        renamed["decoder.output_projection.weight"] = renamed.pop("decoder.embed_out")
    model = config.get("model") or {}
    tied = model.get("share_all_embeddings") or model.get("share_decoder_input_output_embed")
    tied = tied and model.get("_name") not in _NO_OUTPUT_PROJECTION
    if tied and "decoder.output_projection.weight" not in renamed and "decoder.embed_tokens.weight" in renamed:
        renamed["decoder.output_projection.weight"] = renamed["decoder.embed_tokens.weight"]
    return renamed
