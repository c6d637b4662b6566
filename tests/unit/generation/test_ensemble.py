from __future__ import annotations

import pytest
import torch
from torch import nn

from seqkit.errors import ConfigError
from seqkit.generation.ensemble import Ensemble
from tests.unit.generation.tiny import log_probs_of, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()
SOURCES = [[4, 5, 6], [7, 4]]


def test_probabilities_are_averaged() -> None:
    models = [tiny_model(DICTIONARY, seed) for seed in (1, 2, 3)]
    for source, hypotheses in zip(SOURCES, search(models, SOURCES, DICTIONARY, beam=3, max_len_b=5), strict=True):
        tokens = hypotheses[0].tokens.tolist()
        own = torch.stack([log_probs_of(model, source, tokens, DICTIONARY) for model in models])
        torch.testing.assert_close(hypotheses[0].positional_scores, own.exp().mean(0).log(), atol=1e-5, rtol=0)


def test_a_model_twice_is_the_model_once() -> None:
    model = tiny_model(DICTIONARY)
    once = search(model, SOURCES, DICTIONARY, beam=3, max_len_b=5)
    twice = search([model, model], SOURCES, DICTIONARY, beam=3, max_len_b=5)
    for left, right in zip(once, twice, strict=True):
        assert [best.tokens.tolist() for best in left] == [best.tokens.tolist() for best in right]
        assert [best.score for best in left] == pytest.approx([best.score for best in right], abs=1e-5)


def test_the_shortest_model_decides_how_long_outputs_may_be() -> None:
    models = [tiny_model(DICTIONARY, 1), tiny_model(DICTIONARY, 2, max_target_positions=9)]
    assert Ensemble(models).max_decoder_positions() == 9


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one model"):
        Ensemble([])
    with pytest.raises(ConfigError, match="type Linear cannot be decoded token by token"):
        Ensemble([nn.Linear(1, 1)])  # type: ignore[list-item]
