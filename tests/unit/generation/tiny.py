"""A random Transformer over a handful of words, and batches for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqkit.config.sections import GenerationConfig
from seqkit.data.collate import collate_tokens
from seqkit.data.dictionary import Dictionary
from seqkit.generation.build import build_generator
from seqkit.generation.constraints import pack_constraints
from seqkit.generation.hypothesis import Hypothesis
from seqkit.generation.step_processors import AllowedTokensFunction
from seqkit.models.base import LanguageModel, Model
from seqkit.models.transformer import TransformerConfig, TransformerModel
from seqkit.models.transformer_lm import TransformerLanguageModel, TransformerLMConfig


@dataclass
class TinyTask:
    source_dictionary: Dictionary
    target_dictionary: Dictionary


def tiny_dictionary(words: int = 4) -> Dictionary:
    dictionary = Dictionary()
    for number in range(words):
        dictionary.add_symbol(f"w{number}")
    return dictionary


def tiny_model(dictionary: Dictionary, seed: int = 1, **options: Any) -> TransformerModel:
    """Its weights are large, so that it is far from undecided."""
    torch.manual_seed(seed)
    settings = {
        "encoder_embed_dim": 8,
        "decoder_embed_dim": 8,
        "encoder_ffn_embed_dim": 16,
        "decoder_ffn_embed_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_source_positions": 64,
        "max_target_positions": 64,
    }
    model = TransformerModel.build(TransformerConfig(**{**settings, **options}), TinyTask(dictionary, dictionary))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
    return model.eval()


def tiny_language_model(dictionary: Dictionary, seed: int = 1, **options: Any) -> TransformerLanguageModel:
    """The same as a language model."""
    torch.manual_seed(seed)
    settings = {
        "decoder_embed_dim": 8,
        "decoder_input_dim": 8,
        "decoder_output_dim": 8,
        "decoder_ffn_embed_dim": 16,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "tokens_per_sample": 64,
    }
    model = TransformerLanguageModel.build(
        TransformerLMConfig(**{**settings, **options}), TinyTask(dictionary, dictionary)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0)
    return model.eval()


def batch_of(sources: Sequence[Sequence[int]], dictionary: Dictionary) -> dict[str, Any]:
    """A batch of sources (EOS is added), padded on the left."""
    rows = [torch.tensor([*source, dictionary.eos()]) for source in sources]
    return {
        "id": torch.arange(len(rows)),
        "nsentences": len(rows),
        "net_input": {
            "src_tokens": collate_tokens(rows, dictionary.pad(), left_pad=True),
            "src_lengths": torch.tensor([row.numel() for row in rows]),
        },
    }


def random_sources(count: int, dictionary: Dictionary, longest: int = 9, seed: int = 3) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest, (count,), generator=generator).tolist()
    return [torch.randint(4, len(dictionary), (length,), generator=generator).tolist() for length in lengths]


def search(
    models: Model | Sequence[Model],
    sources: Sequence[Sequence[int]],
    dictionary: Dictionary,
    *,
    prefix_tokens: Tensor | None = None,
    ids: Sequence[int] | None = None,
    constrained: Sequence[Sequence[Sequence[int]]] | None = None,
    seed: int = 1,
    language_model: LanguageModel | None = None,
    allowed_tokens: AllowedTokensFunction | None = None,
    **options: Any,
) -> list[list[Hypothesis]]:
    """Decode with generation options.

    Args:
        ids: numbers of the sentences; 0, 1, … by default.
        constrained: what each sentence's output must contain.
    """
    models = [models] if isinstance(models, Model) else models
    generator = build_generator(
        models,
        dictionary,
        GenerationConfig(**options),
        seed=seed,
        language_model=language_model,
        allowed_tokens=allowed_tokens,
    )
    sample = batch_of(sources, dictionary)
    if ids is not None:
        sample["id"] = torch.tensor(ids)
    if constrained is not None:
        sample["constraints"] = collate_tokens([pack_constraints(own) for own in constrained], 0)
    return generator.generate(sample, prefix_tokens=prefix_tokens)


def log_probs_of(model: Model, source: Sequence[int], target: Sequence[int], dictionary: Dictionary) -> Tensor:
    """(T,) log-probability of each token of a target, by one teacher-forced pass."""
    net_input = batch_of([source], dictionary)["net_input"]
    previous = torch.tensor([[dictionary.eos(), *target[:-1]]])
    with torch.no_grad():
        logits = model(**net_input, prev_output_tokens=previous).logits[0]
    return logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None])[:, 0]
