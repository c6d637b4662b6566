"""The task `reversed_translation`: translation that reads its sources backwards (Sutskever et al., 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seqkit.config.base import option
from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.tasks.base import register_task
from seqkit.tasks.translation import Translation, TranslationConfig


@dataclass
class ReversedTranslationConfig(TranslationConfig):
    """Options of `ReversedTranslation`: those of `translation`, and one more."""

    reverse_source: bool = option(True, "turn the words of each source around")


class ReversedRows:
    """Rows of tokens turned around; the end symbol stays at the end.

    Args:
        rows: rows (length,) that end in EOS.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row: Tensor = self.rows[index].clone()
        row[:-1] = row[:-1].flip(0)
        return row


@register_task("reversed_translation", config=ReversedTranslationConfig)
class ReversedTranslation(Translation):
    """Translate, the first word of a source nearest to the first word of its target."""

    config: ReversedTranslationConfig

    def load_dataset(self, split: str, *, epoch: int = 1, combine: bool = False) -> LanguagePairDataset:
        return self._reversed(super().load_dataset(split, epoch=epoch, combine=combine))

    def build_dataset_for_inference(
        self, src_tokens: Sequence[Tensor], src_lengths: Sequence[int], constraints: Sequence[Tensor] | None = None
    ) -> LanguagePairDataset:
        return self._reversed(super().build_dataset_for_inference(src_tokens, src_lengths, constraints))

    def _reversed(self, dataset: LanguagePairDataset) -> LanguagePairDataset:
        if self.config.reverse_source:
            dataset.src = ReversedRows(dataset.src)
        return dataset
