"""Label-smoothed cross-entropy (Szegedy et al., 2016, section 7).

Sees a model and a batch. Knows nothing of tasks, or of how many batches make an update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.criterions._token_loss import TokenCriterion, log_accuracy, log_loss, log_perplexity, total_of
from seqkit.criterions.base import Logging, LossOutput, register_criterion
from seqkit.data.sample import Sample
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model


@dataclass
class LabelSmoothedCrossEntropyConfig(Config):
    """Options of `LabelSmoothedCrossEntropy`."""

    label_smoothing: float = option(
        0.0, "probability mass e spread over the words that are not the target", low=0.0, high=1.0
    )
    report_accuracy: bool = option(False, "also log the share of words predicted right")
    ignore_prefix_size: int = option(0, "leading target positions left out of the loss", low=0)
    sentence_avg: bool = option(
        False, "divide gradients by sentences instead of tokens", follows="optimization.sentence_avg"
    )
    chunk_size: int = option(
        0,
        "positions whose logits are made at a time, which saves memory where the vocabulary is large (256 to 4096 are "
        "good values); 0: as is fastest",
        low=0,
    )


@register_criterion("label_smoothed_cross_entropy", config=LabelSmoothedCrossEntropyConfig)
class LabelSmoothedCrossEntropy(TokenCriterion):
    """Smoothed negative log-likelihood, summed over the target words that are not padding.

        loss = (1 - e - e/(V-1)) * nll + e/(V-1) * sum_v(-log p_v)

    Logs `loss` and `nll_loss` (summed, nats; reported in base 2), `ntokens`, `nsentences`, `sample_size`, and with
    `report_accuracy` `n_correct` and `total`.
    """

    config: LabelSmoothedCrossEntropyConfig

    def forward(self, model: Model, sample: Sample, *, reduce: bool = True) -> LossOutput:
        config = self.config
        scores = self.score(
            model,
            sample,
            label_smoothing=config.label_smoothing,
            ignore_prefix_size=config.ignore_prefix_size,
            count_correct=config.report_accuracy,
            reduce=reduce,
            chunk_size=config.chunk_size,
        )
        return self.output(scores, sample, sentence_avg=config.sentence_avg, log_nll=True)

    def reduce_metrics(self, outputs: Sequence[Logging], log: Aggregator) -> None:
        log_loss(log, "loss", total_of(outputs, "loss"), total_of(outputs, "sample_size"))
        log_loss(log, "nll_loss", total_of(outputs, "nll_loss"), total_of(outputs, "ntokens"))
        log_perplexity(log, of="nll_loss")
        log_accuracy(log, outputs)
