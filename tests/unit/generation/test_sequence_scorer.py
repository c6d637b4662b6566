from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqkit.config.sections import GenerationConfig
from seqkit.data.collate import collate_tokens
from seqkit.errors import DataError
from seqkit.generation import sequence_scorer
from seqkit.generation.build import build_generator
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.sequence_scorer import score_stretches, score_targets
from seqkit.models.base import LanguageModel
from seqkit.models.decoder_lm import DecoderLanguageModel
from tests.unit.generation.tiny import batch_of, log_probs_of, search, tiny_dictionary, tiny_model
from tests.unit.models.language_models import language_model

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


# texts in stretches

TEXT = torch.randint(4, 24, (47,), generator=torch.Generator().manual_seed(1)).tolist()
BLOCK, CONTEXT, BLOCKS = 3, 5, 4
PAD = 1
ROTARY = {"decoder_embed_dim": 16, "decoder_attention_heads": 4, "decoder_ffn_embed_dim": 24, "init_std": 0.3}


def in_stretches(text: list[int] = TEXT) -> tuple[Tensor, Tensor]:
    """The text read and what is to be predicted of it, cut into stretches behind their context."""
    rows, targets = [], []
    for start in range(0, len(text) - 1, BLOCK * BLOCKS):
        first, end = max(start - CONTEXT, 0), min(start + BLOCK * BLOCKS, len(text) - 1)
        rows.append(torch.tensor(text[first:end]))
        targets.append(torch.tensor([PAD] * (start - first) + text[start + 1 : end + 1]))
    return collate_tokens(rows, PAD), collate_tokens(targets, PAD)


def of_stretches(*models: LanguageModel, **more: Any) -> Tensor:
    tokens, target = in_stretches()
    options = {"pad": PAD, "block": BLOCK, "context": CONTEXT, **more}
    with torch.no_grad():
        scores = score_stretches(Ensemble(models), tokens, target, **options)
        for row in range(len(tokens)):  # whatever is beside them
            alone = score_stretches(Ensemble(models), tokens[row : row + 1], target[row : row + 1], **options)
            torch.testing.assert_close(alone[0], scores[row], atol=1e-5, rtol=1e-5)
    assert not scores[target.eq(PAD)].any()
    return scores[target.ne(PAD)]


def of_windows(*models: LanguageModel) -> Tensor:
    """Each block behind a context that is read for it alone."""
    found = []
    for start in range(0, len(TEXT) - 1, BLOCK):
        first, end = max(start - CONTEXT, 0), min(start + BLOCK, len(TEXT) - 1)
        target = torch.tensor([[PAD] * (start - first) + TEXT[start + 1 : end + 1]])
        with torch.no_grad():
            scores, _ = score_targets(
                Ensemble(models), {"src_tokens": torch.tensor([TEXT[first:end]])}, target, pad=PAD
            )
        found.append(scores[target.ne(PAD)])
    return torch.cat(found)


SEES_NO_FURTHER: dict[str, tuple[str, dict[str, Any]]] = {
    "one layer": ("decoder_lm", {**ROTARY, "decoder_layers": 1}),
    "window": ("decoder_lm", {**ROTARY, "decoder_layers": 2, "sliding_window": 3, "decoder_kv_heads": 2}),
    "convolutions": ("fconv_lm", {"decoder_layers": "[(8, 3), (8, 2), (8, 3)]"}),
    "convolutions, adaptive": (
        "fconv_lm",
        {"decoder_layers": "[(8, 3)]", "criterion": "adaptive_loss", "adaptive_softmax_cutoff": "8,14"},
    ),
    "light convolutions": (
        "lightconv_lm",
        {"no_token_positional_embeddings": True, "decoder_layers": 2, "decoder_kernel_size_list": [3, 4]}
        | {f"decoder_{name}": 8 for name in ("embed_dim", "conv_dim", "input_dim", "output_dim", "ffn_embed_dim")},
    ),
    "no positions": (
        "transformer_lm",
        {"no_token_positional_embeddings": True, "decoder_layers": 1, "decoder_ffn_embed_dim": 16}
        | {f"decoder_{name}": 16 for name in ("embed_dim", "input_dim", "output_dim")},
    ),
}


@pytest.mark.parametrize("kind", SEES_NO_FURTHER)
def test_stretches_are_scored_as_windows_where_the_context_is_all_that_is_seen(kind: str) -> None:
    name, options = SEES_NO_FURTHER[kind]
    model = language_model(name, **options)
    expected = of_windows(model)
    torch.testing.assert_close(of_stretches(model), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(of_stretches(model, softmax_batch=2), expected, atol=1e-5, rtol=1e-5)
    for at_once in (2, 3, 100):
        torch.testing.assert_close(of_stretches(model, at_once=at_once), expected, atol=1e-5, rtol=1e-5)
    if "layer" not in kind and kind != "no positions":
        reach = model.decoder.context_reach()
        assert reach is not None
        assert reach <= CONTEXT
    changed = [4 if place == 20 else token for place, token in enumerate(TEXT)]
    read = [model(torch.tensor([text])).logits[0] for text in (TEXT, changed)]
    assert model.decoder.why_not_carried_on() is None
    furthest = int((read[0] - read[1]).abs().amax(1).gt(1e-6).nonzero().max()) - 20
    assert model.decoder.context_reach() in (None, furthest)


def test_an_ensemble_of_stretches() -> None:
    models = [
        language_model(*SEES_NO_FURTHER[kind][:1], **SEES_NO_FURTHER[kind][1]) for kind in ("window", "convolutions")
    ]
    torch.testing.assert_close(of_stretches(*models), of_windows(*models), atol=1e-5, rtol=1e-5)


def test_what_is_carried_on_remembers_the_text_before() -> None:
    model = language_model("decoder_lm", **ROTARY, decoder_layers=3)
    assert isinstance(model, DecoderLanguageModel)
    assert model.decoder.context_reach() is None
    tokens, target = in_stretches()
    expected = []
    for row, wanted in zip(tokens, target, strict=True):
        begin, length = int(wanted.ne(PAD).int().argmax()), int(wanted.ne(PAD).nonzero().max()) + 1
        steps = torch.arange(length)
        # each block's first token, less the context, is where attention ends
        furthest = begin + (steps - begin).clamp(min=0) // BLOCK * BLOCK - CONTEXT
        mask = (steps <= steps.unsqueeze(1)) & (steps >= furthest.unsqueeze(1))
        x, rotation = model.decoder.embed_tokens(row[:length].unsqueeze(0)), model.decoder.rotary(length)
        for layer in model.decoder.layers:
            x = layer(x, rotation, mask)
        logits = model.decoder.output_layer(model.decoder.norm(x))[0]
        expected.append(logits.log_softmax(-1)[steps[begin:], wanted[begin:length]])
    found = of_stretches(model)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(of_stretches(model, at_once=3), found, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, of_windows(model), atol=1e-5)


def test_a_recurrent_model_reads_a_stretch_as_one_text() -> None:
    model = language_model("lstm_lm", decoder_layers=2, decoder_hidden_size=8, decoder_embed_dim=8)
    tokens, target = in_stretches()
    with torch.no_grad():
        expected, _ = score_targets(Ensemble([model]), {"src_tokens": tokens}, target, pad=PAD)
    torch.testing.assert_close(of_stretches(model), expected[target.ne(PAD)], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        language_model("decoder_lm", **ROTARY, rope_scaling="dynamic", rope_original_positions=8, sliding_window=2),
        language_model("transformer_lm", decoder_layers=1),
        language_model("lightconv_lm", decoder_layers=1, decoder_kernel_size_list=[3]),
    ],
)
def test_absolute_positions_are_not_carried_on(model: LanguageModel) -> None:
    assert "positions" in (model.decoder.why_not_carried_on() or "")
    assert model.decoder.context_reach() is None
