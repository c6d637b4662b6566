"""The task `translation`: from sentences of one language to sentences of another.

Knows nothing of models' insides, of losses, or of the training loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.criterions.base import Criterion, Logging, LossOutput
from seqkit.data.dictionary import Dictionary
from seqkit.data.language_pair_dataset import LanguagePairDataset, check_same_special_symbols
from seqkit.data.language_pair_files import infer_language_pair, load_dictionary, load_language_pair
from seqkit.errors import ConfigError, DataError
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model
from seqkit.tasks._bleu_validation import BleuValidation, log_bleu
from seqkit.tasks.base import Task, register_task

logger = logging.getLogger(__name__)


@dataclass
class TranslationConfig(Config):
    data: str | None = option(
        None,
        f"folder made by seqkit-preprocess; several, joined by {os.pathsep!r}, take turns from epoch to epoch",
        positional=True,
    )
    source_lang: str | None = option(
        None, "source language; unset: told from the names of the files", flags=("--source-lang", "-s")
    )
    target_lang: str | None = option(
        None, "target language; unset: told from the names of the files", flags=("--target-lang", "-t")
    )
    load_alignments: bool = option(False, "load the word alignments of each split that has them")
    left_pad_source: bool = option(True, "pad sources on the left")
    left_pad_target: bool = option(False, "pad targets on the left")
    max_source_positions: int = option(1024, "longest source, in tokens with EOS", low=1)
    max_target_positions: int = option(1024, "longest target, in tokens with EOS", low=1)
    upsample_primary: int = option(
        -1, "how often the training split itself is counted beside train1, train2, …; 0 or less: once"
    )
    truncate_source: bool = option(False, "cut sources to max_source_positions instead of leaving them out")
    num_batch_buckets: int = option(
        0, "above 0: pad sentences so that at most so many lengths occur (for compilers that dislike many)", low=0
    )
    train_subset: str = option("train", "the split to train on", follows="dataset.train_subset")
    dataset_impl: str | None = option(
        None,
        "format of the data; unset: recognised from the files",
        choices=("raw", "lazy", "cached", "mmap", "fasta", "huffman"),
        follows="dataset.dataset_impl",
    )
    required_seq_len_multiple: int = option(
        1, "batches are padded to a multiple of this length", low=1, follows="dataset.required_seq_len_multiple"
    )
    eval_bleu: bool = option(False, "validate with BLEU too")
    eval_bleu_args: Any = option(
        "{}", 'generation options for BLEU, a mapping or JSON text: \'{"beam": 4, "lenpen": 0.6}\''
    )
    eval_bleu_detok: str = option("space", "tokenizer that makes text of tokens before BLEU is computed")
    eval_bleu_detok_args: Any = option("{}", "options of that tokenizer, a mapping or JSON text")
    eval_tokenized_bleu: bool = option(False, "compute BLEU on the tokens as they are")
    eval_bleu_remove_bpe: str | None = option(
        None, "subword segmentation to undo before BLEU is computed: '@@ ', 'sentencepiece', …", bare="@@ "
    )
    eval_bleu_print_samples: bool = option(False, "log one translation of each validation batch")


@register_task("translation", config=TranslationConfig)
class Translation(Task):
    """Translate with a model trained on pairs of sentences.

    `config.source_lang` and `config.target_lang` are filled in where they had to be told from the files.

    Args:
        config: the section `task`.
        source_dictionary, target_dictionary: dictionaries whose special symbols agree.
    """

    config: TranslationConfig

    def __init__(self, config: TranslationConfig, source_dictionary: Dictionary, target_dictionary: Dictionary) -> None:
        super().__init__(config)
        check_same_special_symbols(source_dictionary, target_dictionary)
        self._source_dictionary = source_dictionary
        self._target_dictionary = target_dictionary
        self._bleu = self._bleu_validation() if config.eval_bleu else None

    @classmethod
    def build(cls, config: TranslationConfig) -> Translation:
        """Find the languages, read the dictionaries and make the task.

        Raises:
            ConfigError: no data folder given.
            DataError: folder or dictionaries are missing, languages cannot be told, dictionaries disagree.
        """
        folder = _folders(config)[0]
        if config.source_lang is None or config.target_lang is None:
            config.source_lang, config.target_lang = infer_language_pair(folder, config.source_lang, config.target_lang)
        source = load_dictionary(folder, config.source_lang)
        target = load_dictionary(folder, config.target_lang)
        logger.info("[%s] dictionary: %d symbols", config.source_lang, len(source))
        logger.info("[%s] dictionary: %d symbols", config.target_lang, len(target))
        return cls(config, source, target)

    @property
    def source_dictionary(self) -> Dictionary:
        return self._source_dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        return self._target_dictionary

    def data_folders(self) -> list[Path]:
        return _folders(self.config)

    def max_positions(self) -> tuple[int, int]:
        """Longest source and longest target."""
        return self.config.max_source_positions, self.config.max_target_positions

    def has_sharded_data(self, split: str) -> bool:
        """Whether `split` is read from another folder in each epoch."""
        return split == self.config.train_subset and len(_folders(self.config)) > 1

    def load_dataset(self, split: str, *, epoch: int = 1, combine: bool = False) -> LanguagePairDataset:
        """Load a split; the training split comes from the folder whose turn it is in `epoch`.

        Raises:
            DataError: files are missing or do not fit together.
        """
        config = self.config
        folders = _folders(config)
        folder = folders[(epoch - 1) % len(folders)] if split == config.train_subset else folders[0]
        assert config.source_lang is not None
        assert config.target_lang is not None
        dataset = load_language_pair(
            folder,
            split,
            config.source_lang,
            config.target_lang,
            self.source_dictionary,
            self.target_dictionary,
            combine=combine,
            dataset_impl=config.dataset_impl,
            upsample_primary=config.upsample_primary,
            truncate_source_to=config.max_source_positions if config.truncate_source else None,
            load_alignments=config.load_alignments,
            left_pad_source=config.left_pad_source,
            left_pad_target=config.left_pad_target,
            shuffle=split != "test",
            num_buckets=config.num_batch_buckets,
            pad_to_multiple=config.required_seq_len_multiple,
        )
        if dataset.tgt is None and split == config.train_subset:
            raise DataError(
                f"the training split {split!r} in {folder} has no {config.target_lang} sentences; "
                "run seqkit-preprocess without --only-source"
            )
        self.datasets[split] = dataset
        return dataset

    def build_dataset_for_inference(
        self, src_tokens: Sequence[Tensor], src_lengths: Sequence[int], constraints: Sequence[Tensor] | None = None
    ) -> LanguagePairDataset:
        """A dataset of sources alone, in the order given: token rows that end in EOS, and their lengths."""
        return LanguagePairDataset(
            src_tokens,
            src_lengths,
            self.source_dictionary,
            tgt_dict=self.target_dictionary,
            left_pad_source=self.config.left_pad_source,
            constraints=constraints,
            shuffle=False,
        )

    def begin_validation(self, model: Model) -> None:
        if self._bleu is not None:
            self._bleu.begin(model)

    @torch.no_grad()
    def valid_step(self, sample: Any, model: Model, criterion: Criterion) -> LossOutput:
        output = super().valid_step(sample, model, criterion)
        if self._bleu is not None and sample.get("target") is not None:
            output.logging.update(self._bleu.measure(sample, model))
        return output

    def reduce_metrics(self, outputs: Sequence[Logging], criterion: Criterion, log: Aggregator) -> None:
        """Figures of the criterion, and `bleu` where validation counted it."""
        super().reduce_metrics(outputs, criterion, log)
        if self._bleu is not None:
            log_bleu(outputs, log)

    def _bleu_validation(self) -> BleuValidation:
        config = self.config
        return BleuValidation(
            self.target_dictionary,
            generation=config.eval_bleu_args,
            detokenizer=config.eval_bleu_detok,
            detokenizer_args=config.eval_bleu_detok_args,
            remove_bpe=config.eval_bleu_remove_bpe,
            tokenized=config.eval_tokenized_bleu,
            print_samples=config.eval_bleu_print_samples,
        )


def _folders(config: TranslationConfig) -> list[Path]:
    folders = [Path(part) for part in (config.data or "").split(os.pathsep) if part]
    if not folders:
        raise ConfigError("task.data is not given; give the folder that seqkit-preprocess wrote (its --destdir)")
    return folders
