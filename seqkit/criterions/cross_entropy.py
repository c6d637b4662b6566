"""Cross-entropy: the negative log-likelihood of the target words.

Sees a model and a batch. Knows nothing of tasks, or of how many batches make an update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.criterions._token_loss import TokenCriterion, log_loss, log_perplexity, total_of
from seqkit.criterions.base import Logging, LossOutput, register_criterion
from seqkit.data.sample import Sample
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model


@dataclass
class CrossEntropyConfig(Config):
    """Options of `CrossEntropy`."""

    sentence_avg: bool = option(
        False, "divide gradients by sentences instead of tokens", follows="optimization.sentence_avg"
    )
    chunk_size: int = option(
        0,
        "positions whose logits are made at a time, which saves memory where the vocabulary is large (256 to 4096 are "
        "good values); 0: as is fastest",
        low=0,
    )


@register_criterion("cross_entropy", config=CrossEntropyConfig)
class CrossEntropy(TokenCriterion):
    """-log p(target), summed over the target words that are not padding.

    Logs `loss` (summed, nats; reported in base 2), `ntokens`, `nsentences`, `sample_size`.
    """

    config: CrossEntropyConfig

    def forward(self, model: Model, sample: Sample, *, reduce: bool = True) -> LossOutput:
        scores = self.score(model, sample, reduce=reduce, chunk_size=self.config.chunk_size)
        return self.output(scores, sample, sentence_avg=self.config.sentence_avg, log_nll=False)

    def reduce_metrics(self, outputs: Sequence[Logging], log: Aggregator) -> None:
        loss, sample_size, ntokens = (total_of(outputs, key) for key in ("loss", "sample_size", "ntokens"))
        log_loss(log, "loss", loss, sample_size)
        if sample_size != ntokens:
            log_loss(log, "nll_loss", loss, ntokens)
            log_perplexity(log, of="nll_loss")
        else:
            log_perplexity(log, of="loss")
