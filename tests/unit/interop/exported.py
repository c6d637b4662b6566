"""Small models to export, far from undecided, and what they compute."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqkit.data.dictionary import Dictionary
from seqkit.interop.exports import Symbols
from seqkit.models.base import Model
from seqkit.registry import registry
from tests.unit.generation.tiny import TinyTask, tiny_dictionary

SMALL_TRANSFORMER: dict[str, Any] = {
    "encoder_embed_dim": 16,
    "decoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "decoder_ffn_embed_dim": 32,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "max_source_positions": 24,
    "max_target_positions": 24,
}
SMALL_LANGUAGE_MODEL: dict[str, Any] = {
    "decoder_embed_dim": 16,
    "decoder_input_dim": 16,
    "decoder_output_dim": 16,
    "decoder_ffn_embed_dim": 24,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "tokens_per_sample": 24,
}
SMALL_DECODER_LM: dict[str, Any] = {
    "decoder_embed_dim": 16,
    "decoder_ffn_embed_dim": 24,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "tokens_per_sample": 24,
    "norm_eps": 1e-3,
}
_SMALL = {"transformer": SMALL_TRANSFORMER, "transformer_lm": SMALL_LANGUAGE_MODEL, "decoder_lm": SMALL_DECODER_LM}

DICTIONARY = tiny_dictionary(20)
OTHER_DICTIONARY = tiny_dictionary(15)
TEXT = [4, 9, 7, 23, 5, 5, 11, 17, 20, 8, 6, 21, 13]


def small_model(name: str, source: Dictionary = DICTIONARY, target: Dictionary = DICTIONARY, **options: Any) -> Model:
    """A model with parameters of every kind drawn anew, norms and biases too."""
    entry = registry("model").get(name)
    config = entry.config(**{**_SMALL[name], **options})
    config._name = name
    torch.manual_seed(5)
    model: Model = entry.cls.build(config, TinyTask(source, target))
    model.config = config
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(10.0 if name == "decoder_lm" else 2.0)
    return model.eval()


def symbols(source: Dictionary = DICTIONARY, target: Dictionary = DICTIONARY) -> Symbols:
    return Symbols(source, target, target.eos(), "dict.de.txt", "dict.en.txt")


@torch.no_grad()
def translation_logits(model: Model, sources: list[list[int]], previous: list[int]) -> Tensor:
    """(B, T, V); EOS is put behind each source, and in front of what was put out."""
    longest = max(map(len, sources)) + 1
    rows = [[1] * (longest - 1 - len(source)) + [*source, 2] for source in sources]
    lengths = torch.tensor([len(source) + 1 for source in sources])
    outputs = torch.tensor([[2, *previous]] * len(sources))
    logits: Tensor = model(torch.tensor(rows), lengths, outputs).logits
    return logits


@torch.no_grad()
def text_logits(model: Model, text: list[int]) -> Tensor:
    """(T + 1, V): of a text with EOS in front."""
    logits: Tensor = model(torch.tensor([[2, *text]])).logits[0]
    return logits
