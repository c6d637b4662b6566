"""Loss, words and bytes of a text, against the model's own probabilities taken one by one."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.generation import sequence_scorer
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.text_evaluation import TextEvaluator, TextFigures
from seqkit.generation.word_spelling import WordSpelling
from seqkit.models.base import LanguageModel
from tests.unit.models.language_models import language_model

SMALL = {
    "decoder_embed_dim": 8,
    "decoder_input_dim": 8,
    "decoder_output_dim": 8,
    "decoder_ffn_embed_dim": 8,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
}
ADAPTIVE = {"adaptive_softmax_cutoff": "8,14"}
PAD, EOS = 1, 2
SOURCE = torch.tensor([[EOS, 4, 5, 6, EOS], [7, 8, 4, PAD, PAD]])
TARGET = torch.tensor([[4, 5, 6, EOS, 9], [PAD, 4, 10, PAD, PAD]])


class Pieces:
    """A dictionary of which two symbols are beginnings of words."""

    def __init__(self) -> None:
        self.source_dictionary = self.target_dictionary = Dictionary()
        for symbol in ("un@@", "a", "be@@", *(f"w{number}" for number in range(17))):
            self.target_dictionary.add_symbol(symbol)


def model_of(**options: Any) -> LanguageModel:
    return language_model("transformer_lm", Pieces(), **SMALL, **options)


def sample() -> dict[str, Any]:
    return {
        "id": torch.tensor([5, 3]),
        "net_input": {"src_tokens": SOURCE, "src_lengths": torch.tensor([5, 3])},
        "target": TARGET.clone(),
    }


def evaluator(*models: LanguageModel, post_process: str | None = None, **options: Any) -> TextEvaluator:
    dictionary = Pieces().target_dictionary
    return TextEvaluator(Ensemble(models), dictionary, WordSpelling(dictionary, post_process), **options)


def log_probs(model: LanguageModel) -> list[float]:
    """Of the targets that are there, row by row."""
    with torch.no_grad():
        table = model.normalized_probs(model(SOURCE).logits, log_probs=True)
    return [
        float(table[row, place, token])
        for row in range(2)
        for place, token in enumerate(TARGET[row].tolist())
        if token != PAD
    ]


@pytest.mark.parametrize("options", [{}, ADAPTIVE, {"share_decoder_input_output_embed": True}], ids=str)
@pytest.mark.parametrize("softmax_batch", [None, 1, 3])
def test_every_target_counts_once(options: dict[str, Any], softmax_batch: int | None) -> None:
    model = model_of(**options)
    evaluating = evaluator(model, softmax_batch=softmax_batch)
    evaluating.add(sample())
    figures, expected = evaluating.figures, log_probs(model)
    assert (figures.blocks, figures.tokens, figures.words) == (2, 7, 7)
    assert figures.loss == pytest.approx(-sum(expected) / 7 / math.log(2), abs=1e-6)
    assert figures.perplexity == pytest.approx(2**figures.loss)


def test_memory_is_bounded_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of()
    widths = []
    projection = model.output_linear()
    assert projection is not None
    projection.register_forward_hook(lambda module, inputs, output: widths.append(len(output)))
    monkeypatch.setattr(sequence_scorer, "_SCORES_AT_A_TIME", 2 * projection.out_features)
    evaluating = evaluator(model)
    evaluating.add(sample())
    # seven targets, two at a time; positions without a target are not projected at all
    assert widths == [2, 2, 2, 1]
    assert evaluating.figures.log_prob == pytest.approx(sum(log_probs(model)), abs=1e-5)


def test_an_ensemble_averages_probabilities() -> None:
    models = [model_of(), model_of(decoder_learned_pos=True, tokens_per_sample=9)]
    evaluating = evaluator(*models)
    evaluating.add(sample())
    pairs = zip(*(log_probs(model) for model in models), strict=True)
    expected = sum(math.log((math.exp(one) + math.exp(other)) / 2) for one, other in pairs)
    assert evaluating.figures.log_prob == pytest.approx(expected, abs=1e-5)


def test_subwords_make_words() -> None:
    model = model_of()
    expected = log_probs(model)
    evaluating = evaluator(model, post_process="subword_nmt", word_probs=True, word_stats=True)
    first, second = evaluating.add(sample())
    assert (first.id, second.id) == (5, 3)
    assert first.words == ["una", "be</s>", "w2"]
    assert second.words == ["unw3"]
    assert first.log_probs == pytest.approx(
        [expected[0] + expected[1], expected[2] + expected[3], expected[4]], abs=1e-5
    )
    figures = evaluating.figures
    assert (figures.tokens, figures.words) == (7, 4)
    assert figures.log_prob == pytest.approx(sum(expected), abs=1e-5)
    statistics = {word.word: word for word in figures.by_frequency()}
    assert statistics["una"].is_bpe
    assert not statistics["w2"].is_bpe
    assert (statistics["una"].count, statistics["una"].next_count, statistics["w2"].next_count) == (1, 1, 0)
    assert statistics["una"].next_log_prob == pytest.approx(first.log_probs[1])


def test_bits_per_byte() -> None:
    evaluating = evaluator(model_of())
    evaluating.add(sample())
    figures = evaluating.figures
    # "un@@ a be@@\nw2" at the beginning of a line, " un@@ w3" behind other words
    assert figures.bytes == len("un@@ a be@@\nw2 un@@ w3")
    assert figures.bits_per_byte == pytest.approx(figures.loss * 7 / figures.bytes)
    unknown = sample()
    unknown["target"][0, 0] = 3
    evaluating.add(unknown)
    assert (figures.unknown, figures.bits_per_byte) == (1, None)


def test_a_bos_before_blocks_is_no_text() -> None:
    model = model_of()
    evaluating = evaluator(model, skip_first=True)
    evaluating.add(sample())
    expected = log_probs(model)
    assert evaluating.figures.tokens == 5
    assert evaluating.figures.log_prob == pytest.approx(sum(expected[1:5]) + expected[6], abs=1e-5)


def test_impossible_words_do_not_count() -> None:
    model = model_of()
    expected = log_probs(model)
    projection = model.output_linear()
    assert projection is not None
    table = model.normalized_probs

    def without_w2(logits: torch.Tensor, *, log_probs: bool) -> torch.Tensor:
        return table(logits, log_probs=log_probs).index_fill(-1, torch.tensor([9]), -math.inf)

    model.normalized_probs = without_w2  # type: ignore[method-assign]
    evaluating = evaluator(model)
    evaluating.add(sample())
    figures = evaluating.figures
    assert (figures.words, figures.impossible) == (6, 1)
    assert figures.log_prob == pytest.approx(sum(expected) - expected[4], abs=1e-5)
    assert figures.bits_per_byte is None


def test_figures_of_processes_add_up() -> None:
    model = model_of()
    whole = evaluator(model, word_stats=True)
    parts = [evaluator(model, word_stats=True) for _ in range(2)]
    for part in parts:
        whole.add(sample())
        part.add(sample())
    total, other = (TextFigures.from_dict(json.loads(json.dumps(part.figures.to_dict()))) for part in parts)
    total.merge(other)
    assert total == whole.figures


def test_nothing_is_no_loss() -> None:
    figures = TextFigures()
    assert (figures.loss, figures.perplexity, figures.bits_per_byte) == (0.0, 1.0, None)
    assert TextFigures(words=1, log_prob=-1e6).perplexity == math.inf


def test_several_targets_are_refused() -> None:
    batch = {**sample(), "target": [TARGET, TARGET]}
    with pytest.raises(ConfigError, match="this task has several"):
        evaluator(model_of()).add(batch)
