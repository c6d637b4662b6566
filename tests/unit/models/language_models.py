"""What the tests of language models share: a task of dictionaries alone, and decoding step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seqkit.config.validate import build_config
from seqkit.data.dictionary import Dictionary
from seqkit.models.base import LanguageModel, build_model
from seqkit.registry import registry


class DictionaryTask:
    """A task with `words` words beside the four special symbols."""

    def __init__(self, words: int = 20) -> None:
        self.source_dictionary = self.target_dictionary = Dictionary()
        for word in range(words):
            self.target_dictionary.add_symbol(f"w{word}")


def language_model(name: str, task: Any = None, **options: Any) -> LanguageModel:
    """A model of a registered name, in evaluation mode, drawn from seed 1."""
    torch.manual_seed(1)
    config = build_config(registry("model").get(name).config, {"_name": name, **options}, where="model")
    model = build_model(config, task or DictionaryTask())
    assert isinstance(model, LanguageModel)
    return model.eval()


def decoded_in_pieces(model: LanguageModel, tokens: Tensor, cuts: Sequence[int], beam: int = 1) -> Tensor:
    """Logits of `tokens` (B, T), `beam` rows each, read up to each of the `cuts` in turn."""
    rows = tokens.repeat_interleave(beam, 0)
    cache = model.decoder.new_cache(rows.size(0), rows.size(1), beam=beam)
    pieces = [
        model.decoder(rows[:, start:end], cache=cache).logits for start, end in zip([0, *cuts], cuts, strict=False)
    ]
    return torch.cat(pieces, dim=1)


@torch.no_grad()
def assert_decodes_as_a_whole(model: LanguageModel, tokens: Tensor, pad: int = 1) -> None:
    """Step by step, in pieces, and as a beam whose rows move: always what the whole text gives."""
    length = tokens.size(1)
    whole = model(tokens).logits
    real = tokens.ne(pad)
    for cuts in (range(1, length + 1), [length // 2, length // 2 + 1, length], [length]):
        for beam in (1, 2):
            found = decoded_in_pieces(model, tokens, list(cuts), beam)
            mask = real.repeat_interleave(beam, 0)
            expected = whole.repeat_interleave(beam, 0)
            torch.testing.assert_close(found[mask], expected[mask], atol=2e-5, rtol=1e-5)
    # Two hypotheses of each sentence swap places and go on with each other's text.
    other = tokens.flip(0)
    rows = torch.stack((tokens, other), dim=1).flatten(0, 1)
    half = length // 2
    cache = model.decoder.new_cache(rows.size(0), length, beam=2)
    for place in range(half):
        model.decoder(rows[:, place : place + 1], cache=cache)
    swap = torch.arange(rows.size(0)).view(-1, 2).flip(1).flatten()
    cache.reorder(swap)
    rows = rows[swap]
    cache.select_sentences(torch.arange(len(tokens)).flip(0))
    rows = rows.view(len(tokens), 2, length).flip(0).flatten(0, 1)
    rest = [model.decoder(rows[:, place : place + 1], cache=cache).logits for place in range(half, length)]
    expected = model(rows).logits[:, half:]
    mask = rows[:, half:].ne(pad)
    torch.testing.assert_close(torch.cat(rest, dim=1)[mask], expected[mask], atol=2e-5, rtol=1e-5)
