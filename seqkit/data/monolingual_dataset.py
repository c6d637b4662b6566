"""`MonolingualDataset`: blocks of text with what a language model predicts of them, and how they make a batch.

Knows nothing of files, of how blocks were cut, or of models. Axes: B batch, T length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from seqkit.data.collate import collate_tokens
from seqkit.data.dictionary import Dictionary
from seqkit.data.length_order import order_by_lengths
from seqkit.data.sequence_dataset import Indices, SequenceDataset, Sizes
from seqkit.data.token_block_dataset import TokenBlockDataset
from seqkit.errors import DataError

TARGETS = ("self", "future", "past")


class TextItem(TypedDict):
    """One block: the tokens that are read, and what is to be predicted at each (a list for several targets)."""

    id: int
    source: Tensor
    target: Tensor | list[Tensor]


class MonolingualDataset(SequenceDataset):
    """Blocks of text for language modelling.

    At each place the model reads a token and predicts the next one (`"future"`), the one before (`"past"`) or the token
    itself (`"self"`). The first token of a sentence is preceded by EOS.

    Args:
        blocks: where the text comes from.
        src_dict: its dictionary.
        tgt_dict: the dictionary of targets: `src_dict`, or one that only has its first symbols; other targets
            become unknown.
        targets: what is predicted; of several, a batch's `target` is a list.
        add_eos_for_other_targets: with `"self"` or `"past"`, end blocks with EOS, for which there is no future.
        shuffle: `ordered_indices` breaks ties between equal lengths at random.
        add_bos_token: put BOS before what is read and before what is predicted.
        fixed_pad_length: pad every batch to this length.
        pad_to_bsz: fill every batch up to so many rows with padding.

    Raises:
        ValueError: an unknown target.
    """

    def __init__(
        self,
        blocks: TokenBlockDataset,
        src_dict: Dictionary,
        tgt_dict: Dictionary | None = None,
        *,
        targets: Sequence[str] = ("future",),
        add_eos_for_other_targets: bool = False,
        shuffle: bool = False,
        add_bos_token: bool = False,
        fixed_pad_length: int | None = None,
        pad_to_bsz: int | None = None,
    ) -> None:
        unknown = [target for target in targets if target not in TARGETS]
        if unknown or not targets:
            raise ValueError(f"targets={list(targets)} must be some of {', '.join(TARGETS)}")
        self.blocks = blocks
        self.src_dict = src_dict
        self.tgt_dict = src_dict if tgt_dict is None else tgt_dict
        self.targets = tuple(targets)
        self.add_eos_for_other_targets = add_eos_for_other_targets
        self.shuffle = shuffle
        self.add_bos_token = add_bos_token
        self.fixed_pad_length = fixed_pad_length
        self.pad_to_bsz = pad_to_bsz

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def sizes(self) -> Sizes:
        """(n,) lengths of the blocks (without a BOS that is put before them)."""
        return self.blocks.sizes

    def __getitem__(self, index: int) -> TextItem:
        source, future, past = self.blocks[index]
        end = self.src_dict.eos()
        if self.add_eos_for_other_targets and not {"self", "past"}.isdisjoint(self.targets) and int(source[-1]) != end:
            # EOS is read after the last token: its future is nothing, its past that last token.
            past = torch.cat((past.new_tensor([self.src_dict.pad()]), past[1:], source[-1:]))
            future = torch.cat((future, future.new_tensor([self.src_dict.pad()])))
            source = torch.cat((source, source.new_tensor([end])))
        choices = {"self": source, "future": future, "past": past}
        chosen = [self._within_target_dictionary(choices[target]) for target in self.targets]
        if self.add_bos_token:
            source = _with_first(source, self.src_dict.bos())
            chosen = [_with_first(target, self.tgt_dict.bos()) for target in chosen]
        return TextItem(id=index, source=source, target=chosen[0] if len(chosen) == 1 else chosen)

    def collater(self, samples: Sequence[TextItem]) -> Any:
        """Join blocks into one `Sample`: `src_tokens` and `target` (B, T), padded on the right.

        Raises:
            DataError: a token is not in the dictionary.
        """
        if not samples:
            return {}
        sources = [item["source"] for item in samples]
        src_tokens = self._padded(sources, self.src_dict)
        self._check(src_tokens, samples)
        first = samples[0]["target"]
        if isinstance(first, list):
            target: Any = [
                self._padded([item["target"][place] for item in samples], self.tgt_dict) for place in range(len(first))
            ]
        else:
            target = self._padded([item["target"] for item in samples], self.tgt_dict)  # type: ignore[misc]
        return {
            "id": torch.tensor([item["id"] for item in samples]),
            "nsentences": len(samples),
            "ntokens": sum(len(source) for source in sources),
            "net_input": {
                "src_tokens": src_tokens,
                "src_lengths": torch.tensor([len(source) for source in sources]),
            },
            "target": target,
        }

    def ordered_indices(self, rng: np.random.RandomState | None = None) -> Indices:
        """Blocks by length, then (with `shuffle`) at random."""
        items = np.arange(len(self), dtype=np.int64)
        if self.shuffle and rng is not None:
            # Each item has drawn a place among those of its length; here are the items by these places.
            drawn = items.copy()
            drawn[rng.permutation(len(self))] = items
            items = drawn
        return order_by_lengths(items, [self.sizes])

    def set_epoch(self, epoch: int) -> None:
        self.blocks.set_epoch(epoch)

    def _padded(self, rows: Sequence[Tensor], dictionary: Dictionary) -> Tensor:
        return collate_tokens(rows, dictionary.pad(), pad_to_length=self.fixed_pad_length, pad_to_bsz=self.pad_to_bsz)

    def _within_target_dictionary(self, target: Tensor) -> Tensor:
        known = len(self.tgt_dict)
        if known == len(self.src_dict):
            return target
        return target.masked_fill(target >= known, self.tgt_dict.unk())

    def _check(self, tokens: Tensor, samples: Sequence[TextItem]) -> None:
        largest = int(tokens.max())
        if largest >= len(self.src_dict):
            index = next(item["id"] for item in samples if largest in item["source"])
            raise DataError(
                f"block {index} holds the token {largest}, but the dictionary has only {len(self.src_dict)} symbols: "
                "the data were made with another dictionary; use the dict.txt that seqkit-preprocess wrote beside them"
            )


def _with_first(row: Tensor, token: int) -> Tensor:
    return torch.cat((row.new_tensor([token]), row))
