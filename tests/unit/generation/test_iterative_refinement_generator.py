"""Iterative refinement with a model that corrects one word of its output in each step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from seqkit.config.sections import GenerationConfig
from seqkit.errors import ConfigError
from seqkit.generation.build import build_generator
from seqkit.generation.hypothesis import Hypothesis
from seqkit.models.base import Encoder, EncoderOutput, IterativeModel, Model, RefinedOutput
from tests.unit.generation.tiny import batch_of, log_probs_of, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()
BOS, PAD, EOS, UNK = DICTIONARY.bos(), DICTIONARY.pad(), DICTIONARY.eos(), DICTIONARY.unk()
SOURCES = [[4, 5, 6], [7], [4, 4, 5, 6, 7]]


class Reader(Encoder):
    """Hands on the source itself."""

    def forward(
        self, src_tokens: Tensor, src_lengths: Tensor | None = None, *, return_all_hiddens: bool = False
    ) -> EncoderOutput:
        return EncoderOutput(states=src_tokens.unsqueeze(-1).float(), padding_mask=src_tokens.eq(PAD))

    def max_positions(self) -> int:
        return 64


class Copier(IterativeModel):
    """Writes <unk> as often as the source has words, then copies one word in each step, from left to right.

    Its score of a word is -1 - (words of the source - words of the output)**2.
    """

    supports_length_beam: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(Reader())
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: list[tuple[int, int, float, str | None]] = []

    @classmethod
    def build(cls, config: Any, task: Any) -> Copier:
        return cls()

    def max_positions(self) -> tuple[int, int]:
        return 64, 64

    def first_output(self, encoder_out: EncoderOutput, src_tokens: Tensor) -> RefinedOutput:
        return blank([int(count) for count in self.words(encoder_out)])

    def try_lengths(self, first: RefinedOutput, beam: int) -> RefinedOutput:
        counts = first.tokens.eq(UNK).sum(dim=1).tolist()
        return blank([max(1, count + extra) for count in counts for extra in range(1, beam + 1)])

    def words(self, encoder_out: EncoderOutput) -> Tensor:
        tokens = encoder_out.states[..., 0].long()
        return (tokens.ne(PAD) & tokens.ne(EOS)).sum(dim=1)

    def refine(
        self,
        output: RefinedOutput,
        encoder_out: EncoderOutput,
        *,
        eos_penalty: float,
        max_ratio: float,
        decoding_format: str | None,
    ) -> RefinedOutput:
        self.asked.append((output.step, output.max_step, eos_penalty, decoding_format))
        tokens, scores = output.tokens.clone(), output.scores.clone()
        counts = self.words(encoder_out)
        for row, source in enumerate(encoder_out.states[..., 0].long()):
            words = source[source.ne(PAD) & source.ne(EOS)]
            open_places = tokens[row].eq(UNK).nonzero()[:, 0].tolist()
            if open_places:
                place = open_places[0]
                tokens[row, place] = words[min(place - 1, words.numel() - 1)]
                length = int(tokens[row].ne(PAD).sum()) - 2
                scores[row, place] = -1.0 - float((counts[row] - length) ** 2)
        history = None if output.history is None else [*output.history, tokens]
        return replace(output, tokens=tokens, scores=scores, history=history)


def blank(counts: list[int]) -> RefinedOutput:
    width = max(counts) + 2
    tokens = torch.full((len(counts), width), PAD)
    for row, count in enumerate(counts):
        tokens[row, : count + 2] = torch.tensor([BOS, *[UNK] * count, EOS])
    return RefinedOutput(tokens, torch.zeros(tokens.shape))


def refined(model: Model | list[Model], sources: list[list[int]] = SOURCES, **options: Any) -> list[Hypothesis]:
    models = [model] if isinstance(model, Model) else model
    generator = build_generator(models, DICTIONARY, GenerationConfig(**options))
    found = generator.generate(batch_of(sources, DICTIONARY))
    assert all(len(hypotheses) == 1 for hypotheses in found)
    return [hypotheses[0] for hypotheses in found]


def test_outputs_leave_when_nothing_changes_any_more() -> None:
    found = refined(Copier())
    assert [hypothesis.tokens.tolist() for hypothesis in found] == [[BOS, *source, EOS] for source in SOURCES]
    # the step in which nothing changed is counted too
    assert [hypothesis.steps for hypothesis in found] == [3, 1, 5]
    for hypothesis, source in zip(found, SOURCES, strict=True):
        assert hypothesis.positional_scores.tolist() == [0.0, *[-1.0] * len(source), 0.0]
        assert hypothesis.score == pytest.approx(-len(source) / (len(source) + 2))
        assert hypothesis.history is None


def test_the_number_of_refinements_is_bounded() -> None:
    model = Copier()
    found = refined(model, iter_decode_max_iter=1, iter_decode_eos_penalty=0.5, decoding_format="vote")
    assert [hypothesis.steps for hypothesis in found] == [1, 1, 1]
    assert found[2].tokens.tolist() == [BOS, 4, 4, UNK, UNK, UNK, EOS]
    assert model.asked == [(0, 2, 0.5, "vote"), (1, 2, 0.5, "vote")]


def test_all_refinements_are_made_where_that_is_asked_for() -> None:
    assert [hypothesis.steps for hypothesis in refined(Copier(), iter_decode_force_max_iter=True)] == [10, 10, 10]


def test_the_stages_on_the_way_are_kept() -> None:
    (hypothesis,) = refined(Copier(), [[4, 5]], retain_iter_history=True)
    assert hypothesis.history is not None
    assert [stage.tolist() for stage in hypothesis.history] == [
        [BOS, UNK, UNK, EOS],
        [BOS, 4, UNK, EOS],
        [BOS, 4, 5, EOS],
        [BOS, 4, 5, EOS],
    ]


def test_the_best_of_several_lengths_is_taken() -> None:
    found = refined(Copier(), iter_decode_with_beam=3)
    # lengths 1, 2 and 3 above the right one are tried; the nearest scores best
    assert [hypothesis.tokens.numel() - 2 for hypothesis in found] == [4, 2, 6]


def test_a_reranker_chooses_among_the_lengths() -> None:
    reranker = tiny_model(DICTIONARY)
    found = refined([Copier(), reranker], iter_decode_with_beam=3, iter_decode_with_external_reranker=True)
    for source, hypothesis in zip(SOURCES, found, strict=True):
        means = []
        for extra in (1, 2, 3):
            output = [*source, *[source[-1]] * extra, EOS]
            means.append(float(log_probs_of(reranker, source, output, DICTIONARY).mean()))
        assert hypothesis.score == pytest.approx(max(means), abs=1e-5)
        assert hypothesis.tokens.numel() - 2 - len(source) == means.index(max(means)) + 1


def test_a_batch_changes_nothing() -> None:
    together = refined(Copier(), iter_decode_with_beam=2)
    for source, expected in zip(SOURCES, together, strict=True):
        (alone,) = refined(Copier(), [source], iter_decode_with_beam=2)
        assert (alone.tokens.tolist(), alone.steps) == (expected.tokens.tolist(), expected.steps)
        assert alone.score == pytest.approx(expected.score)


class NoLengths(Copier):
    supports_length_beam: ClassVar[bool] = False


@pytest.mark.parametrize(
    ("models", "options", "reason"),
    [
        ([Copier()], {"sampling": True}, "sampling is for models that write token by token"),
        ([Copier()], {"constraints": "ordered", "prefix_size": 2}, "2 problems"),
        ([Copier(), Copier()], {}, "an ensemble of 2 models that refine"),
        ([NoLengths()], {"iter_decode_with_beam": 2}, "NoLengths does not foretell lengths"),
        ([Copier()], {"iter_decode_with_beam": 2, "iter_decode_with_external_reranker": True}, "two checkpoints"),
        (
            [Copier(), tiny_model(DICTIONARY)],
            {"iter_decode_with_external_reranker": True},
            "iter_decode_with_beam above 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(models: list[Model], options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        build_generator(models, DICTIONARY, GenerationConfig(**options))


def test_a_beginning_is_refused() -> None:
    generator = build_generator([Copier()], DICTIONARY, GenerationConfig())
    with pytest.raises(ConfigError, match="take no prefix"):
        generator.generate(batch_of(SOURCES, DICTIONARY), prefix_tokens=torch.tensor([[4]] * 3))
