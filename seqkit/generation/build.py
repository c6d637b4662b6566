"""A generator from its configuration: which strategy, which processors, which scorer; and what cannot go together.

Knows nothing of tasks, data or text.
"""

from __future__ import annotations

from collections.abc import Sequence

from seqkit.config.sections import GenerationConfig
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.search.base import SearchStrategy
from seqkit.generation.search.beam import BeamSearch
from seqkit.generation.sequence_generator import LengthRule, SequenceGenerator
from seqkit.generation.sequence_scorer import SequenceScorer
from seqkit.generation.step_processors import (
    BannedSymbols,
    LengthBounds,
    NoRepeatNgram,
    PrefixTokens,
    StepProcessor,
    UnknownPenalty,
)
from seqkit.models.base import Model

Generator = SequenceGenerator | SequenceScorer
"""What has `generate(sample, prefix_tokens=…) -> list[list[Hypothesis]]`."""


def build_generator(models: Sequence[Model], target_dictionary: Dictionary, config: GenerationConfig) -> Generator:
    """The generator that a configuration describes.

    Args:
        models: one model, or several that make an ensemble; all with the vocabulary of `target_dictionary`.
        target_dictionary: symbols of the output.
        config: the section `generation`.

    Raises:
        ConfigError: options that exclude each other, or that this version does not have; all of them at once.
    """
    problems = [*_excluded(config, target_dictionary), *_not_there(config)]
    if problems:
        raise ConfigError(problems)
    ensemble = Ensemble(
        models,
        temperature=config.temperature,
        need_attention=config.print_alignment is not None or config.replace_unk is not None,
    )
    if config.score_reference:
        return SequenceScorer(ensemble, target_dictionary)
    return SequenceGenerator(
        ensemble,
        target_dictionary,
        search=_search(config),
        processors=_processors(config, target_dictionary),
        lengths=LengthRule(config.max_len_a, config.max_len_b, config.match_source_len, config.max_len_per_batch),
        normalize=not config.unnormalized,
        length_penalty=config.lenpen,
        end=None if config.eos_token is None else target_dictionary.index(config.eos_token),
        retain_dropout=config.retain_dropout,
    )


def _search(config: GenerationConfig) -> SearchStrategy:
    return BeamSearch(config.beam)


def _processors(config: GenerationConfig, dictionary: Dictionary) -> list[StepProcessor]:
    """In the order in which they are applied: a prefix comes last, so that its token keeps its penalties."""
    processors: list[StepProcessor] = [BannedSymbols([dictionary.pad()])]
    if config.unkpen:
        processors.append(UnknownPenalty(config.unkpen))
    processors.append(LengthBounds(config.min_len, exact=config.match_source_len))
    if config.no_repeat_ngram_size:
        processors.append(NoRepeatNgram(config.no_repeat_ngram_size))
    processors.append(PrefixTokens())
    return processors


def _excluded(config: GenerationConfig, dictionary: Dictionary) -> list[str]:
    problems = []
    if config.nbest > config.beam and not config.score_reference:
        problems.append(
            f"generation.nbest={config.nbest} is more than generation.beam={config.beam}, "
            "and a search gives at most `beam` hypotheses; lower nbest or raise beam"
        )
    if config.temperature <= 0:
        problems.append(f"generation.temperature={config.temperature} must be above 0")
    longest_is_fixed = config.max_len_a == 0 and not config.match_source_len
    if longest_is_fixed and config.min_len > config.max_len_b:
        problems.append(
            f"generation.min_len={config.min_len} is above the maximum length generation.max_len_b={config.max_len_b}"
        )
    if config.eos_token is not None and config.eos_token not in dictionary:
        problems.append(f"generation.eos_token={config.eos_token!r} is not a symbol of the target dictionary")
    if config.score_reference and config.prefix_size:
        problems.append("generation.prefix_size has no meaning with generation.score_reference=true; leave one out")
    return problems


def _not_there(config: GenerationConfig) -> list[str]:
    asked = {
        "sampling=true": config.sampling,
        f"sampling_topk={config.sampling_topk}": config.sampling_topk > 0,
        f"sampling_topp={config.sampling_topp}": config.sampling_topp > 0,
        f"constraints={config.constraints}": config.constraints is not None,
        f"diverse_beam_groups={config.diverse_beam_groups}": config.diverse_beam_groups > 0,
        f"diversity_rate={config.diversity_rate}": config.diversity_rate > 0,
        f"lm_path={config.lm_path}": config.lm_path is not None,
        "print_step=true": config.print_step,
        f"iter_decode_eos_penalty={config.iter_decode_eos_penalty}": config.iter_decode_eos_penalty != 0,
        f"iter_decode_max_iter={config.iter_decode_max_iter}": config.iter_decode_max_iter != 10,
        "iter_decode_force_max_iter=true": config.iter_decode_force_max_iter,
        f"iter_decode_with_beam={config.iter_decode_with_beam}": config.iter_decode_with_beam != 1,
        "iter_decode_with_external_reranker=true": config.iter_decode_with_external_reranker,
        "retain_iter_history=true": config.retain_iter_history,
        "retain_dropout_modules": bool(config.retain_dropout_modules),
        f"decoding_format={config.decoding_format}": config.decoding_format is not None,
    }
    return [
        f"generation.{option} is not there yet in this version of seqkit" for option, given in asked.items() if given
    ]
