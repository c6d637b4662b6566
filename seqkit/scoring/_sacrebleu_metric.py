"""A scorer whose figure is one of sacrebleu's metrics (Post, 2018).

Knows nothing of which metric that is.
"""

from __future__ import annotations

from typing import Any

from seqkit.errors import DataError
from seqkit.scoring.base import Scorer


class SacrebleuMetric(Scorer):
    """Base of the scorers that hand all their sentences to a metric of sacrebleu.

    Args:
        config: the component's config.
        metric: a `sacrebleu.metrics.base.Metric`.
        sentence_metric: the one for single sentences, where it differs.
    """

    def __init__(self, config: Any, metric: Any, sentence_metric: Any | None = None) -> None:
        super().__init__(config)
        self._metric = metric
        self._sentence_metric = sentence_metric or metric

    def score(self) -> float:
        """The metric's figure, 0 to 100 (TER may be more)."""
        return float(self._corpus().score)

    def result_string(self) -> str:
        """The line that sacrebleu prints."""
        return str(self._corpus().format())

    def score_sentence(self, reference: str, hypothesis: str) -> tuple[float, str]:
        """Figure and line of one sentence alone."""
        result = self._sentence_metric.sentence_score(self.prepared(hypothesis), [self.prepared(reference)])
        return float(result.score), str(result.format())

    def prepared(self, sentence: str) -> str:
        """The sentence as the metric is to see it."""
        return sentence

    def add(self, reference: str, hypothesis: str) -> None:
        """Count one sentence."""
        super().add(self.prepared(reference), self.prepared(hypothesis))

    def _corpus(self) -> Any:
        if not self.hypotheses:
            raise DataError(f"scoring={self.config._name}: there are no sentences to score")
        return self._metric.corpus_score(self.hypotheses, [self.references])
