"""Sampling: what may be drawn, how often it is, and that it depends on the sentence alone."""

from __future__ import annotations

import math

import pytest
import torch

from seqkit.generation.search.sampling import Sampling, likeliest
from seqkit.models.transformer import TransformerModel
from tests.unit.generation.tiny import log_probs_of, random_sources, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()
SOURCES = [[4, 5, 6], [7, 4]]
PROBS = torch.tensor([[[0.1, 0.4, 0.05, 0.3, 0.15]]])


@pytest.fixture(scope="module")
def model() -> TransformerModel:
    return tiny_model(DICTIONARY)


@pytest.mark.parametrize(
    ("topk", "topp", "tokens"),
    [(1, -1.0, {1}), (2, -1.0, {1, 3}), (-1, 0.3, {1}), (-1, 0.4, {1}), (-1, 0.41, {1, 3}), (-1, 0.9, {1, 3, 4, 0})],
)
def test_the_likeliest_tokens_are_kept_and_those_that_cross_the_probability(
    topk: int, topp: float, tokens: set[int]
) -> None:
    probs, kept = likeliest(PROBS, topk, topp)
    assert kept is not None
    found = {token: prob for token, prob in zip(kept[0, 0].tolist(), probs[0, 0].tolist(), strict=True) if prob > 0}
    assert set(found) == tokens
    assert all(prob == pytest.approx(PROBS[0, 0, token].item()) for token, prob in found.items())


def test_a_flat_distribution_over_many_words_is_looked_at_as_a_whole() -> None:
    probs = torch.full((1, 2, 5000), 1 / 5000)
    kept, _ = likeliest(probs, -1, 0.5)
    assert all(abs(count - 2500) <= 2 for count in kept.gt(0).sum(dim=2)[0].tolist())


def test_tokens_come_as_often_as_they_are_likely() -> None:
    sampling = Sampling(1)
    count = 4000
    sampling.start({"id": torch.arange(count), "net_input": {"src_lengths": torch.ones(count)}})
    chosen = sampling.step(0, PROBS.log().expand(count, 1, -1), torch.zeros(count, 1), end=0)
    shares = torch.bincount(chosen.tokens[:, 0], minlength=5) / count
    torch.testing.assert_close(shares, PROBS[0, 0], atol=0.03, rtol=0)
    torch.testing.assert_close(chosen.scores, PROBS[0, 0].log()[chosen.tokens])


def test_where_everything_is_too_unlikely_for_a_number_the_likeliest_comes() -> None:
    sampling = Sampling(2)
    sampling.start({"net_input": {"src_lengths": torch.ones(1)}})
    log_probs = torch.tensor([[[-math.inf, -900.0, -800.0, -math.inf]]])
    assert sampling.step(0, log_probs, torch.zeros(1, 1), end=0).tokens.tolist() == [[2, 2]]


def test_scores_are_the_models_own(model: TransformerModel) -> None:
    for source, hypotheses in zip(
        SOURCES, search(model, SOURCES, DICTIONARY, beam=4, max_len_b=6, sampling=True, sampling_topk=3), strict=True
    ):
        assert len(hypotheses) == 4
        for hypothesis in hypotheses:
            expected = log_probs_of(model, source, hypothesis.tokens.tolist(), DICTIONARY)
            torch.testing.assert_close(hypothesis.positional_scores, expected, atol=1e-5, rtol=0)


def test_drawing_from_the_likeliest_token_alone_is_greedy_search(model: TransformerModel) -> None:
    drawn = search(model, SOURCES, DICTIONARY, beam=1, max_len_b=6, sampling=True, sampling_topk=1)
    greedy = search(model, SOURCES, DICTIONARY, beam=1, max_len_b=6)
    for (one,), (other,) in zip(drawn, greedy, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_draws_do_not_depend_on_the_batch(model: TransformerModel, batch_size: int) -> None:
    sources = random_sources(20, DICTIONARY)
    settings = {"beam": 3, "max_len_b": 8, "sampling": True, "sampling_topp": 0.9}

    def tokens(order: list[int]) -> dict[int, list[list[int]]]:
        found = {}
        for start in range(0, len(order), batch_size):
            ids = order[start : start + batch_size]
            results = search(model, [sources[number] for number in ids], DICTIONARY, ids=ids, **settings)
            found.update({n: [h.tokens.tolist() for h in own] for n, own in zip(ids, results, strict=True)})
        return found

    together = search(model, sources, DICTIONARY, **settings)
    expected = {number: [h.tokens.tolist() for h in own] for number, own in enumerate(together)}
    assert tokens(list(range(20))) == expected
    assert tokens(list(range(19, -1, -1))) == expected


def test_another_seed_draws_other_tokens(model: TransformerModel) -> None:
    def tokens(seed: int) -> list[list[int]]:
        found = search(model, SOURCES, DICTIONARY, beam=5, max_len_b=9, sampling=True, seed=seed)
        return [hypothesis.tokens.tolist() for hypotheses in found for hypothesis in hypotheses]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)


def test_without_a_seed_every_batch_draws_anew(model: TransformerModel) -> None:
    torch.manual_seed(5)
    drawn = [
        [h.tokens.tolist() for h in search(model, SOURCES, DICTIONARY, sampling=True, no_seed_provided=True)[0]]
        for _ in range(2)
    ]
    assert drawn[0] != drawn[1]
