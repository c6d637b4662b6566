"""BERTScore (Zhang et al., 2020) by the package bert-score.

Knows nothing of subwords or token numbers: it is fed plain text.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.errors import DataError, require_extra
from seqkit.scoring.base import Scorer, register_scoring


@dataclass
class BertScoreConfig(Config):
    bert_score_lang: str = option("en", "language of the sentences; bert-score chooses its model by it")


@register_scoring("bert_score", config=BertScoreConfig)
class BertScore(Scorer):
    """Mean over the sentences of the F1 of matched contextual embeddings."""

    config: BertScoreConfig

    def __init__(self, config: BertScoreConfig) -> None:
        super().__init__(config)
        self._package = require_extra("bert_score", extra="bert_score", purpose="scoring=bert_score")

    def score(self) -> float:
        """The mean.

        Raises:
            DataError: no sentences.
        """
        if not self.hypotheses:
            raise DataError("scoring=bert_score: there are no sentences to score")
        _, _, f1 = self._package.score(self.hypotheses, self.references, lang=self.config.bert_score_lang)
        return float(f1.mean())

    def result_string(self) -> str:
        """`BERTScore: 0.1234`."""
        return f"BERTScore: {self.score():.4f}"
