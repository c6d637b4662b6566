"""METEOR (Banerjee and Lavie, 2005) by NLTK.

Knows nothing of subwords or token numbers: it is fed plain text.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.errors import DataError, require_extra
from seqkit.scoring.base import Scorer, register_scoring


@dataclass
class MeteorConfig(Config):
    """No options."""


@register_scoring("meteor", config=MeteorConfig)
class Meteor(Scorer):
    """Mean over the sentences of the harmonic mean of matched words, less a penalty for broken order; 0 to 1."""

    def __init__(self, config: MeteorConfig) -> None:
        super().__init__(config)
        module = require_extra("nltk.translate.meteor_score", extra="nltk", purpose="scoring=meteor")
        self._sentence_score = module.single_meteor_score

    def score(self) -> float:
        """The mean.

        Raises:
            DataError: no sentences, or WordNet is not on this machine.
        """
        if not self.hypotheses:
            raise DataError("scoring=meteor: there are no sentences to score")
        pairs = zip(self.references, self.hypotheses, strict=True)
        try:
            return float(sum(self._sentence_score(r.split(), h.split()) for r, h in pairs) / len(self.hypotheses))
        except LookupError as error:
            raise DataError(
                "scoring=meteor needs NLTK's data set 'wordnet'; get it once with: python -m nltk.downloader wordnet"
            ) from error

    def result_string(self) -> str:
        """`METEOR: 0.1234`."""
        return f"METEOR: {self.score():.4f}"
