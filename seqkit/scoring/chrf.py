"""chrF and chrF++ (Popović, 2015 and 2017) by sacrebleu.

Knows nothing of subwords or token numbers: it is fed plain text.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.scoring._sacrebleu_metric import SacrebleuMetric
from seqkit.scoring.base import register_scoring


@dataclass
class ChrfConfig(Config):
    chrf_char_order: int = option(6, "longest character n-gram", low=1)
    chrf_word_order: int = option(0, "longest word n-gram; 0 is chrF, 2 is chrF++", low=0)
    chrf_beta: int = option(2, "weight of recall against precision", low=1)
    chrf_lowercase: bool = option(False, "compare without regard to case")


@register_scoring("chrf", config=ChrfConfig)
class Chrf(SacrebleuMetric):
    """F-score of character n-grams (and word n-grams), averaged over their lengths."""

    config: ChrfConfig

    def __init__(self, config: ChrfConfig) -> None:
        from sacrebleu.metrics.chrf import CHRF

        super().__init__(
            config,
            CHRF(
                char_order=config.chrf_char_order,
                word_order=config.chrf_word_order,
                beta=config.chrf_beta,
                lowercase=config.chrf_lowercase,
            ),
        )
