"""Ways of fairseq with the text of language models that seqkit does not have, for comparing recorded figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from seqkit.data.monolingual_dataset import MonolingualDataset
from seqkit.data.random_crop_dataset import RandomCropDataset


@contextlib.contextmanager
def fairseqs_text() -> Iterator[None]:
    """Read text as fairseq does.

    With an output dictionary that is smaller, fairseq makes words unknown in place: what shares its memory with the
    target loses them too. And a random crop is the same in every epoch, as the dataset is not told which it is.
    """
    get = MonolingualDataset.__getitem__

    def get_in_place(self: MonolingualDataset, index: int) -> Any:
        item = get(self, index)
        known = len(self.tgt_dict)
        if known == len(self.src_dict):
            return item
        # Where a block begins with its sentence, its input is a copy; the first word is before the block's own.
        shares = self.blocks._place(index)[1] > 0 and "future" in self.targets
        first = 0 if "self" in self.targets else 1 if shares else len(item["source"])
        first += 1 if self.add_bos_token else 0
        source = item["source"].clone()
        source[first:] = source[first:].masked_fill(source[first:] >= known, self.tgt_dict.unk())
        return {**item, "source": source}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MonolingualDataset, "__getitem__", get_in_place)
        patch.setattr(RandomCropDataset, "set_epoch", lambda *_: None)
        yield
