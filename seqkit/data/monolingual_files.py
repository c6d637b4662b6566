"""Finding and opening the files of text in one language: `<split>.idx`, `<split>.bin` and `dict.txt`.

Knows nothing of tasks, blocks or models.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from seqkit.data.concat_dataset import ConcatDataset
from seqkit.data.dictionary import Dictionary
from seqkit.data.indexed_dataset import dataset_exists, open_dataset
from seqkit.data.language_pair_files import check_data_folder, list_folder
from seqkit.data.sequence_dataset import SizedTokenRows
from seqkit.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)

DICTIONARY = "dict.txt"


def load_shared_dictionary(folders: Sequence[Path]) -> Dictionary:
    """Read the `dict.txt` of several shards of one corpus.

    Only the first must have one.

    Raises:
        DataError: a folder, or the first one's dictionary, is missing, or two dictionaries differ.
    """
    for folder in folders:
        check_data_folder(folder)
    first = folders[0] / DICTIONARY
    if not first.is_file():
        raise DataError(
            f"{first} is missing; there is {list_folder(folders[0])}. Give the folder that "
            "seqkit-preprocess --only-source wrote (its --destdir)"
        )
    dictionary = Dictionary.load(first)
    for folder in folders[1:]:
        path = folder / DICTIONARY
        if path.is_file() and Dictionary.load(path) != dictionary:
            raise DataError(
                f"{path} is another dictionary than {first}; all shards of a corpus must be made with one "
                "(seqkit-preprocess --srcdict)"
            )
    return dictionary


def has_text(folder: Path, split: str, dataset_impl: str | None = None) -> bool:
    """Whether `split` is in `folder`."""
    return dataset_exists(folder / split, dataset_impl)


def open_text(
    folder: Path, split: str, dictionary: Dictionary, *, combine: bool = False, dataset_impl: str | None = None
) -> SizedTokenRows:
    """Open one split of a corpus.

    Args:
        folder: where the files are.
        split: `"train"`, `"valid"`, …
        dictionary: of the text; raw text is encoded with it.
        combine: also open `split1`, `split2`, … as far as they go, and put them behind `split`.
        dataset_impl: format of the files; None recognises it.

    Raises:
        DataError: the split is missing (the message says what is there), damaged, or has no text.
    """
    check_data_folder(folder)
    parts: list[SizedTokenRows] = []
    for number in count():
        name = f"{split}{number or ''}"
        if not has_text(folder, name, dataset_impl):
            break
        parts.append(open_dataset(folder / name, dataset_impl, dictionary))
        logger.info("%s: %d sentences of text", folder / name, len(parts[-1]))
        if not combine:
            break
    if not parts:
        raise missing_split(folder, split)
    if not any(part.sizes.any() for part in parts):
        raise DataError(f"the split {split!r} in {folder} is empty: it has no tokens")
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def missing_split(folder: Path, split: str) -> DataError:
    """The error that says that `split` is not in `folder`, and what is."""
    splits = sorted({path.stem for path in folder.glob("*.idx")})
    there = f"splits there: {', '.join(splits)}" if splits else f"there is {list_folder(folder)}"
    return DataError(
        f"the split {split!r} is not in {folder}: neither {split}.idx and {split}.bin nor a raw text file {split} is "
        f"there; {there}{did_you_mean(split, splits)}"
    )
