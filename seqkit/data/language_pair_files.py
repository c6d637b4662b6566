"""Finding and opening the files of a parallel corpus: `<split>.<src>-<tgt>.<lang>` and `dict.<lang>.txt`.

Knows nothing of tasks, batches or models.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from seqkit.data.append_token_dataset import AppendTokenDataset
from seqkit.data.concat_dataset import ConcatDataset
from seqkit.data.dictionary import Dictionary
from seqkit.data.indexed_dataset import dataset_exists, open_dataset
from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.data.sequence_dataset import SizedTokenRows
from seqkit.data.strip_token_dataset import StripTokenDataset
from seqkit.data.truncate_dataset import TruncateDataset
from seqkit.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)

_PAIR_FILE = re.compile(
    r"(?P<split>[^.]+)\.(?P<source>[^.-]+)-(?P<target>[^.-]+)\.((?P=source)|(?P=target))(\.(idx|bin))?"
)


def check_data_folder(folder: Path) -> None:
    """Make sure that a data folder is there.

    Raises:
        DataError: it is not; the message names it.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"task.data={folder} {what}; give the folder that seqkit-preprocess wrote (its --destdir)")


def infer_language_pair(folder: Path, source: str | None = None, target: str | None = None) -> tuple[str, str]:
    """The two languages of a data folder, from the names of its files (`train.de-en.de.idx`).

    Args:
        folder: where the data are.
        source: the source language, if it is known.
        target: the target language, if it is known.

    Raises:
        DataError: no files of pairs, several pairs, or none with the language given.
    """
    check_data_folder(folder)
    found = {
        (match["source"], match["target"])
        for path in folder.iterdir()
        if (match := _PAIR_FILE.fullmatch(path.name)) is not None
    }
    forwards = {pair for pair in found if source in (None, pair[0]) and target in (None, pair[1])}
    backwards = {(b, a) for a, b in found if source in (None, b) and target in (None, a)}
    fitting = forwards or backwards
    if len(fitting) == 1:
        return fitting.pop()
    given = ", ".join(f"task.{side}_lang={lang}" for side, lang in (("source", source), ("target", target)) if lang)
    pairs = ", ".join("-".join(pair) for pair in sorted(found))
    if not fitting:
        there = (
            f"has files of {pairs}"
            if pairs
            else f"has no files named like train.de-en.de.idx, but {list_folder(folder)}"
        )
        raise DataError(
            f"the languages cannot be told from {folder}{f' with {given}' if given else ''}: it {there}; "
            "give task.source_lang and task.target_lang"
        )
    raise DataError(
        f"{folder} has files of several language pairs ({pairs}); give task.source_lang and task.target_lang"
    )


def load_dictionary(folder: Path, language: str) -> Dictionary:
    """Read `dict.<language>.txt`.

    Raises:
        DataError: the folder or the file is missing (the message says which dictionaries there are), or damaged.
    """
    check_data_folder(folder)
    path = folder / f"dict.{language}.txt"
    if not path.is_file():
        there = [match[1] for file in folder.iterdir() if (match := re.fullmatch(r"dict\.(.+)\.txt", file.name))]
        have = f"dictionaries there are for: {', '.join(sorted(there))}" if there else "there is no dictionary in it"
        raise DataError(f"{path} is missing; {have}{did_you_mean(language, there)}")
    return Dictionary.load(path)


def load_language_pair(
    folder: Path,
    split: str,
    source: str,
    target: str,
    source_dictionary: Dictionary,
    target_dictionary: Dictionary,
    *,
    combine: bool = False,
    dataset_impl: str | None = None,
    upsample_primary: int = -1,
    truncate_source_to: int | None = None,
    load_alignments: bool = False,
    **settings: Any,
) -> LanguagePairDataset:
    """Open one split of a parallel corpus.

    Files made for the pair `target`-`source` serve as well. A target that is missing gives a dataset without targets.

    Args:
        folder: where the files are.
        split: `"train"`, `"valid"`, …
        source, target: languages.
        source_dictionary, target_dictionary: their dictionaries.
        combine: also open `split1`, `split2`, … as far as they go, and put them behind `split`.
        dataset_impl: format of the files; None recognises it.
        upsample_primary: with `combine`, how often `split` itself is counted (0 or less: once).
        truncate_source_to: cut sources to this many tokens, EOS among them.
        load_alignments: also open word alignments, where the split has them.
        settings: further keyword arguments of `LanguagePairDataset`.

    Raises:
        DataError: missing files (the message says what was looked for and what is there), or files that do not fit.
    """
    check_data_folder(folder)
    sources: list[SizedTokenRows] = []
    targets: list[SizedTokenRows] = []
    alignments: list[SizedTokenRows] = []
    names: list[str] = []
    for number in count():
        name = f"{split}{number or ''}"
        prefix = _pair_prefix(folder, name, source, target, dataset_impl)
        if prefix is None:
            break
        names.append(name)
        rows: SizedTokenRows = open_dataset(f"{prefix}.{source}", dataset_impl, source_dictionary)
        sources.append(rows if truncate_source_to is None else _truncated(rows, truncate_source_to, source_dictionary))
        if dataset_exists(f"{prefix}.{target}", dataset_impl):
            targets.append(open_dataset(f"{prefix}.{target}", dataset_impl, target_dictionary))
        align_prefix = folder / f"{name}.align.{source}-{target}"
        # alignments are numbers, so that beside raw text they are in a binary format all the same
        align_impl = None if dataset_impl == "raw" else dataset_impl
        if load_alignments and dataset_exists(align_prefix, align_impl):
            alignments.append(open_dataset(align_prefix, align_impl))
        logger.info("%s %s %s-%s: %d sentences", folder, name, source, target, len(sources[-1]))
        if not combine:
            break
    if not names:
        raise _missing_split(folder, split, source, target)
    for what, parts in ((f"{target} sentences", targets), ("word alignments", alignments)):
        if parts and len(parts) != len(names):
            raise DataError(f"of the splits {', '.join(names)} in {folder}, only some have {what}; all or none must")
    if load_alignments and not alignments:
        logger.warning("%s has no word alignments (%s.align.%s-%s)", folder, split, source, target)

    repeats = [max(upsample_primary, 1)] + [1] * (len(names) - 1)
    source_rows = _joined(sources, repeats)
    target_rows = _joined(targets, repeats) if targets else None
    align_rows = _joined(alignments, repeats) if alignments else None
    for what, other in (("target sentences", target_rows), ("word alignments", align_rows)):
        if other is not None and len(other) != len(source_rows):
            raise DataError(
                f"{', '.join(names)} in {folder} has {len(source_rows)} source sentences but {len(other)} {what}; "
                "run seqkit-preprocess again on files of equally many lines"
            )
    return LanguagePairDataset(
        source_rows,
        source_rows.sizes,
        source_dictionary,
        target_rows,
        None if target_rows is None else target_rows.sizes,
        target_dictionary,
        align_dataset=align_rows,
        **settings,
    )


def _pair_prefix(folder: Path, split: str, source: str, target: str, dataset_impl: str | None) -> Path | None:
    for pair in (f"{source}-{target}", f"{target}-{source}"):
        prefix = folder / f"{split}.{pair}"
        if dataset_exists(f"{prefix}.{source}", dataset_impl):
            return prefix
    return None


def _truncated(rows: SizedTokenRows, length: int, dictionary: Dictionary) -> SizedTokenRows:
    words = StripTokenDataset(rows, dictionary.eos())
    return AppendTokenDataset(TruncateDataset(words, length - 1), dictionary.eos())


def _joined(parts: Sequence[SizedTokenRows], repeats: Sequence[int]) -> SizedTokenRows:
    return parts[0] if len(parts) == 1 else ConcatDataset(parts, repeats)


def _missing_split(folder: Path, split: str, source: str, target: str) -> DataError:
    splits = sorted(
        {
            match["split"]
            for path in folder.iterdir()
            if (match := _PAIR_FILE.fullmatch(path.name)) and {match["source"], match["target"]} == {source, target}
        }
    )
    there = f"splits of this pair there: {', '.join(splits)}" if splits else f"there is {list_folder(folder)}"
    return DataError(
        f"the split {split!r} of {source}-{target} is not in {folder}: neither {split}.{source}-{target}.{source} nor "
        f"{split}.{target}-{source}.{source} is there (.idx and .bin, or raw text); "
        f"{there}{did_you_mean(split, splits)}"
    )


def list_folder(folder: Path, most: int = 12) -> str:
    """The names of what is in a folder, the first of them, for messages."""
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "nothing in it"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
