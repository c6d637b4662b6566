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

    Words are only scored where there is a target, some positions at a time; where the model's last layer can be had
    apart from it, logits are held of these alone.

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
    rows = target_BT.ne(pad).view(-1).nonzero().squeeze(1)
    target = target_BT.reshape(-1).index_select(0, rows)
    scores: list[Tensor] = []
    attentions: list[Tensor] = []
    for model in ensemble.models:
        options: dict[str, Any] = {"need_attention": True} if ensemble.need_attention else {}
        linear = model.output_linear()
        if linear is not None:
            options["features_only"] = True
        output = model(**net_input, **options)
        if output.attention is not None and ensemble.need_attention:
            attentions.append(output.attention)
        states = output.logits.flatten(0, 1)
        width = states.size(1) if linear is None else linear.out_features
        at_a_time = max(1, _SCORES_AT_A_TIME // width)
        if softmax_batch is not None:
            at_a_time = min(at_a_time, softmax_batch)
        parts = []
        for start in range(0, rows.numel(), at_a_time):
            logits = states.index_select(0, rows[start : start + at_a_time])
            if linear is not None:
                logits = linear(logits)
            parts.append(model.target_log_probs(logits / ensemble.temperature, target[start : start + at_a_time]))
        scores.append(torch.cat(parts) if parts else states.new_zeros(0, dtype=torch.float32))
    averaged = scores[0]
    if len(scores) > 1:
        averaged = torch.logsumexp(torch.stack(scores), dim=0) - math.log(len(scores))
    result = averaged.new_zeros(target_BT.numel()).index_copy(0, rows, averaged).view(target_BT.shape)
    return result, torch.stack(attentions).mean(dim=0) if attentions else None
