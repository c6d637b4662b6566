from __future__ import annotations

import pytest
import torch
from torch import nn

from seqkit.errors import ConfigError
from seqkit.generation.ensemble import Ensemble
from tests.unit.generation.tiny import log_probs_of, search, tiny_dictionary, tiny_language_model, tiny_model

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


@pytest.mark.parametrize(("learned", "longest"), [(False, 64), (True, 9)])
def test_a_language_model_beside_them_bounds_the_length_where_it_has_no_more_positions(
    learned: bool, longest: int
) -> None:
    beside = tiny_language_model(DICTIONARY, tokens_per_sample=9, decoder_learned_pos=learned)
    assert Ensemble([tiny_model(DICTIONARY)], language_model=beside).max_decoder_positions() == longest


def test_the_temperature_is_not_that_of_the_language_model_beside_them() -> None:
    model, beside = tiny_model(DICTIONARY), tiny_language_model(DICTIONARY)
    options = {"beam": 2, "max_len_b": 5, "temperature": 2.0}
    found = search(model, SOURCES[:1], DICTIONARY, **options, language_model=beside, lm_path="lm.pt", lm_weight=0.5)
    tokens = found[0][0].tokens
    previous = torch.cat([tokens[-1:], tokens[:-1]])[None]
    with torch.no_grad():
        source = torch.tensor([[*SOURCES[0], DICTIONARY.eos()]])
        own = (model(source, torch.tensor([source.size(1)]), previous).logits[0] / 2.0).log_softmax(-1)
        added = beside(previous).logits[0].log_softmax(-1)
    expected = (own + 0.5 * added).gather(1, tokens[:, None]).squeeze(1)
    torch.testing.assert_close(found[0][0].positional_scores, expected, atol=1e-5, rtol=0)


def test_what_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one model"):
        Ensemble([])
    with pytest.raises(ConfigError, match="type Linear cannot be decoded token by token"):
        Ensemble([nn.Linear(1, 1)])  # type: ignore[list-item]
