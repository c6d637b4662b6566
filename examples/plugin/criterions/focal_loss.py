"""The criterion `focal_loss`: cross-entropy in which words that are predicted well count less (Lin et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.criterions.base import Criterion, Logging, LossOutput, register_criterion
from seqkit.data.sample import Sample
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model


@dataclass
class FocalLossConfig(Config):
    """Options of `FocalLoss`."""

    focus: float = option(2.0, "the larger, the less a well predicted word counts; 0: cross-entropy", low=0.0)
    sentence_avg: bool = option(
        False, "divide gradients by sentences instead of tokens", follows="optimization.sentence_avg"
    )


@register_criterion("focal_loss", config=FocalLossConfig)
class FocalLoss(Criterion):
    """-(1 - p)^focus log p, summed over the target words, p being the probability of the word."""

    config: FocalLossConfig

    def forward(self, model: Model, sample: Sample, *, reduce: bool = True) -> LossOutput:
        output = model(**sample["net_input"])
        target = sample["target"]
        assert target is not None
        log_prob = model.target_log_probs(output.logits, target)
        loss = -((1 - log_prob.exp()) ** self.config.focus) * log_prob
        loss = loss.masked_fill(target == self.pad, 0.0).flatten()
        total = loss.sum()
        ntokens = sample["ntokens"]
        sample_size = len(target) if self.config.sentence_avg else ntokens
        logging = {
            "loss": total.detach(),
            "ntokens": ntokens,
            "nsentences": len(target),
            "sample_size": sample_size,
        }
        return LossOutput(total if reduce else loss, sample_size, logging)

    def reduce_metrics(self, outputs: Sequence[Logging], log: Aggregator) -> None:
        loss = sum(float(output["loss"]) for output in outputs)
        sample_size = sum(output["sample_size"] for output in outputs)
        log.log_scalar("loss", loss / sample_size / math.log(2), sample_size, round=3)
