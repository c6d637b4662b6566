"""What every scorer promises: it is fed pairs of strings and gives a figure and a line of text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from seqkit.config.base import Config
from seqkit.registry import registry

register_scoring = registry("scoring").register


class Scorer(ABC):
    """Base of all scorers of whole corpora."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.references: list[str] = []
        self.hypotheses: list[str] = []

    def add(self, reference: str, hypothesis: str) -> None:
        """Count one sentence."""
        self.references.append(reference)
        self.hypotheses.append(hypothesis)

    def reset(self) -> None:
        """Forget all sentences."""
        self.references.clear()
        self.hypotheses.clear()

    @abstractmethod
    def score(self) -> float:
        """The figure for all sentences so far."""

    @abstractmethod
    def result_string(self) -> str:
        """One line, as printed behind `Generate … with beam=…: `."""

    def score_sentence(self, reference: str, hypothesis: str) -> tuple[float, str]:
        """Figure and line of one sentence alone; the corpus counted so far stays as it is."""
        alone = type(self)(self.config)
        alone.add(reference, hypothesis)
        return alone.score(), alone.result_string()


def build_scorer(config: Config) -> Scorer:
    """Build the scorer that `config._name` names."""
    scorer: Scorer = registry("scoring").get(str(config._name)).cls(config)
    return scorer
