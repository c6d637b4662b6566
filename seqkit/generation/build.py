"""A generator from its configuration: which strategy, which processors, which scorer; and what cannot go together.

Knows nothing of tasks, data or text.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import cast

from seqkit.config.sections import GenerationConfig
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.generation.compile import CompiledSteps
from seqkit.generation.dropout import dropout_owners
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.iterative_refinement_generator import IterativeRefinementGenerator
from seqkit.generation.search.base import SearchStrategy
from seqkit.generation.search.beam import BeamSearch
from seqkit.generation.search.constrained_beam import ConstrainedBeamSearch
from seqkit.generation.search.diverse_beam import DiverseBeamSearch
from seqkit.generation.search.diverse_siblings import DiverseSiblingsSearch
from seqkit.generation.search.greedy import GreedySearch
from seqkit.generation.search.sampling import Sampling
from seqkit.generation.sequence_generator import LengthRule, SequenceGenerator
from seqkit.generation.sequence_scorer import SequenceScorer
from seqkit.generation.step_processors import (
    AllowedTokens,
    AllowedTokensFunction,
    BannedSymbols,
    LengthBounds,
    NoRepeatNgram,
    PrefixTokens,
    StepProcessor,
    UnknownPenalty,
)
from seqkit.generation.stop_strings import StopAtStrings, TextOf, stop_strings_of
from seqkit.models.base import EncoderDecoderModel, IterativeModel, LanguageModel, Model
from seqkit.modules.quantized_linear import is_quantized

logger = logging.getLogger(__name__)

Generator = SequenceGenerator | SequenceScorer | IterativeRefinementGenerator
"""What has `generate(sample, prefix_tokens=…) -> list[list[Hypothesis]]`."""


def build_generator(
    models: Sequence[Model],
    target_dictionary: Dictionary,
    config: GenerationConfig,
    *,
    seed: int = 1,
    language_model: LanguageModel | None = None,
    allowed_tokens: AllowedTokensFunction | None = None,
    text_of: TextOf | None = None,
    compiled: CompiledSteps | None = None,
) -> Generator:
    """The generator that a configuration describes.

    Args:
        models: one model, or several that make an ensemble; all with the vocabulary of `target_dictionary`.
        target_dictionary: symbols of the output.
        config: the section `generation`.
        seed: of sampling; without meaning where the configuration says that no seed is provided.
        language_model: what `generation.lm_path` names, opened by the caller.
        allowed_tokens: says which tokens a hypothesis may go on with; see `AllowedTokens`.
        text_of: gives the text of tokens, which `generation.stop_strings` needs.
        compiled: what `generation.compile` needs: compiled steps of these models, whose weights stay as they are.

    Raises:
        ConfigError: options that exclude each other, or that do not fit the models; all of them at once.
    """
    iterative = bool(models) and isinstance(models[0], IterativeModel)
    problems = [
        *_wrong_values(config, target_dictionary),
        *_excluded(config, allowed_tokens is not None),
        *_stop_problems(config, text_of is not None),
        *(_not_for_iterative(config, models) if iterative else _only_for_iterative(config)),
        *_dropout_problems(config, models),
    ]
    if config.lm_path is not None and language_model is None:
        problems.append(
            f"generation.lm_path={config.lm_path}: no language model is fused here; use seqkit-generate, "
            "seqkit-interactive or the hub"
        )
    if config.quantize != "none" and not all(is_quantized(model) for model in models):
        problems.append(
            f"generation.quantize={config.quantize}: models are quantised where they are loaded only to be used "
            "(seqkit-generate, seqkit-interactive, seqkit-eval-lm, the hub); leave it out here"
        )
    if config.compile and compiled is None:
        problems.append(
            "generation.compile=true: steps are compiled of models that are loaded only to be used (seqkit-generate, "
            "seqkit-interactive, the hub); leave it out here"
        )
    if problems:
        raise ConfigError(problems)
    if config.compile and (why_not := _why_not_compiled(config, iterative)):
        logger.info("generation.compile=true: %s", why_not)
        compiled = None
    if iterative:
        return _iterative(models, target_dictionary, config)
    ensemble = Ensemble(
        models,
        # as in fairseq, given targets are scored by the probabilities as they are
        temperature=1.0 if config.score_reference else config.temperature,
        need_attention=config.print_alignment is not None or config.replace_unk is not None,
        language_model=language_model,
        language_model_weight=config.lm_weight,
        retain_dropout=config.retain_dropout,
        retain_dropout_modules=config.retain_dropout_modules,
        compiled=compiled if config.compile else None,
    )
    if config.score_reference:
        return SequenceScorer(ensemble, target_dictionary)
    return SequenceGenerator(
        ensemble,
        target_dictionary,
        search=_search(config, seed),
        processors=_processors(config, target_dictionary, allowed_tokens, text_of),
        lengths=LengthRule(config.max_len_a, config.max_len_b, config.match_source_len, config.max_len_per_batch),
        normalize=not config.unnormalized,
        length_penalty=config.lenpen,
        end=None if config.eos_token is None else target_dictionary.index(config.eos_token),
    )


def _why_not_compiled(config: GenerationConfig, iterative: bool) -> str | None:
    """Why nothing is compiled, whatever the models."""
    if iterative or config.score_reference:
        return "nothing is compiled, as nothing is written token by token"
    if config.retain_dropout:
        return "nothing is compiled, as dropout stays active (generation.retain_dropout)"
    if config.print_alignment is not None or config.replace_unk is not None:
        return "nothing is compiled, as attention is wanted (generation.print_alignment, generation.replace_unk)"
    return None


def _iterative(
    models: Sequence[Model], dictionary: Dictionary, config: GenerationConfig
) -> IterativeRefinementGenerator:
    return IterativeRefinementGenerator(
        cast(IterativeModel, models[0]),
        dictionary,
        max_iter=config.iter_decode_max_iter,
        eos_penalty=config.iter_decode_eos_penalty,
        length_beam=config.iter_decode_with_beam,
        stop_early=not config.iter_decode_force_max_iter,
        retain_history=config.retain_iter_history,
        reranker=cast(EncoderDecoderModel, models[-1]) if config.iter_decode_with_external_reranker else None,
        decoding_format=config.decoding_format,
        retain_dropout=config.retain_dropout,
        retain_dropout_modules=config.retain_dropout_modules,
    )


def _search(config: GenerationConfig, seed: int) -> SearchStrategy:
    if config.sampling:
        return Sampling(
            config.beam,
            topk=config.sampling_topk,
            topp=config.sampling_topp,
            seed=None if config.no_seed_provided else seed,
        )
    if config.constraints is not None:
        return ConstrainedBeamSearch(config.beam, ordered=config.constraints == "ordered")
    if config.diverse_beam_groups > 0:
        return DiverseBeamSearch(
            config.beam,
            config.diverse_beam_groups,
            config.diverse_beam_strength,
            reopen_ended=config.diverse_beam_reopen_ended,
        )
    if config.diversity_rate > -1:
        return DiverseSiblingsSearch(config.beam, config.diversity_rate)
    return GreedySearch() if config.beam == 1 else BeamSearch(config.beam)


def _processors(
    config: GenerationConfig,
    dictionary: Dictionary,
    allowed_tokens: AllowedTokensFunction | None,
    text_of: TextOf | None,
) -> list[StepProcessor]:
    """In the order in which they are applied: a prefix comes last, so that its token keeps its penalties."""
    processors: list[StepProcessor] = [BannedSymbols([dictionary.pad()])]
    if config.unkpen:
        processors.append(UnknownPenalty(config.unkpen))
    processors.append(LengthBounds(config.min_len, exact=config.match_source_len))
    if config.no_repeat_ngram_size:
        processors.append(NoRepeatNgram(config.no_repeat_ngram_size))
    if allowed_tokens is not None:
        processors.append(AllowedTokens(allowed_tokens))
    if config.stop_strings and text_of is not None:
        processors.append(StopAtStrings(stop_strings_of(config), text_of))
    processors.append(PrefixTokens())
    return processors


def _wrong_values(config: GenerationConfig, dictionary: Dictionary) -> Iterator[str]:
    if config.nbest > config.beam and not config.score_reference:
        yield (
            f"generation.nbest={config.nbest} is more than generation.beam={config.beam}, "
            "and a search gives at most `beam` hypotheses; lower nbest or raise beam"
        )
    if config.temperature <= 0:
        yield f"generation.temperature={config.temperature} must be above 0"
    longest_is_fixed = config.max_len_a == 0 and not config.match_source_len and not config.score_reference
    if longest_is_fixed and config.min_len > config.max_len_b:
        yield (
            f"generation.min_len={config.min_len} is above the maximum length generation.max_len_b={config.max_len_b}"
        )
    if config.eos_token is not None and config.eos_token not in dictionary:
        yield f"generation.eos_token={config.eos_token!r} is not a symbol of the target dictionary"
    groups = config.diverse_beam_groups
    if groups > 0 and config.beam % groups:
        yield (
            f"generation.beam={config.beam} cannot be shared out to generation.diverse_beam_groups={groups} groups of "
            "equal size; make the beam a multiple of the groups"
        )


def _excluded(config: GenerationConfig, has_allowed_tokens: bool) -> Iterator[str]:
    strategies = [name for name, chosen in _strategies(config).items() if chosen]
    if len(strategies) > 1:
        yield (
            f"generation.{', generation.'.join(strategies)} exclude each other: each is a search of its own; keep one"
        )
    for option, value in (("sampling_topk", config.sampling_topk), ("sampling_topp", config.sampling_topp)):
        if value > 0 and not config.sampling:
            yield f"generation.{option}={value} needs generation.sampling=true: only sampling draws tokens"
    if config.sampling_topk > 0 and config.sampling_topp > 0:
        yield (
            f"generation.sampling_topk={config.sampling_topk} and generation.sampling_topp={config.sampling_topp} are "
            "two ways to choose what is drawn from; keep one"
        )
    if config.match_source_len and "constraints" in strategies:
        yield "generation.match_source_len leaves no room for generation.constraints; leave one of them out"
    if config.lm_weight and config.lm_path is None:
        yield f"generation.lm_weight={config.lm_weight} needs a language model; give generation.lm_path"
    if config.score_reference:
        asked = {
            **_strategies(config),
            "prefix_size": config.prefix_size > 0,
            "lm_path": config.lm_path is not None,
            "match_source_len": config.match_source_len,
        }
        for option, chosen in asked.items():
            if chosen:
                yield f"generation.{option} has no meaning with generation.score_reference=true; leave one out"
        if has_allowed_tokens:
            yield "a function of allowed tokens has no meaning with generation.score_reference=true; leave one out"
    if config.retain_dropout_modules and not config.retain_dropout:
        yield "generation.retain_dropout_modules needs generation.retain_dropout=true"


def _stop_problems(config: GenerationConfig, has_text: bool) -> Iterator[str]:
    strings = config.stop_strings
    if not strings:
        return
    if "" in strings:
        yield f"generation.stop_strings={strings}: every text has the empty string, so nothing could be written"
    for option, chosen in (
        ("constraints", config.constraints is not None),
        ("match_source_len", config.match_source_len),
        ("score_reference", config.score_reference),
    ):
        if chosen:
            yield f"generation.stop_strings cannot be used with generation.{option}; leave one of them out"
    if not has_text and not config.score_reference:
        yield "generation.stop_strings is for seqkit-generate, seqkit-interactive and the hub; leave it out here"


def _strategies(config: GenerationConfig) -> dict[str, bool]:
    """The searches that are not beam search, and which of them are asked for."""
    return {
        "sampling": config.sampling,
        "constraints": config.constraints is not None,
        "diverse_beam_groups": config.diverse_beam_groups > 0,
        "diversity_rate": config.diversity_rate > -1,
    }


def _only_for_iterative(config: GenerationConfig) -> Iterator[str]:
    asked = {
        "print_step=true": config.print_step,
        f"iter_decode_eos_penalty={config.iter_decode_eos_penalty}": config.iter_decode_eos_penalty != 0,
        f"iter_decode_with_beam={config.iter_decode_with_beam}": config.iter_decode_with_beam != 1,
        "iter_decode_force_max_iter=true": config.iter_decode_force_max_iter,
        "iter_decode_with_external_reranker=true": config.iter_decode_with_external_reranker,
        "retain_iter_history=true": config.retain_iter_history,
        f"decoding_format={config.decoding_format}": config.decoding_format is not None,
    }
    for option, chosen in asked.items():
        if chosen:
            yield (
                f"generation.{option} is for models that refine whole outputs step by step; this model writes them "
                "token by token, so leave it out"
            )


def _not_for_iterative(config: GenerationConfig, models: Sequence[Model]) -> Iterator[str]:
    asked = {
        **_strategies(config),
        "score_reference": config.score_reference,
        "prefix_size": config.prefix_size > 0,
        "lm_path": config.lm_path is not None,
        "match_source_len": config.match_source_len,
        "no_repeat_ngram_size": config.no_repeat_ngram_size > 0,
        "stop_strings": bool(config.stop_strings),
    }
    for option, chosen in asked.items():
        if chosen:
            yield (
                f"generation.{option} is for models that write token by token; this model refines whole outputs step "
                "by step, so leave it out"
            )
    model = cast(IterativeModel, models[0])
    if config.iter_decode_with_beam > 1 and not model.supports_length_beam:
        yield (
            f"generation.iter_decode_with_beam={config.iter_decode_with_beam}: {type(model).__name__} does not "
            "foretell lengths, so it cannot try several; leave it at 1"
        )
    if config.iter_decode_with_external_reranker:
        if config.iter_decode_with_beam == 1:
            yield (
                "generation.iter_decode_with_external_reranker=true needs several outputs to choose from; set "
                "generation.iter_decode_with_beam above 1"
            )
        if len(models) != 2 or not isinstance(models[-1], EncoderDecoderModel):
            yield (
                "generation.iter_decode_with_external_reranker=true needs two checkpoints in common_eval.path: the "
                "model and, behind it, an encoder-decoder model that writes token by token"
            )
    elif len(models) > 1:
        yield f"an ensemble of {len(models)} models that refine outputs step by step is not possible; give one"


def _dropout_problems(config: GenerationConfig, models: Sequence[Model]) -> Iterator[str]:
    wanted = config.retain_dropout_modules or []
    owners = sorted({owner for model in models for owner in dropout_owners(model)}) if wanted else []
    for name in wanted:
        if name not in owners:
            yield (
                f"generation.retain_dropout_modules: no module of class {name} has dropout; "
                f"there are: {', '.join(owners)}"
            )
