from __future__ import annotations

import pytest
import torch

from seqkit.config.sections import GenerationConfig
from seqkit.data.collate import collate_tokens
from seqkit.errors import DataError
from seqkit.generation import sequence_scorer
from seqkit.generation.build import build_generator
from tests.unit.generation.tiny import batch_of, log_probs_of, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()
SOURCES = [[4, 5, 6], [7, 4], [5]]
TARGETS = [[4, 2], [6, 7, 5, 2], [3, 2]]


def sample() -> dict[str, object]:
    rows = [torch.tensor(target) for target in TARGETS]
    batch = batch_of(SOURCES, DICTIONARY)
    batch["target"] = collate_tokens(rows, DICTIONARY.pad())
    batch["net_input"]["prev_output_tokens"] = collate_tokens(
        rows, DICTIONARY.pad(), DICTIONARY.eos(), move_eos_to_beginning=True
    )
    return batch


@pytest.mark.parametrize("at_a_time", [1, 10_000])
def test_targets_are_scored_by_the_mean_of_their_tokens(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    monkeypatch.setattr(sequence_scorer, "_SCORES_AT_A_TIME", at_a_time)
    model = tiny_model(DICTIONARY)
    scorer = build_generator([model], DICTIONARY, GenerationConfig(score_reference=True))
    for source, target, hypotheses in zip(SOURCES, TARGETS, scorer.generate(sample()), strict=True):
        (only,) = hypotheses
        expected = log_probs_of(model, source, target, DICTIONARY)
        assert only.tokens.tolist() == target
        torch.testing.assert_close(only.positional_scores, expected, atol=1e-5, rtol=0)
        assert only.score == pytest.approx(float(expected.mean()), abs=1e-5)


def test_an_ensemble_averages_probabilities() -> None:
    models = [tiny_model(DICTIONARY, seed) for seed in (1, 2)]
    scorer = build_generator(models, DICTIONARY, GenerationConfig(score_reference=True))
    (only,) = scorer.generate(sample())[1]
    own = torch.stack([log_probs_of(model, SOURCES[1], TARGETS[1], DICTIONARY) for model in models])
    torch.testing.assert_close(only.positional_scores, own.exp().mean(0).log(), atol=1e-5, rtol=0)


def test_what_search_finds_is_scored_the_same() -> None:
    model = tiny_model(DICTIONARY)
    best = search(model, SOURCES[:1], DICTIONARY, beam=3, max_len_b=6)[0][0]
    batch = batch_of(SOURCES[:1], DICTIONARY)
    batch["target"] = best.tokens[None]
    batch["net_input"]["prev_output_tokens"] = torch.cat([best.tokens[-1:], best.tokens[:-1]])[None]
    scorer = build_generator([model], DICTIONARY, GenerationConfig(score_reference=True))
    assert scorer.generate(batch)[0][0].score == pytest.approx(best.score, abs=1e-5)


def test_targets_are_needed() -> None:
    scorer = build_generator([tiny_model(DICTIONARY)], DICTIONARY, GenerationConfig(score_reference=True))
    with pytest.raises(DataError, match="needs data with targets"):
        scorer.generate(batch_of(SOURCES, DICTIONARY))
