"""`LanguagePairDataset`: sentence pairs for translation, and how they are joined into a batch.

Knows nothing of files, of batch sizes, or of models. Axes: B batch, S source length, T target length.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from typing_extensions import NotRequired

from seqkit.data.batch_by_size import batch_by_bucket
from seqkit.data.bucket_pad_length_dataset import BucketPadLengthDataset
from seqkit.data.collate import collate_tokens
from seqkit.data.dictionary import Dictionary
from seqkit.data.length_order import order_by_lengths
from seqkit.data.sequence_dataset import Indices, SequenceDataset, Sizes, TokenRows, longest_side
from seqkit.errors import DataError

logger = logging.getLogger(__name__)


class PairItem(TypedDict):
    """One sentence pair: token rows that end in EOS, and what belongs to the pair."""

    id: int
    source: Tensor
    target: Tensor | None
    alignment: NotRequired[Tensor]
    constraints: NotRequired[Tensor]


class LanguagePairDataset(SequenceDataset):
    """Pairs of a source and (where there is one) a target sentence.

    A batch is sorted by source length, longest first. Its `prev_output_tokens` are the target moved right by one with
    `eos` in front.

    Args:
        src: source token rows; each ends in EOS.
        src_sizes: (n,) their lengths.
        src_dict: source dictionary.
        tgt: target token rows; None to translate without references.
        tgt_sizes: (n,) their lengths.
        tgt_dict: target dictionary; its special symbols must have the ids they have in `src_dict`.
        left_pad_source: pad sources on the left.
        left_pad_target: pad targets on the left.
        shuffle: `ordered_indices` breaks ties between equal lengths at random.
        input_feeding: make `prev_output_tokens`.
        remove_eos_from_source: take EOS from the end of sources. (As in fairseq, such a source gets no BOS.)
        append_eos_to_target: add EOS to targets that lack it. (As in fairseq, a target that gets BOS gets no EOS.)
        align_dataset: word alignments, one flat row `source target source target …` per pair.
        constraints: packed constraint rows, one per pair (see `seqkit.generation`).
        append_bos: put BOS before sources and targets that lack it.
        eos: what stands first in `prev_output_tokens`; EOS of `src_dict` for None.
        num_buckets: above 0, pad sentences so that at most so many lengths occur.
        src_lang_id: id handed to the model as `net_input.src_lang_id` (B, 1).
        tgt_lang_id: id added to the batch as `tgt_lang_id` (B, 1).
        pad_to_multiple: batches' lengths are multiples of this.

    Raises:
        DataError: source and target differ in number, or the dictionaries disagree.
    """

    def __init__(
        self,
        src: TokenRows,
        src_sizes: Sizes | Sequence[int],
        src_dict: Dictionary,
        tgt: TokenRows | None = None,
        tgt_sizes: Sizes | Sequence[int] | None = None,
        tgt_dict: Dictionary | None = None,
        left_pad_source: bool = True,
        left_pad_target: bool = False,
        shuffle: bool = True,
        input_feeding: bool = True,
        remove_eos_from_source: bool = False,
        append_eos_to_target: bool = False,
        align_dataset: TokenRows | None = None,
        constraints: Sequence[Tensor] | None = None,
        append_bos: bool = False,
        eos: int | None = None,
        num_buckets: int = 0,
        src_lang_id: int | None = None,
        tgt_lang_id: int | None = None,
        pad_to_multiple: int = 1,
    ) -> None:
        if tgt_dict is not None:
            check_same_special_symbols(src_dict, tgt_dict)
        if tgt is not None and len(src) != len(tgt):
            raise DataError(
                f"there are {len(src)} source sentences but {len(tgt)} target sentences; they must be pairs"
            )
        if align_dataset is not None and tgt is None:
            raise DataError("word alignments need target sentences")
        self.src = src
        self.tgt = tgt
        self.src_sizes = np.asarray(src_sizes)
        self.tgt_sizes = None if tgt_sizes is None else np.asarray(tgt_sizes)
        self.src_dict = src_dict
        self.tgt_dict = tgt_dict
        self.left_pad_source = left_pad_source
        self.left_pad_target = left_pad_target
        self.shuffle = shuffle
        self.input_feeding = input_feeding
        self.remove_eos_from_source = remove_eos_from_source
        self.append_eos_to_target = append_eos_to_target
        self.align_dataset = align_dataset
        self.constraints = constraints
        self.append_bos = append_bos
        self.eos = src_dict.eos() if eos is None else eos
        self.num_buckets = num_buckets
        self.has_fixed_shapes = num_buckets > 0
        self.src_lang_id = src_lang_id
        self.tgt_lang_id = tgt_lang_id
        self.pad_to_multiple = pad_to_multiple
        if num_buckets > 0:
            self._pad_to_buckets()

    def _pad_to_buckets(self) -> None:
        pad = self.src_dict.pad()
        source = BucketPadLengthDataset(self.src, self.src_sizes, self.num_buckets, pad, self.left_pad_source)
        self.src, self.src_sizes = source, source.sizes
        logger.info("source lengths are padded to %s", source.buckets.tolist())
        if self.tgt is not None and self.tgt_sizes is not None:
            target = BucketPadLengthDataset(self.tgt, self.tgt_sizes, self.num_buckets, pad, self.left_pad_target)
            self.tgt, self.tgt_sizes = target, target.sizes
            logger.info("target lengths are padded to %s", target.buckets.tolist())

    def __len__(self) -> int:
        return len(self.src)

    def __getitem__(self, index: int) -> PairItem:
        source = original = self.src[index]
        target = original_target = None if self.tgt is None else self.tgt[index]
        if self.append_eos_to_target and target is not None:
            target = _with_last(target, (self.tgt_dict or self.src_dict).eos())
        if self.append_bos:
            source = _with_first(source, self.src_dict.bos())
            bos = (self.tgt_dict or self.src_dict).bos()
            if original_target is not None and original_target[:1].tolist() != [bos]:
                target = _with_first(original_target, bos)
        if self.remove_eos_from_source and len(original) and int(original[-1]) == self.src_dict.eos():
            source = original[:-1]
        item = PairItem(id=index, source=source, target=target)
        if self.align_dataset is not None:
            item["alignment"] = self.align_dataset[index]
        if self.constraints is not None:
            item["constraints"] = self.constraints[index]
        return item

    def collater(self, samples: Sequence[PairItem], pad_to_length: dict[str, int] | None = None) -> Any:
        """Join pairs into one `Sample`.

        Args:
            samples: items of this dataset.
            pad_to_length: least lengths under `"source"` and `"target"`.

        Returns:
            The batch, its rows sorted by source length; `{}` for no items. `src_tokens` (B, S), `target` and
            `prev_output_tokens` (B, T). With alignments, `alignments` (N, 2) are pairs of places in the flattened batch
            (source place within its row, target place in B·T) and `align_weights` (N,) one over how often the target
            place occurs.
        """
        if not samples:
            return {}
        pad = self.src_dict.pad()
        least = pad_to_length or {}

        src_tokens = collate_tokens(
            [item["source"] for item in samples],
            pad,
            left_pad=self.left_pad_source,
            pad_to_length=least.get("source"),
            pad_to_multiple=self.pad_to_multiple,
        )
        # fairseq's sort is not a stable one; the same call keeps the same order between sentences of equal length.
        src_lengths, order = src_tokens.ne(pad).sum(dim=1).sort(descending=True)
        net_input: dict[str, Tensor] = {"src_tokens": src_tokens[order], "src_lengths": src_lengths}
        batch: dict[str, Any] = {
            "id": torch.tensor([item["id"] for item in samples])[order],
            "nsentences": len(samples),
            "ntokens": 0,
            "net_input": net_input,
            "target": None,
        }

        targets = [item["target"] for item in samples if item["target"] is not None]
        if targets:

            def target_rows(move_eos_to_beginning: bool) -> Tensor:
                rows = collate_tokens(
                    targets,
                    pad,
                    self.eos,
                    left_pad=self.left_pad_target,
                    move_eos_to_beginning=move_eos_to_beginning,
                    pad_to_length=least.get("target"),
                    pad_to_multiple=self.pad_to_multiple,
                )
                return rows[order]

            batch["target"] = target_rows(False)
            batch["ntokens"] = int(batch["target"].ne(pad).sum())
            if self.input_feeding:
                net_input["prev_output_tokens"] = target_rows(True)
        else:
            batch["ntokens"] = int(src_lengths.sum())

        if self.align_dataset is not None:
            self._add_alignments(batch, [samples[row]["alignment"] for row in order.tolist()])
        if self.constraints is not None:
            rows = [item["constraints"].long() for item in samples]
            batch["constraints"] = collate_tokens(rows, pad_idx=0)[order]
        if self.src_lang_id is not None:
            net_input["src_lang_id"] = torch.full((len(samples), 1), self.src_lang_id)
        if self.tgt_lang_id is not None:
            batch["tgt_lang_id"] = torch.full((len(samples), 1), self.tgt_lang_id)
        return batch

    def _add_alignments(self, batch: dict[str, Any], alignments: Sequence[Tensor]) -> None:
        """Add the alignments of a batch's rows, moved to where the sentences stand in the padded matrices."""
        pad = self.src_dict.pad()
        source_width = batch["net_input"]["src_tokens"].shape[1]
        target_width = batch["target"].shape[1]
        source_lengths = batch["net_input"]["src_lengths"].tolist()
        target_lengths = batch["target"].ne(pad).sum(dim=1).tolist()
        moved = []
        for row, (flat, source_length, target_length) in enumerate(
            zip(alignments, source_lengths, target_lengths, strict=True)
        ):
            pairs = flat.view(-1, 2).long()
            if len(pairs) == 0:
                continue
            # The last place of either side is EOS, which nothing is aligned to.
            if int(pairs[:, 0].max()) >= source_length - 1 or int(pairs[:, 1].max()) >= target_length - 1:
                logger.warning(
                    "the alignment of sentence %d points beyond its words and is left out", int(batch["id"][row])
                )
                continue
            source_offset = source_width - source_length if self.left_pad_source else 0
            target_offset = row * target_width + (target_width - target_length if self.left_pad_target else 0)
            moved.append(pairs + torch.tensor([source_offset, target_offset]))
        if moved:
            pairs = torch.cat(moved)
            _, which, counts = torch.unique(pairs[:, 1], return_inverse=True, return_counts=True)
            batch["alignments"] = pairs
            batch["align_weights"] = 1.0 / counts[which].float()

    @property
    def sizes(self) -> Sizes:
        """(n, 2) lengths of source and target; (n,) without targets."""
        return self.src_sizes if self.tgt_sizes is None else np.stack([self.src_sizes, self.tgt_sizes], axis=1)

    def side_sizes(self) -> list[Sizes]:
        return [self.src_sizes] if self.tgt_sizes is None else [self.src_sizes, self.tgt_sizes]

    def size(self, index: int) -> tuple[int, ...]:
        """Lengths of source and target (0 without targets)."""
        return int(self.src_sizes[index]), 0 if self.tgt_sizes is None else int(self.tgt_sizes[index])

    def num_tokens(self, index: int) -> int:
        return max(self.size(index))

    def ordered_indices(self, rng: np.random.RandomState | None = None) -> Indices:
        """Pairs by source length, then target length, then (with `shuffle`) at random.

        With buckets, they are ordered by padded length.
        """
        if self.shuffle and rng is not None:
            indices = rng.permutation(len(self)).astype(np.int64, copy=False)
        else:
            indices = np.arange(len(self), dtype=np.int64)
        sides = self.side_sizes()
        return order_by_lengths(indices, [longest_side(sides)] if self.num_buckets > 0 else sides)

    def batch_by_size(
        self,
        indices: Indices,
        *,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        required_batch_size_multiple: int = 1,
    ) -> list[Indices]:
        if self.num_buckets > 0:
            return batch_by_bucket(
                indices, self.num_tokens_vec(indices), max_tokens, max_sentences, required_batch_size_multiple
            )
        return super().batch_by_size(
            indices,
            max_tokens=max_tokens,
            max_sentences=max_sentences,
            required_batch_size_multiple=required_batch_size_multiple,
        )


def check_same_special_symbols(source: Dictionary, target: Dictionary) -> None:
    """Make sure that padding, EOS and unknown have the same ids on both sides.

    Raises:
        DataError: they have not; the message gives the ids.
    """
    ids = {
        name: (one, other)
        for name, one, other in (
            ("padding", source.pad(), target.pad()),
            ("end of sentence", source.eos(), target.eos()),
            ("unknown", source.unk(), target.unk()),
        )
        if one != other
    }
    if ids:
        told = ", ".join(f"{name} {one} and {other}" for name, (one, other) in ids.items())
        raise DataError(
            f"the source and the target dictionary give special symbols different ids ({told}); "
            "make both with seqkit-preprocess"
        )


def _with_first(row: Tensor, token: int) -> Tensor:
    if len(row) and int(row[0]) == token:
        return row
    return torch.cat([row.new_full((1,), token), row])


def _with_last(row: Tensor, token: int) -> Tensor:
    if len(row) and int(row[-1]) == token:
        return row
    return torch.cat([row, row.new_full((1,), token)])
