"""The loss of models with an adaptive softmax (Grave et al., 2017): what each cluster says of the words in it.

Sees a model and a batch. Knows nothing of tasks, or of how many batches make an update.
Axes: B batch, T length, N scored positions, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.criterions._token_loss import log_loss, log_perplexity, total_of
from seqkit.criterions.base import Criterion, Logging, LossOutput, register_criterion
from seqkit.data.sample import Sample
from seqkit.errors import ConfigError
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax, ClusterScores
from seqkit.modules.fused_cross_entropy import fused_cross_entropy

_NOTHING_IGNORED = -1


@dataclass
class AdaptiveLossConfig(Config):
    """Options of `AdaptiveLoss`."""

    sentence_avg: bool = option(
        False, "divide gradients by sentences instead of tokens", follows="optimization.sentence_avg"
    )
    ddp_backend: str = option(
        "pytorch_ddp",
        "of no effect: every way of data parallelism will do",
        follows="distributed_training.ddp_backend",
    )
    skip_pad_offset: bool = option(
        False,
        "leave out the second word of every cluster but the first, as fairseq does by an oversight (for comparisons)",
    )


@register_criterion("adaptive_loss", config=AdaptiveLossConfig)
class AdaptiveLoss(Criterion):
    """-log p(target), summed over the target words that are not padding; p comes from an adaptive softmax.

    fairseq takes the index of a word within its cluster for padding where it equals the padding symbol's, and so
    loses that word's second term (not that of the choice of the cluster). Here every word counts.

    Logs `loss` (summed, nats; reported in base 2), `ntokens`, `nsentences`, `sample_size`.
    """

    config: AdaptiveLossConfig

    def forward(self, model: Model, sample: Sample, *, reduce: bool = True) -> LossOutput:
        softmax = model.adaptive_softmax
        if softmax is None:
            raise ConfigError(
                "criterion=adaptive_loss needs a model with an adaptive softmax; set model.adaptive_softmax_cutoff, "
                "or use criterion=cross_entropy"
            )
        target_BT = sample["target"]
        assert target_BT is not None, "this loss needs a target"
        features_BTC = model(**sample["net_input"]).logits
        target = target_BT.reshape(-1)
        rows = target.ne(self.pad).nonzero().squeeze(1)
        scored = self._losses(softmax, features_BTC.flatten(0, 1).index_select(0, rows), target.index_select(0, rows))
        loss = scored.sum() if reduce else scored.new_zeros(len(target)).index_add(0, rows, scored)
        ntokens = len(rows)
        sample_size = len(target_BT) if self.config.sentence_avg else ntokens
        logging = {
            "loss": loss.detach(),
            "ntokens": ntokens,
            "nsentences": len(target_BT),
            "sample_size": sample_size,
        }
        return LossOutput(loss, sample_size, logging)

    def reduce_metrics(self, outputs: Sequence[Logging], log: Aggregator) -> None:
        loss, sample_size, ntokens = (total_of(outputs, key) for key in ("loss", "sample_size", "ntokens"))
        log_loss(log, "loss", loss, sample_size)
        if sample_size != ntokens:
            log_loss(log, "nll_loss", loss, ntokens)
            log_perplexity(log, of="nll_loss")
        else:
            log_perplexity(log, of="loss")

    def _losses(self, softmax: AdaptiveSoftmax, features_NC: Tensor, target_N: Tensor) -> Tensor:
        """(N,) the loss of each position."""
        head, *tails = softmax.clusters(features_NC, target_N)
        losses = _cross_entropy(head)
        for tail in tails:
            assert tail.rows is not None
            losses = losses.index_add(
                0, tail.rows, _cross_entropy(tail, self.pad if self.config.skip_pad_offset else _NOTHING_IGNORED)
            )
        return losses


def _cross_entropy(scores: ClusterScores, ignored: int = _NOTHING_IGNORED) -> Tensor:
    loss, _ = fused_cross_entropy(
        logits=scores.logits, target=scores.target, ignore_index=ignored, reduce=False, overwrite_logits=True
    )
    return loss
