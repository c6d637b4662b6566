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
            positional_BT, attention_BTS = self._scores(sample["net_input"], target_BT)
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

    def _scores(self, net_input: dict[str, Any], target_BT: Tensor) -> tuple[Tensor, Tensor | None]:
        ensemble = self.ensemble
        scores: list[Tensor] = []
        attentions: list[Tensor] = []
        for model in ensemble.models:
            output = model(**net_input, **({"need_attention": True} if ensemble.need_attention else {}))
            if output.attention is not None and ensemble.need_attention:
                attentions.append(output.attention)
            rows = max(1, _SCORES_AT_A_TIME // (output.logits.size(1) * output.logits.size(2)))
            parts = []
            for start in range(0, output.logits.size(0), rows):
                logits, target = output.logits[start : start + rows], target_BT[start : start + rows]
                log_probs = model.normalized_probs(logits / ensemble.temperature, log_probs=True)
                parts.append(log_probs.gather(2, target.unsqueeze(2)).squeeze(2))
            scores.append(torch.cat(parts))
        averaged = scores[0]
        if len(scores) > 1:
            averaged = torch.logsumexp(torch.stack(scores), dim=0) - math.log(len(scores))
        return averaged, torch.stack(attentions).mean(dim=0) if attentions else None
