"""Beam search on tiny random models, against exhaustive enumeration."""

from __future__ import annotations

import gc
import itertools
import math
from typing import Any

import pytest
import torch

from seqkit.config.sections import GenerationConfig
from seqkit.data.dictionary import Dictionary
from seqkit.errors import SeqkitError
from seqkit.generation.build import build_generator
from seqkit.generation.hypothesis import Hypothesis
from seqkit.models.base import LanguageModel, ModelOutput
from seqkit.models.transformer import TransformerModel
from tests.unit.generation.tiny import batch_of, log_probs_of, random_sources, search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()
EOS, PAD, UNK = DICTIONARY.eos(), DICTIONARY.pad(), DICTIONARY.unk()
SOURCES = [[4, 5, 6], [7, 4]]


@pytest.fixture(scope="module")
def model() -> TransformerModel:
    return tiny_model(DICTIONARY)


def every_output(longest: int) -> list[list[int]]:
    """All outputs of at most `longest` tokens before EOS."""
    free = [token for token in range(len(DICTIONARY)) if token not in (EOS, PAD)]
    return [[*words, EOS] for length in range(longest + 1) for words in itertools.product(free, repeat=length)]


def same(left: list[list[Hypothesis]], right: list[list[Hypothesis]]) -> bool:
    return all(
        [hypothesis.tokens.tolist() for hypothesis in ours] == [hypothesis.tokens.tolist() for hypothesis in theirs]
        and all(abs(mine.score - its.score) < 1e-5 for mine, its in zip(ours, theirs, strict=True))
        for ours, theirs in zip(left, right, strict=True)
    )


@pytest.mark.parametrize(("normalized", "lenpen"), [(True, 1.0), (True, 0.3), (False, 1.0)])
def test_a_beam_that_holds_everything_finds_the_best_of_all_outputs(
    model: TransformerModel, normalized: bool, lenpen: float
) -> None:
    outputs = every_output(2)
    found = search(
        model,
        SOURCES,
        DICTIONARY,
        beam=len(outputs),
        max_len_b=2,
        min_len=0,
        unnormalized=not normalized,
        lenpen=lenpen,
    )
    for source, hypotheses in zip(SOURCES, found, strict=True):
        scored = []
        for output in outputs:
            total = float(log_probs_of(model, source, output, DICTIONARY).sum())
            scored.append((total / len(output) ** lenpen if normalized else total, output))
        scored.sort(reverse=True)
        assert len(hypotheses) == len(outputs)
        assert [hypothesis.tokens.tolist() for hypothesis in hypotheses[:10]] == [output for _, output in scored[:10]]
        assert [hypothesis.score for hypothesis in hypotheses] == pytest.approx(
            [score for score, _ in scored], abs=1e-4
        )


def test_token_scores_are_the_models_log_probabilities(model: TransformerModel) -> None:
    for source, hypotheses in zip(SOURCES, search(model, SOURCES, DICTIONARY, beam=3, max_len_b=6), strict=True):
        assert len(hypotheses) == 3
        for hypothesis in hypotheses:
            expected = log_probs_of(model, source, hypothesis.tokens.tolist(), DICTIONARY)
            torch.testing.assert_close(hypothesis.positional_scores, expected, atol=1e-5, rtol=0)
            assert hypothesis.score == pytest.approx(float(expected.mean()), abs=1e-5)


def test_greedy_search_takes_the_best_token_at_each_step(model: TransformerModel) -> None:
    (best,) = search(model, SOURCES[:1], DICTIONARY, beam=1, max_len_b=8)[0]
    tokens = best.tokens.tolist()
    for place, token in enumerate(tokens[:-1]):
        scores = {
            candidate: float(log_probs_of(model, SOURCES[0], [*tokens[:place], candidate], DICTIONARY)[-1])
            for candidate in range(len(DICTIONARY))
            if candidate != PAD and (candidate != EOS or place >= 1)
        }
        assert token == max(scores, key=scores.__getitem__)


def test_hypotheses_come_best_first(model: TransformerModel) -> None:
    for hypotheses in search(model, random_sources(9, DICTIONARY), DICTIONARY, beam=5, max_len_b=9):
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(hypothesis.tokens.tolist()) for hypothesis in hypotheses}) == len(hypotheses)


@pytest.mark.parametrize("options", [{}, {"max_len_a": 1.3, "max_len_b": 2}, {"match_source_len": True}])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_results_do_not_depend_on_the_batch(
    model: TransformerModel, batch_size: int, options: dict[str, float]
) -> None:
    sources = random_sources(64, DICTIONARY)
    settings = {"beam": 4, "max_len_b": 12, **options}
    together = search(model, sources, DICTIONARY, **settings)
    apart = [
        hypotheses
        for start in range(0, len(sources), batch_size)
        for hypotheses in search(model, sources[start : start + batch_size], DICTIONARY, **settings)
    ]
    assert same(together, apart)


def test_results_do_not_depend_on_the_cache(model: TransformerModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = random_sources(8, DICTIONARY)
    cached = search(model, sources, DICTIONARY, beam=3, max_len_b=9)
    monkeypatch.setattr(TransformerModel, "supports_cache", False)
    assert same(search(model, sources, DICTIONARY, beam=3, max_len_b=9), cached)


def test_the_longest_output_follows_from_each_sentences_own_length(model: TransformerModel) -> None:
    sources = [[4], [4, 5, 6, 7, 4, 5]]
    never_ending = {"beam": 2, "min_len": 60, "max_len_a": 1.5, "max_len_b": 1}
    found = search(model, sources, DICTIONARY, **never_ending)
    assert [hypotheses[0].tokens.numel() - 1 for hypotheses in found] == [int(1.5 * 2 + 1), int(1.5 * 7 + 1)]
    found = search(model, sources, DICTIONARY, max_len_per_batch=True, **never_ending)
    assert [hypotheses[0].tokens.numel() - 1 for hypotheses in found] == [int(1.5 * 7 + 1)] * 2


def test_no_output_is_longer_than_the_model_takes() -> None:
    short = tiny_model(DICTIONARY, max_target_positions=5)
    for hypothesis in search(short, SOURCES, DICTIONARY, beam=2, min_len=4, max_len_b=50)[0]:
        assert hypothesis.tokens.numel() == 5


def test_shortest_output(model: TransformerModel) -> None:
    for hypotheses in search(model, random_sources(6, DICTIONARY), DICTIONARY, beam=3, min_len=5, max_len_b=7):
        for hypothesis in hypotheses:
            assert 6 <= hypothesis.tokens.numel() <= 8
            assert hypothesis.tokens.tolist().index(EOS) == hypothesis.tokens.numel() - 1


def test_match_source_len_gives_outputs_as_long_as_their_sources(model: TransformerModel) -> None:
    sources = random_sources(6, DICTIONARY)
    for source, hypotheses in zip(
        sources, search(model, sources, DICTIONARY, beam=3, match_source_len=True), strict=True
    ):
        for hypothesis in hypotheses:
            assert hypothesis.tokens.numel() == len(source) + 2
            assert float(hypothesis.positional_scores[-1]) == 0.0


def test_no_ngram_is_repeated(model: TransformerModel) -> None:
    sources = random_sources(12, DICTIONARY)

    def repeated(size: int, **options: int) -> int:
        count = 0
        for hypotheses in search(model, sources, DICTIONARY, beam=3, min_len=14, max_len_b=16, **options):
            for hypothesis in hypotheses:
                words = [EOS, *hypothesis.tokens.tolist()[:-1]]
                ngrams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
                count += len(ngrams) - len(set(ngrams))
        return count

    assert repeated(3) > 0
    assert repeated(3, no_repeat_ngram_size=3) == 0
    assert repeated(2, no_repeat_ngram_size=2) == 0


def test_a_word_may_not_recur_but_the_end_comes(model: TransformerModel) -> None:
    for hypothesis in search(model, SOURCES, DICTIONARY, beam=2, no_repeat_ngram_size=1)[0]:
        words = hypothesis.tokens.tolist()
        assert len(set(words)) == len(words)
        assert words[-1] == EOS


def test_outputs_begin_with_their_prefixes_which_are_scored_as_they_are(model: TransformerModel) -> None:
    prefixes = torch.tensor([[6, 4, 7], [5, PAD, PAD]])
    found = search(model, SOURCES, DICTIONARY, beam=3, max_len_b=7, prefix_tokens=prefixes)
    assert all(hypothesis.tokens[:3].tolist() == [6, 4, 7] for hypothesis in found[0])
    assert all(hypothesis.tokens[0] == 5 for hypothesis in found[1])
    for source, hypotheses in zip(SOURCES, found, strict=True):
        expected = log_probs_of(model, source, hypotheses[0].tokens.tolist(), DICTIONARY)
        torch.testing.assert_close(hypotheses[0].positional_scores, expected, atol=1e-5, rtol=0)


def test_a_prefix_that_ends_is_the_whole_output(model: TransformerModel) -> None:
    prefixes = torch.tensor([[6, EOS, PAD], [5, 4, 6]])
    found = search(model, SOURCES, DICTIONARY, beam=3, max_len_b=7, min_len=4, prefix_tokens=prefixes)
    assert [hypothesis.tokens.tolist() for hypothesis in found[0]] == [[6, EOS]]
    assert len(found[1]) == 3


def test_unknown_words_are_penalised(model: TransformerModel) -> None:
    sources = random_sources(10, DICTIONARY)

    def unknowns(penalty: float) -> int:
        found = search(model, sources, DICTIONARY, beam=3, max_len_b=6, unkpen=penalty)
        return sum(int(hypothesis.tokens.eq(UNK).sum()) for hypotheses in found for hypothesis in hypotheses)

    assert unknowns(1000.0) == 0
    assert unknowns(-1000.0) > unknowns(0.0)


def test_temperature_divides_the_logits(model: TransformerModel) -> None:
    hypothesis = search(model, SOURCES[:1], DICTIONARY, beam=2, max_len_b=5, temperature=2.0)[0][0]
    net_input = batch_of(SOURCES[:1], DICTIONARY)["net_input"]
    previous = torch.tensor([[EOS, *hypothesis.tokens.tolist()[:-1]]])
    with torch.no_grad():
        logits = model(**net_input, prev_output_tokens=previous).logits[0]
    expected = (logits / 2.0).log_softmax(-1).gather(1, hypothesis.tokens[:, None])[:, 0]
    torch.testing.assert_close(hypothesis.positional_scores, expected, atol=1e-5, rtol=0)


def test_attention_covers_every_token(model: TransformerModel) -> None:
    sources = random_sources(5, DICTIONARY)
    batch = batch_of(sources, DICTIONARY)
    config = GenerationConfig(beam=3, max_len_b=6, print_alignment="soft")
    for source, hypotheses in zip(sources, build_generator([model], DICTIONARY, config).generate(batch), strict=True):
        for hypothesis in hypotheses:
            assert hypothesis.attention is not None
            assert hypothesis.attention.shape == (hypothesis.tokens.numel(), batch["net_input"]["src_tokens"].size(1))
            padding = hypothesis.attention.size(1) - len(source) - 1
            assert float(hypothesis.attention[:, :padding].sum()) == 0.0
            alone = model(
                **batch_of([source], DICTIONARY)["net_input"],
                prev_output_tokens=torch.tensor([[EOS, *hypothesis.tokens.tolist()[:-1]]]),
                need_attention=True,
            ).attention[0]
            torch.testing.assert_close(hypothesis.attention[:, padding:], alone, atol=1e-5, rtol=0)


def test_nan_is_reported() -> None:
    broken = tiny_model(DICTIONARY)
    with torch.no_grad():
        broken.decoder.output_projection.weight.fill_(math.nan)
    with pytest.raises(SeqkitError, match="gave NaN while decoding"):
        search(broken, SOURCES, DICTIONARY, beam=2, max_len_b=4)


def test_dropout_is_off_while_decoding_and_on_again_after() -> None:
    model = tiny_model(DICTIONARY, dropout=0.5)
    quiet = search(model, SOURCES, DICTIONARY, beam=2, max_len_b=6)
    model.train()
    assert same(search(model, SOURCES, DICTIONARY, beam=2, max_len_b=6), quiet)
    assert model.training
    assert model.decoder.training
    torch.manual_seed(0)
    assert not same(search(model, SOURCES, DICTIONARY, beam=2, max_len_b=6, retain_dropout=True), quiet)


def test_another_symbol_may_end_the_output(model: TransformerModel) -> None:
    dictionary: Dictionary = DICTIONARY
    for hypothesis in search(model, SOURCES, dictionary, beam=2, max_len_b=6, eos_token="w0")[0]:
        assert hypothesis.tokens[-1] == dictionary.index("w0")


def test_a_function_says_which_tokens_may_come(model: TransformerModel) -> None:
    asked: list[tuple[int, list[int]]] = []

    def allowed(number: int, tokens: torch.Tensor) -> list[int]:
        asked.append((number, tokens.tolist()))
        return [4, EOS] if number == 8 else [5, 6, EOS]

    found = search(model, SOURCES, DICTIONARY, ids=[8, 3], beam=3, max_len_b=5, allowed_tokens=allowed)
    assert {token for hypothesis in found[0] for token in hypothesis.tokens.tolist()} == {4, EOS}
    assert {token for hypothesis in found[1] for token in hypothesis.tokens.tolist()} <= {5, 6, EOS}
    assert asked[0] == (8, [EOS])
    assert all(EOS not in tokens[1:] for _, tokens in asked)
    expected = log_probs_of(model, SOURCES[0], found[0][0].tokens.tolist(), DICTIONARY)
    torch.testing.assert_close(found[0][0].positional_scores, expected, atol=1e-5, rtol=0)


def test_a_sentence_for_which_nothing_is_allowed_has_no_output(model: TransformerModel) -> None:
    found = search(
        model, SOURCES, DICTIONARY, beam=2, max_len_b=5, allowed_tokens=lambda number, tokens: [] if number else [4, 2]
    )
    assert found[1] == []
    assert found[0]


def test_attention_of_a_pass_over_whole_outputs_takes_the_place_of_the_searchs(model: TransformerModel) -> None:
    class Aligning(TransformerModel):
        full_context_alignment = True

        def forward(self, *arguments: Any, **options: Any) -> ModelOutput:
            assert options["need_attention"]
            output = super().forward(*arguments, **options)
            assert output.attention is not None
            output.attention = torch.arange(output.attention.size(1)).view(1, -1, 1).expand_as(output.attention).float()
            return output

    aligning = Aligning(model.encoder, model.decoder).eval()
    found = search(aligning, SOURCES, DICTIONARY, beam=2, max_len_b=6, print_alignment="hard")
    plain = search(model, SOURCES, DICTIONARY, beam=2, max_len_b=6)
    for ours, theirs in zip(found, plain, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.tokens.tolist() == other.tokens.tolist()
            assert one.attention is not None
            assert one.attention[:, 0].tolist() == list(range(one.tokens.numel()))


class LanguageModelOfTheDecoder(LanguageModel):
    """A decoder that attends to a source of zeros."""

    @classmethod
    def build(cls, config: Any, task: Any) -> LanguageModelOfTheDecoder:
        raise AssertionError("not built from a config")


def test_a_language_model_is_fused() -> None:
    translation, other = tiny_model(DICTIONARY), tiny_model(DICTIONARY, seed=4, no_cross_attention=True)
    language_model = LanguageModelOfTheDecoder(other.decoder).eval()
    found = search(
        translation,
        SOURCES,
        DICTIONARY,
        beam=2,
        max_len_b=5,
        lm_path="given",
        lm_weight=0.7,
        language_model=language_model,
    )
    for source, hypotheses in zip(SOURCES, found, strict=True):
        for hypothesis in hypotheses:
            tokens = hypothesis.tokens.tolist()
            with torch.no_grad():
                logits = language_model(torch.tensor([[EOS, *tokens[:-1]]])).logits[0]
            own = logits.log_softmax(dim=-1).gather(1, hypothesis.tokens[:, None])[:, 0]
            expected = log_probs_of(translation, source, tokens, DICTIONARY) + 0.7 * own
            torch.testing.assert_close(hypothesis.positional_scores, expected, atol=1e-5, rtol=0)


def test_memory_does_not_grow_from_batch_to_batch(model: TransformerModel) -> None:
    generator = build_generator([model], DICTIONARY, GenerationConfig(beam=4, max_len_b=9, print_alignment="hard"))

    def held() -> int:
        gc.collect()
        kinds = (torch.Tensor, torch.nn.Parameter)  # and not what compilers think of
        return sum(item.numel() for item in gc.get_objects() if type(item) in kinds)

    batches = [batch_of(random_sources(16, DICTIONARY, seed=seed), DICTIONARY) for seed in range(12)]
    generator.generate(batches[0])
    before = held()
    for batch in batches:
        generator.generate(batch)
    assert held() <= before
