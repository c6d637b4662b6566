"""What the losses over target words share: which positions are scored, how, and what is logged of them.

Sees the protocols of `models/base.py`. Knows nothing of tasks, or of how many batches make an update.
Axes: B batch, T target length, C channels, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seqkit.criterions.base import Criterion, Logging, LossOutput
from seqkit.data.sample import Sample
from seqkit.metrics.aggregator import Aggregator, perplexity
from seqkit.models.base import Model, ModelOutput
from seqkit.modules.chunked_linear_cross_entropy import chunked_linear_cross_entropy
from seqkit.modules.chunked_linear_cross_entropy import count_correct as chunked_count_correct
from seqkit.modules.fused_cross_entropy import fused_cross_entropy, fused_linear_cross_entropy
from seqkit.modules.linear import is_plain


class TokenScores(NamedTuple):
    """Scores of a batch: `loss` and `nll`, sums or one entry per position; words predicted right, words in all."""

    loss: Tensor
    nll: Tensor
    n_correct: Tensor | None = None
    total: Tensor | None = None


class TokenCriterion(Criterion):
    """Base of losses that are (smoothed) cross-entropy over the target words that are not padding."""

    def score(
        self,
        model: nn.Module,
        sample: Sample,
        *,
        label_smoothing: float = 0.0,
        ignore_prefix_size: int = 0,
        count_correct: bool = False,
        reduce: bool = True,
        chunk_size: int = 0,
    ) -> TokenScores:
        """Run the model and score its prediction of `sample["target"]` (B, T).

        Args:
            model: called with `sample["net_input"]`.
            sample: the batch.
            label_smoothing: probability mass spread over the words that are not the target.
            ignore_prefix_size: leading positions left out.
            count_correct: also count the words predicted right.
            reduce: sum over positions.
            chunk_size: positions whose logits are made at a time, to save memory; 0: as is fastest.
        """
        target = sample["target"]
        assert target is not None, "this loss needs a target"
        if chunk_size and reduce and (linear := _plain_projection(model)) is not None:
            output = model(**sample["net_input"], features_only=True)
            inputs: dict[str, Any] = {
                "features": output.logits[:, ignore_prefix_size:],
                "weight": linear.weight,
                "bias": linear.bias,
                "target": target[:, ignore_prefix_size:],
                "ignore_index": self.pad,
                "chunk_size": chunk_size,
            }
            n_correct, total = chunked_count_correct(**inputs) if count_correct else (None, None)
            return TokenScores(
                *chunked_linear_cross_entropy(**inputs, label_smoothing=label_smoothing), n_correct, total
            )
        projection = None if count_correct or not reduce else _projection(model)
        if projection is not None:
            output = model(**sample["net_input"], features_only=True)
            loss, nll = fused_linear_cross_entropy(
                features=output.logits[:, ignore_prefix_size:],
                weight=projection.weight,
                bias=projection.bias,
                target=target[:, ignore_prefix_size:],
                ignore_index=self.pad,
                label_smoothing=label_smoothing,
            )
            return TokenScores(loss, nll)
        output = model(**sample["net_input"])
        if isinstance(model, Model) and model.adaptive_softmax is not None:
            # Log-probabilities are logits too.
            output = replace(output, logits=model.normalized_probs(output.logits, log_probs=True))
        return self.score_output(
            output,
            target,
            label_smoothing=label_smoothing,
            ignore_prefix_size=ignore_prefix_size,
            count_correct=count_correct,
            reduce=reduce,
            overwrite_logits=True,
        )

    def score_output(
        self,
        output: ModelOutput,
        target: Tensor,
        *,
        label_smoothing: float = 0.0,
        ignore_prefix_size: int = 0,
        count_correct: bool = False,
        reduce: bool = True,
        overwrite_logits: bool = False,
    ) -> TokenScores:
        """Score logits (B, T, V) that are there already; the arguments are those of `score`."""
        logits = output.logits
        if ignore_prefix_size > 0:
            logits, target = logits[:, ignore_prefix_size:], target[:, ignore_prefix_size:]
        n_correct = total = None
        if count_correct:
            with torch.no_grad():
                scored = target.ne(self.pad)
                n_correct = (logits.argmax(-1).eq(target) & scored).sum()
                total = scored.sum()
        loss, nll = fused_cross_entropy(
            logits=logits,
            target=target,
            ignore_index=self.pad,
            label_smoothing=label_smoothing,
            reduce=reduce,
            overwrite_logits=overwrite_logits,
        )
        return TokenScores(loss, nll, n_correct, total)

    @staticmethod
    def output(scores: TokenScores, sample: Sample, *, sentence_avg: bool, log_nll: bool) -> LossOutput:
        """The criterion's result for one batch."""
        sample_size = len(sample["target"]) if sentence_avg else sample["ntokens"]  # type: ignore[arg-type]
        logging: dict[str, Any] = {"loss": scores.loss.detach()}
        if log_nll:
            logging["nll_loss"] = scores.nll.detach()
        logging |= {"ntokens": sample["ntokens"], "nsentences": sample["nsentences"], "sample_size": sample_size}
        if scores.n_correct is not None:
            logging |= {"n_correct": scores.n_correct, "total": scores.total}
        return LossOutput(scores.loss, sample_size, logging)


def total_of(outputs: Sequence[Logging], key: str) -> Any:
    """Sum of one key over the logging of several batches; batches without it count 0."""
    return sum(output.get(key, 0) for output in outputs)


def log_loss(log: Aggregator, key: str, nats: Any, count: Any) -> None:
    """Log a summed loss as its base-2 average over `count`. Nothing is logged where nothing was scored."""
    if count > 0:
        log.log_scalar(key, nats / count / math.log(2), count, round=3)


def log_perplexity(log: Aggregator, of: str) -> None:
    """Log `ppl`, 2 to the power of the figure `of`."""
    if of in log:
        log.log_derived("ppl", lambda figures: perplexity(figures[of].avg))


def log_accuracy(log: Aggregator, outputs: Sequence[Logging]) -> None:
    """Log `n_correct` and `total`, and `accuracy` in percent, where batches counted them."""
    total = total_of(outputs, "total")
    if total > 0:
        log.log_scalar("total", total)
        log.log_scalar("n_correct", total_of(outputs, "n_correct"))
        log.log_derived("accuracy", _accuracy)


def _accuracy(figures: Aggregator) -> float:
    total = float(figures["total"].sum)
    return round(float(figures["n_correct"].sum) * 100.0 / total, 3) if total > 0 else math.nan


def _projection(model: nn.Module) -> nn.Linear | None:
    """The model's projection to the vocabulary, if projecting a few rows at a time is right and faster.

    It is faster on a CPU in full precision.
    """
    linear = _plain_projection(model)
    if linear is None:
        return None
    full_precision = linear.weight.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")
    return linear if linear.weight.device.type == "cpu" and full_precision else None


def _plain_projection(model: nn.Module) -> nn.Linear | None:
    """The model's projection to the vocabulary, if it is right to do it in its place.

    It is for a model that is not wrapped, whose weight is a plain tensor, and which no hook on the layer watches.
    """
    linear = model.output_linear() if isinstance(model, Model) else None
    if linear is None or not is_plain(linear):
        return None
    return linear
