"""Scores given targets instead of searching for them. Knows nothing of text or of search.

Axes: B sentences, T target length, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError, DataError
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.hypothesis import Hypothesis
from seqkit.models.base import EncoderDecoderModel, IncrementalDecoder, LanguageModel, Model
from seqkit.modules.packed_cache import PackedCache

_SCORES_AT_A_TIME = 1 << 25
"""Log-probabilities that are computed together: 128 MiB of float32."""


class SequenceScorer:
    """The log-probability that an ensemble gives each target of a batch; the score is the mean over its tokens.

    Args:
        ensemble: one or more models, whose probabilities are averaged.
        dictionary: of the target; gives the padding symbol.

    Raises:
        ConfigError: the ensemble has a language model beside it.
    """

    def __init__(self, ensemble: Ensemble, dictionary: Dictionary) -> None:
        if ensemble.language_model is not None:
            raise ConfigError("generation.score_reference=true cannot be used with generation.lm_path; leave one out")
        self.ensemble = ensemble
        self.pad = dictionary.pad()
        self.end = dictionary.eos()
        self.beam = 1

    @torch.no_grad()
    def generate(
        self, sample: Any, *, prefix_tokens: Tensor | None = None, begin: int | None = None
    ) -> list[list[Hypothesis]]:
        """One hypothesis for each sentence: its target. (Named so that it stands in for a generator.)

        Args:
            sample: the batch; its `net_input` and `target` are read.
            prefix_tokens, begin: without meaning here.

        Raises:
            DataError: the batch has no target.
        """
        target_BT = sample.get("target")
        if target_BT is None:
            raise DataError("generation.score_reference=true needs data with targets, and these have none")
        with self.ensemble.evaluating():
            positional_BT, attention_BTS = score_targets(self.ensemble, sample["net_input"], target_BT, pad=self.pad)
        target_BT, positional_BT = target_BT.cpu(), positional_BT.cpu()
        attention_BTS = None if attention_BTS is None else attention_BTS.cpu()
        results: list[list[Hypothesis]] = []
        for sentence in range(target_BT.size(0)):
            kept = target_BT[sentence].ne(self.pad)
            positional = positional_BT[sentence][kept]
            results.append(
                [
                    Hypothesis(
                        tokens=target_BT[sentence][kept],
                        score=float(positional.sum() / positional.numel()),
                        positional_scores=positional,
                        attention=None if attention_BTS is None else attention_BTS[sentence][kept],
                    )
                ]
            )
        return results


def score_targets(
    ensemble: Ensemble, net_input: dict[str, Any], target_BT: Tensor, *, pad: int, softmax_batch: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """The log-probability of every target that is not padding.

    Words are only scored where there is a target, some positions at a time: logits are held of these alone. Of the
    positions in front of the first target of all, a language model computes no more than what later ones see of them.

    Args:
        ensemble: models in evaluation mode, whose probabilities are averaged.
        net_input: of a batch.
        target_BT: what is to be scored.
        pad: the padding symbol.
        softmax_batch: most positions at a time; never more than memory is meant for.

    Returns:
        (B, T) float32 log-probabilities, 0 at padding; and (B, T, S) attention, averaged over models, where the
        ensemble is asked for it.
    """
    scored_BT = target_BT.ne(pad)
    skip = int(scored_BT.any(0).int().argmax())
    rows = scored_BT[:, skip:].reshape(-1).nonzero().squeeze(1)
    target = target_BT[:, skip:].reshape(-1).index_select(0, rows)
    scores: list[Tensor] = []
    attentions: list[Tensor] = []
    for model in ensemble.models:
        if isinstance(model, LanguageModel):
            features = model(**net_input, features_only=True, skip=skip).logits
        else:
            options: dict[str, Any] = {"need_attention": True} if ensemble.need_attention else {}
            output = model(**net_input, features_only=True, **options)
            features = output.logits[:, skip:]
            if output.attention is not None and ensemble.need_attention:
                attentions.append(output.attention)
        scores.append(_log_probs(model, features, rows, target, ensemble.temperature, softmax_batch))
    averaged = _averaged(scores)
    result = averaged.new_zeros(target_BT.shape)
    result[scored_BT] = averaged
    return result, torch.stack(attentions).mean(dim=0) if attentions else None


def score_stretches(
    ensemble: Ensemble,
    tokens_BT: Tensor,
    target_BT: Tensor,
    *,
    pad: int,
    block: int,
    context: int,
    at_once: int = 1,
    softmax_batch: int | None = None,
) -> Tensor:
    """As `score_targets`, for long stretches of text that language models read block by block, each token once.

    A model with attention sees `context` tokens before each block, and what it computed of these is carried on; one
    that is recurrent remembers what it can.

    Args:
        ensemble, pad, softmax_batch: as of `score_targets`; language models that can be carried on.
        tokens_BT: the text; of each row the part before its first target is read with the first block.
        target_BT: what is to be scored; from the first target on, all up to the padding behind the row.
        block: tokens of a block.
        context: tokens before it.
        at_once: blocks that are read together, which saves time and not figures.

    Returns:
        (B, T) float32 log-probabilities, 0 at padding.
    """
    scored_BT = target_BT.ne(pad)
    begins = scored_BT.int().argmax(1)
    result = torch.zeros(target_BT.shape, device=target_BT.device)
    for begin in sorted(set(begins.tolist())):
        rows = begins.eq(begin).nonzero().squeeze(1)
        scored = scored_BT[rows].any(0)
        if not bool(scored.any()):
            continue
        length = int(scored.nonzero().max()) + 1
        tokens, targets = tokens_BT[rows, :length], target_BT[rows, :length]
        decoders = [_decoder(model) for model in ensemble.models]
        caches = [decoder.new_cache(len(rows), length) for decoder in decoders]
        for cache in caches:
            if isinstance(cache, PackedCache):
                cache.see_blocks(begin, block, context)
        start = 0
        for end in (*range(begin + at_once * block, length, at_once * block), length):
            new = targets[:, max(start, begin) : end]
            places = new.ne(pad).reshape(-1).nonzero().squeeze(1)
            target = new.reshape(-1).index_select(0, places)
            scores = []
            for model, decoder, cache in zip(ensemble.models, decoders, caches, strict=True):
                features = decoder(tokens[:, start:end], cache=cache, features_only=True).logits[:, -new.size(1) :]
                scores.append(_log_probs(model, features, places, target, ensemble.temperature, softmax_batch))
            found = torch.zeros(new.numel(), device=new.device).index_copy_(0, places, _averaged(scores))
            result[rows, max(start, begin) : end] = found.view(new.shape)
            start = end
    return result


def _log_probs(
    model: Model, features: Tensor, rows: Tensor, target: Tensor, temperature: float, softmax_batch: int | None
) -> Tensor:
    """(n,) log-probabilities of the words `target` at the places `rows` of (B, T, C) features."""
    decoder = _decoder(model)
    features = features.flatten(0, 1)
    linear = decoder.output_linear()
    width = decoder.output_layer(features[:1]).size(-1) if linear is None else linear.out_features
    at_a_time = max(1, _SCORES_AT_A_TIME // width)
    if softmax_batch is not None:
        at_a_time = min(at_a_time, softmax_batch)
    parts = []
    for start in range(0, max(rows.numel(), 1), at_a_time):
        logits = decoder.output_layer(features.index_select(0, rows[start : start + at_a_time]))
        parts.append(model.target_log_probs(logits / temperature, target[start : start + at_a_time]))
    return torch.cat(parts)


def _averaged(scores: list[Tensor]) -> Tensor:
    """Log-probabilities of several models, their probabilities averaged."""
    return scores[0] if len(scores) == 1 else torch.logsumexp(torch.stack(scores), dim=0) - math.log(len(scores))


def _decoder(model: Model) -> IncrementalDecoder:
    assert isinstance(model, EncoderDecoderModel | LanguageModel)
    return model.decoder
