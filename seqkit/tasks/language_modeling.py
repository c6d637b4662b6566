"""The task `language_modeling`: predict text token by token.

Knows nothing of models' insides, of losses, or of the training loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqkit.config.base import Config, option
from seqkit.data.dictionary import Dictionary
from seqkit.data.monolingual_dataset import MonolingualDataset
from seqkit.data.monolingual_files import has_text, load_shared_dictionary, missing_split, open_text
from seqkit.data.prompt_dataset import PromptDataset
from seqkit.data.random_crop_dataset import RandomCropDataset
from seqkit.data.sequence_dataset import SizedTokenRows
from seqkit.data.token_block_dataset import BREAK_MODES, TokenBlockDataset
from seqkit.data.truncate_dataset import TruncateDataset
from seqkit.errors import ConfigError, DataError
from seqkit.models.base import LanguageModel, Model
from seqkit.tasks.base import Task, register_task

logger = logging.getLogger(__name__)

_NO_PLASMA = "data is memory-mapped, which serves the purpose without a plasma store; leave it unset"
_NO_TPU = "TPUs are not supported"


@dataclass
class LanguageModelingConfig(Config):
    """Options of `LanguageModeling`."""

    data: str | None = option(
        None,
        f"folder made by seqkit-preprocess --only-source; several, joined by {os.pathsep!r}, take turns from epoch "
        "to epoch",
        positional=True,
    )
    sample_break_mode: str = option(
        "none",
        "how text is cut into blocks: none (tokens_per_sample tokens each), complete (whole sentences), complete_doc "
        "(whole sentences of one document, documents being parted by empty lines), eos (each sentence)",
        choices=BREAK_MODES,
    )
    tokens_per_sample: int = option(1024, "most tokens of a block", low=1)
    output_dictionary_size: int = option(
        -1, "predict only the first so many symbols of the dictionary, all others as unknown; -1: all of them", low=-1
    )
    self_target: bool = option(False, "predict the token that is read")
    future_target: bool = option(False, "predict the next token (what is done where no target is chosen)")
    past_target: bool = option(False, "predict the token before the one that is read")
    add_bos_token: bool = option(False, "put BOS before each block")
    max_target_positions: int | None = option(
        None, "longest text that the model takes, in tokens; default tokens_per_sample", low=1
    )
    shorten_method: str = option(
        "none",
        "what to do with sentences longer than tokens_per_sample before blocks are cut: leave them, cut their ends, or "
        "take a piece at random, another in each epoch",
        choices=("none", "truncate", "random_crop"),
    )
    shorten_data_split_list: str = option("", "splits to shorten, joined by commas ('train,valid'); empty: all of them")
    pad_to_fixed_length: bool = option(False, "pad every batch to tokens_per_sample (for compilers)")
    pad_to_fixed_bsz: bool = option(
        False, "fill every batch with padding up to dataset.batch_size rows (for compilers)"
    )
    seed: int = option(1, "of random_crop", follows="common.seed")
    batch_size: int | None = option(None, "rows of a batch, for pad_to_fixed_bsz", follows="dataset.batch_size")
    batch_size_valid: int | None = option(
        None, "rows of a validation batch, for pad_to_fixed_bsz", follows="dataset.batch_size_valid"
    )
    train_subset: str = option("train", "the split to train on", follows="dataset.train_subset")
    dataset_impl: str | None = option(
        None,
        "format of the data; unset: recognised from the files",
        choices=("raw", "lazy", "cached", "mmap", "fasta", "huffman"),
        follows="dataset.dataset_impl",
    )
    data_buffer_size: int = option(10, "batches read ahead", follows="dataset.data_buffer_size")
    tpu: bool = option(False, "run on a TPU", follows="common.tpu", refused=_NO_TPU)
    use_plasma_view: bool = option(
        False, "keep indices in a plasma store", follows="common.use_plasma_view", refused=_NO_PLASMA
    )
    plasma_path: str | None = option(
        "/tmp/plasma", "socket of the plasma store", follows="common.plasma_path", refused=_NO_PLASMA
    )


@register_task("language_modeling", config=LanguageModelingConfig)
class LanguageModeling(Task):
    """Train, measure and continue texts with a language model.

    Args:
        config: the section `task`.
        dictionary: of the text.
    """

    config: LanguageModelingConfig

    def __init__(self, config: LanguageModelingConfig, dictionary: Dictionary) -> None:
        super().__init__(config)
        size = config.output_dictionary_size
        self._dictionary = dictionary
        self._output_dictionary = dictionary if size < 0 else dictionary.first(size)
        chosen = {"self": config.self_target, "future": config.future_target, "past": config.past_target}
        self.targets = tuple(target for target, wanted in chosen.items() if wanted) or ("future",)

    @classmethod
    def build(cls, config: LanguageModelingConfig) -> LanguageModeling:
        """Read the dictionary and make the task.

        Raises:
            ConfigError: no data folder given.
            DataError: a shard or the dictionary is missing, or the shards' dictionaries differ.
        """
        dictionary = load_shared_dictionary(_folders(config))
        size = config.output_dictionary_size
        if 0 <= size < dictionary.nspecial:
            raise ConfigError(
                f"task.output_dictionary_size={size} leaves no word to predict; the special symbols alone are "
                f"{dictionary.nspecial}. Raise it, or set -1 for all {len(dictionary)} symbols"
            )
        logger.info("dictionary: %d symbols", len(dictionary))
        return cls(config, dictionary)

    @property
    def source_dictionary(self) -> Dictionary:
        return self._dictionary

    @property
    def target_dictionary(self) -> Dictionary:
        """The dictionary of what is predicted; smaller with `output_dictionary_size`."""
        return self._output_dictionary

    def has_sharded_data(self, split: str) -> bool:
        """Whether `split` is read from another folder in each epoch."""
        return split == self.config.train_subset and len(_folders(self.config)) > 1

    def build_model(self, config: Config) -> Model:
        """Build a language model for the dictionary.

        Raises:
            ConfigError: the model is none, cannot predict what is asked for, or has fewer positions than blocks have.
        """
        model = super().build_model(config)
        if not isinstance(model, LanguageModel):
            raise ConfigError(
                f"model={config._name} is not a language model; task=language_modeling needs one, e.g. "
                "model=transformer_lm"
            )
        unsupported = [target for target in self.targets if target not in model.supported_targets]
        if unsupported:
            raise ConfigError(
                f"model={config._name} cannot be trained with task.{unsupported[0]}_target=true: it predicts "
                f"{' and '.join(sorted(model.supported_targets))} tokens"
            )
        longest = model.max_positions()
        if self.config.sample_break_mode != "eos" and self.config.tokens_per_sample > longest:
            raise ConfigError(
                f"task.tokens_per_sample={self.config.tokens_per_sample} is more than the {longest} positions of the "
                "model; lower it, or train a model with a larger task.max_target_positions"
            )
        return model

    def data_folders(self) -> list[Path]:
        return _folders(self.config)

    def load_dataset(self, split: str, *, epoch: int = 1, combine: bool = False) -> MonolingualDataset:
        """Load a split from the folder whose turn it is in `epoch`.

        Raises:
            DataError: files are missing, damaged or empty.
        """
        config = self.config
        folders = _folders(config)
        if split == config.train_subset:
            # A shard that is missing shall stop training before the first epoch, not hours later before its own.
            for folder in folders:
                if not has_text(folder, split, config.dataset_impl):
                    raise missing_split(folder, split)
        folder = folders[(epoch - 1) % len(folders)]
        rows = open_text(folder, split, self.source_dictionary, combine=combine, dataset_impl=config.dataset_impl)
        rows = self._shortened(rows, split)
        blocks = TokenBlockDataset(
            rows,
            rows.sizes,
            config.tokens_per_sample,
            pad=self.source_dictionary.pad(),
            eos=self.source_dictionary.eos(),
            break_mode=config.sample_break_mode,
        )
        if not len(blocks):
            raise DataError(
                f"the split {split!r} in {folder} gives no block of text with "
                f"task.sample_break_mode={config.sample_break_mode}: it has {int(rows.sizes.sum())} tokens"
            )
        rows_of_batch = config.batch_size_valid if "valid" in split else config.batch_size
        dataset = MonolingualDataset(
            blocks,
            self.source_dictionary,
            self.target_dictionary,
            targets=self.targets,
            add_eos_for_other_targets=config.sample_break_mode != "none",
            shuffle=True,
            add_bos_token=config.add_bos_token,
            fixed_pad_length=config.tokens_per_sample if config.pad_to_fixed_length else None,
            pad_to_bsz=rows_of_batch if config.pad_to_fixed_bsz else None,
        )
        self.datasets[split] = dataset
        return dataset

    def build_dataset_for_inference(
        self, src_tokens: Sequence[Tensor], src_lengths: Sequence[int], constraints: Sequence[Tensor] | None = None
    ) -> PromptDataset:
        """A dataset of beginnings of texts, in the order given.

        Args:
            src_tokens: token rows; an EOS at their end is taken away.
            src_lengths: their lengths.
            constraints: must be None: there is nothing to choose words by but the text itself.
        """
        if constraints is not None:
            raise ConfigError("generation.constraints cannot be used with a language model; leave it out")
        return PromptDataset(src_tokens, np.asarray(src_lengths), self.source_dictionary, begin=self.begin_symbol)

    def generation_start(self, sample: Any) -> tuple[Tensor, int]:
        """The text itself, which is then continued, without the symbol before it; and that symbol."""
        tokens = sample["net_input"]["src_tokens"]
        pad = self.source_dictionary.pad()
        moved = torch.cat((tokens[:, 1:], tokens.new_full((len(tokens), 1), pad)), dim=1)
        begins = tokens[:, :1].eq(self.begin_symbol)
        prefix = torch.where(begins, moved, tokens)
        return (prefix[:, :-1] if bool(begins.all()) else prefix), self.begin_symbol

    @property
    def begin_symbol(self) -> int:
        """What stands before the first token of a text."""
        dictionary = self.source_dictionary
        return dictionary.bos() if self.config.add_bos_token else dictionary.eos()

    def _shortened(self, rows: SizedTokenRows, split: str) -> SizedTokenRows:
        config = self.config
        splits = [name.strip() for name in config.shorten_data_split_list.split(",") if name.strip()]
        if splits and split not in splits:
            return rows
        if config.shorten_method == "truncate":
            return TruncateDataset(rows, config.tokens_per_sample)
        if config.shorten_method == "random_crop":
            return RandomCropDataset(rows, config.tokens_per_sample, config.seed)
        return rows


def _folders(config: LanguageModelingConfig) -> list[Path]:
    folders = [Path(part) for part in (config.data or "").split(os.pathsep) if part]
    if not folders:
        raise ConfigError("task.data is not given; give the folder that seqkit-preprocess wrote (its --destdir)")
    return folders
