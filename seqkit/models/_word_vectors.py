"""What turns the words of a language model into vectors, from fairseq's flat options: a table, characters, or bands.

Knows nothing of layers or tasks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Protocol

from seqkit.data.dictionary import Dictionary
from seqkit.models._transformer_decoder import OutputOptions, cutoff_problems, parse_cutoffs
from seqkit.models._transformer_stack import TokenEmbedding
from seqkit.modules.adaptive_input import AdaptiveInput
from seqkit.modules.character_token_embedder import CharacterTokenEmbedder
from seqkit.modules.embedding import token_embedding


class WordOptions(OutputOptions, Protocol):
    """The options of a language model's input and output, under fairseq's names."""

    decoder_embed_dim: int
    decoder_input_dim: int
    decoder_output_dim: int
    share_decoder_input_output_embed: bool
    character_embeddings: bool
    character_filters: str
    character_embedding_dim: int
    char_embedder_highway_layers: int
    adaptive_input: bool
    adaptive_input_factor: float
    adaptive_input_cutoff: str | None


def word_vectors(config: WordOptions, dictionary: Dictionary) -> TokenEmbedding:
    """The embedding of a dictionary's words."""
    if config.character_embeddings:
        return CharacterTokenEmbedder(
            dictionary.symbols,
            special=dictionary.nspecial,
            pad=dictionary.pad(),
            eos=dictionary.eos(),
            unk=dictionary.unk(),
            filters=_parse_filters(config.character_filters),
            char_embed_dim=config.character_embedding_dim,
            word_embed_dim=config.decoder_embed_dim,
            highway_layers=config.char_embedder_highway_layers,
        )
    if config.adaptive_input:
        assert config.adaptive_input_cutoff is not None
        return AdaptiveInput(
            len(dictionary),
            dictionary.pad(),
            config.decoder_input_dim,
            config.adaptive_input_factor,
            config.decoder_embed_dim,
            parse_cutoffs(config.adaptive_input_cutoff),
        )
    return token_embedding(len(dictionary), config.decoder_input_dim, dictionary.pad())


def _parse_filters(text: str) -> list[tuple[int, int]]:
    """The pairs of fairseq's `'[(1, 64), (2, 128)]'`.

    Raises:
        ValueError: it is not a list of pairs of numbers above 0.
    """
    try:
        pairs = [(width, channels) for width, channels in ast.literal_eval(text)]
    except (SyntaxError, TypeError) as error:
        raise ValueError(str(error)) from None
    if not pairs or any(not isinstance(number, int) or number < 1 for pair in pairs for number in pair):
        raise ValueError(f"{text!r} is not a list of pairs of numbers above 0")
    return pairs


def word_problems(config: WordOptions, source: Dictionary, target: Dictionary) -> Iterator[str]:
    """What in these options cannot be, in the user's words."""
    yield from cutoff_problems("adaptive_softmax_cutoff", config.adaptive_softmax_cutoff, len(target))
    if config.character_embeddings:
        yield from _character_problems(config)
    elif config.adaptive_input:
        if config.adaptive_input_cutoff is None:
            yield "model.adaptive_input=true needs model.adaptive_input_cutoff, e.g. '20000,60000'"
        yield from cutoff_problems("adaptive_input_cutoff", config.adaptive_input_cutoff, len(source))
    if config.tie_adaptive_weights:
        yield from _tying_problems(config)
    elif config.tie_adaptive_proj:
        yield "model.tie_adaptive_proj=true needs model.tie_adaptive_weights=true"
    if config.share_decoder_input_output_embed and config.adaptive_softmax_cutoff is None:
        if config.character_embeddings or config.adaptive_input:
            other = "character_embeddings" if config.character_embeddings else "adaptive_input"
            yield (
                f"model.share_decoder_input_output_embed=true has no table to share with model.{other}=true; "
                "leave one of them out"
            )
        elif config.decoder_input_dim != config.decoder_output_dim:
            yield (
                "model.share_decoder_input_output_embed=true needs embedding and output projection of one width, got "
                f"decoder_input_dim={config.decoder_input_dim}, decoder_output_dim={config.decoder_output_dim}"
            )


def _character_problems(config: WordOptions) -> Iterator[str]:
    if config.adaptive_input:
        yield "model.character_embeddings and model.adaptive_input exclude each other; leave one of them out"
    try:
        filters = _parse_filters(config.character_filters)
    except ValueError:
        yield (
            f"model.character_filters={config.character_filters!r} is not a list of (width, channels) pairs; "
            "write it like '[(1, 64), (2, 128), (3, 192)]'"
        )
    else:
        widest = max(width for width, _ in filters)
        if widest > CharacterTokenEmbedder.MAX_CHAR_LEN:
            yield (
                f"model.character_filters has a filter of width {widest}, wider than the "
                f"{CharacterTokenEmbedder.MAX_CHAR_LEN} bytes of a word that are read"
            )


def _tying_problems(config: WordOptions) -> Iterator[str]:
    if not config.adaptive_input or config.adaptive_softmax_cutoff is None:
        yield "model.tie_adaptive_weights=true needs both model.adaptive_input=true and model.adaptive_softmax_cutoff"
        return
    for ours, other in (
        ("adaptive_softmax_cutoff", "adaptive_input_cutoff"),
        ("adaptive_softmax_factor", "adaptive_input_factor"),
        ("decoder_output_dim", "decoder_input_dim"),
        ("decoder_output_dim", "decoder_embed_dim"),
    ):
        one, two = getattr(config, ours), getattr(config, other)
        if one != two:
            yield f"model.tie_adaptive_weights=true needs {ours} and {other} to be equal, got {one} and {two}"
