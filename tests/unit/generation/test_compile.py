"""Compiled decoding steps give what others give, and are compiled seldom."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from seqkit.config.sections import GenerationConfig
from seqkit.errors import ConfigError
from seqkit.generation import compile as compiling
from seqkit.generation.build import build_generator
from seqkit.generation.compile import CompiledSteps
from seqkit.generation.hypothesis import Hypothesis
from seqkit.generation.sequence_generator import SequenceGenerator
from seqkit.models.base import Model
from seqkit.models.lstm_lm import LSTMLanguageModel, LSTMLanguageModelConfig
from seqkit.modules.packed_linear import pack_linears
from seqkit.modules.quantized_linear import quantize_linears
from tests.unit.generation.tiny import (
    TinyTask,
    batch_of,
    random_sources,
    tiny_dictionary,
    tiny_language_model,
    tiny_model,
)

DICTIONARY = tiny_dictionary(40)
MODEL = tiny_model(DICTIONARY, decoder_layers=1)
CPU = torch.device("cpu")


def _has_compiler() -> bool:
    try:
        CompiledSteps(CPU)
    except ConfigError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _has_compiler(), reason="there is no C++ compiler on this machine")


@pytest.fixture(scope="module")
def steps() -> Iterator[CompiledSteps]:
    """Compiled once for all tests, as in a process that decodes."""
    found = CompiledSteps(CPU)
    yield found
    torch.compiler.reset()


def generator_of(models: Sequence[Model], compiled: CompiledSteps | None, **options: Any) -> SequenceGenerator:
    config = GenerationConfig(max_len_b=30, compile=compiled is not None, **options)
    generator = build_generator(models, DICTIONARY, config, compiled=compiled)
    assert isinstance(generator, SequenceGenerator)
    return generator


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for own, theirs in zip(found, expected, strict=True):
        assert [hypothesis.tokens.tolist() for hypothesis in own] == [
            hypothesis.tokens.tolist() for hypothesis in theirs
        ]
        for one, other in zip(own, theirs, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [
        {"beam": 1},
        {"beam": 4},
        {"beam": 3, "no_repeat_ngram_size": 2},
        {"beam": 4, "diverse_beam_groups": 2},
        {"beam": 2, "sampling": True},
    ],
)
def test_hypotheses_and_scores_are_the_same_whatever_the_batch(steps: CompiledSteps, options: dict[str, Any]) -> None:
    sources = random_sources(64, DICTIONARY, longest=40)
    expected = generator_of([MODEL], None, **options).generate(batch_of(sources, DICTIONARY))
    generator = generator_of([MODEL], steps, **options)
    assert_same(generator.generate(batch_of(sources, DICTIONARY)), expected)
    if not options.get("sampling"):  # a sentence's number is part of its seed
        assert_same(generator.generate(batch_of(sources[:7], DICTIONARY)), expected[:7])
        assert_same(generator.generate(batch_of(sources[:1], DICTIONARY)), expected[:1])


@needs_compiler
def test_changing_sizes_compile_nothing_again(steps: CompiledSteps) -> None:
    generator = generator_of([MODEL], steps, beam=4)
    generator.generate(batch_of(random_sources(5, DICTIONARY), DICTIONARY))
    before, graphs = steps.compilations, torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for count in (2, 9, 3, 17):
        sources = random_sources(count, DICTIONARY, longest=60, seed=count)
        generator.generate(batch_of(sources, DICTIONARY))
    generator_of([MODEL], steps, beam=3).generate(batch_of(random_sources(6, DICTIONARY), DICTIONARY))
    assert steps.compilations == before
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@needs_compiler
def test_prefixes(steps: CompiledSteps) -> None:
    sample = batch_of(random_sources(6, DICTIONARY), DICTIONARY)
    prefix = torch.tensor([[5, 6, 7], [8, 1, 1], [9, 4, 1]]).repeat(2, 1)
    found = generator_of([MODEL], steps, beam=4).generate(sample, prefix_tokens=prefix)
    assert_same(found, generator_of([MODEL], None, beam=4).generate(sample, prefix_tokens=prefix))


@needs_compiler
def test_threads_side_by_side(steps: CompiledSteps) -> None:
    sources = random_sources(12, DICTIONARY, longest=20)
    expected = generator_of([MODEL], None, beam=4).generate(batch_of(sources, DICTIONARY))

    def decode(_: int) -> list[list[Hypothesis]]:
        return generator_of([MODEL], steps, beam=4).generate(batch_of(sources, DICTIONARY))

    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        for found in pool.map(decode, range(6)):
            assert_same(found, expected)


@needs_compiler
def test_ensembles_use_what_is_compiled_of_each_model(steps: CompiledSteps) -> None:
    other = tiny_model(DICTIONARY, seed=5, decoder_layers=1, decoder_normalize_before=True)
    sample = batch_of(random_sources(5, DICTIONARY), DICTIONARY)
    before = steps.compilations
    found = generator_of([MODEL, other], steps, beam=4).generate(sample)
    assert steps.compilations > before
    assert_same(found, generator_of([MODEL, other], None, beam=4).generate(sample))


@needs_compiler
def test_a_fused_language_model_is_compiled_too(steps: CompiledSteps, caplog: pytest.LogCaptureFixture) -> None:
    language_model = tiny_language_model(
        DICTIONARY, adaptive_softmax_cutoff="10,20", decoder_layers=1, share_decoder_input_output_embed=False
    )
    sample = batch_of(random_sources(5, DICTIONARY), DICTIONARY)
    found: list[list[list[Hypothesis]]] = []
    with caplog.at_level(logging.INFO):
        for compiled in (None, steps):
            config = GenerationConfig(
                beam=4, max_len_b=30, lm_path="lm.pt", lm_weight=0.3, compile=compiled is not None
            )
            generator = build_generator([MODEL], DICTIONARY, config, language_model=language_model, compiled=compiled)
            found.append(generator.generate(sample))
    assert_same(found[1], found[0])
    assert (
        "compiling the decoding step of TransformerLanguageModel for several sentences of several rows" in caplog.text
    )


@needs_compiler
def test_a_rare_kind_of_batch_is_not_compiled() -> None:
    fresh = CompiledSteps(CPU)
    step = fresh.of(MODEL)
    assert step is not None
    assert step.is_for(1, 4)
    step.functions[False, False] = lambda *_: torch.empty(0)
    assert step.is_for(8, 4)
    assert step.is_for(1, 1)
    assert [step.is_for(1, 4) for _ in range(4)] == [False, False, False, True]


@needs_compiler
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"retain_dropout": True}, "dropout stays active"),
        ({"print_alignment": "hard"}, "attention is wanted"),
        ({"score_reference": True}, "nothing is written token by token"),
    ],
)
def test_the_log_says_what_is_not_compiled(
    options: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps = CompiledSteps(CPU)
    with caplog.at_level(logging.INFO):
        generator = build_generator([MODEL], DICTIONARY, GenerationConfig(compile=True, **options), compiled=steps)
    assert reason in caplog.text
    sample = batch_of([[5, 6]], DICTIONARY)
    sample["target"] = torch.tensor([[5, 2]])
    sample["net_input"]["prev_output_tokens"] = torch.tensor([[2, 5]])
    generator.generate(sample)
    assert steps.compilations == 0


@needs_compiler
def test_models_that_run_as_before(caplog: pytest.LogCaptureFixture) -> None:
    large = tiny_model(DICTIONARY, decoder_layers=1, decoder_ffn_embed_dim=1 << 14)
    small = tiny_model(DICTIONARY, decoder_layers=1)
    assert quantize_linears(large) > 0
    pack_linears(small)
    recurrent = LSTMLanguageModel.build(LSTMLanguageModelConfig(), TinyTask(DICTIONARY, DICTIONARY))
    steps = CompiledSteps(CPU)
    with caplog.at_level(logging.INFO):
        assert steps.of(large) is None
        assert steps.of(large) is None
        assert steps.of(small) is not None
        assert steps.of(recurrent) is None
    assert caplog.text.count("TransformerModel is not compiled: its layers are so large") == 1
    assert "LSTMLanguageModel is not compiled: its decoder (LSTMDecoder) has steps of its own" in caplog.text


def test_without_compiled_steps_it_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"generation.compile=true: steps are compiled of models that are loaded only"
    ):
        build_generator([MODEL], DICTIONARY, GenerationConfig(compile=True))


def test_a_machine_without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    def missing() -> str:
        raise InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    with pytest.raises(ConfigError, match="needs a C\\+\\+ compiler, and none was found; install one"):
        compiling.CompiledSteps(CPU)
