"""Translation edit rate (Snover et al., 2006) by sacrebleu.

Knows nothing of subwords or token numbers: it is fed plain text.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config, option
from seqkit.scoring._sacrebleu_metric import SacrebleuMetric
from seqkit.scoring.base import register_scoring


@dataclass
class TerConfig(Config):
    ter_normalized: bool = option(False, "split off punctuation first")
    ter_remove_punct: bool = option(False, "leave out punctuation")
    ter_asian_support: bool = option(False, "split Asian characters too, where the two options above apply")
    ter_case_sensitive: bool = option(False, "count a difference of case as an edit")


@register_scoring("ter", config=TerConfig)
class Ter(SacrebleuMetric):
    """Insertions, deletions, substitutions and shifts for each 100 reference words; 0 is best."""

    config: TerConfig

    def __init__(self, config: TerConfig) -> None:
        from sacrebleu.metrics.ter import TER

        super().__init__(
            config,
            TER(
                normalized=config.ter_normalized,
                no_punct=config.ter_remove_punct,
                asian_support=config.ter_asian_support,
                case_sensitive=config.ter_case_sensitive,
            ),
        )
