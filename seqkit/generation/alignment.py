"""Which source words a hypothesis's words attend to most, and what is done with it.

Knows nothing of models. Axes: T target length, S source length (padded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from seqkit.errors import DataError


def hard_alignment(attention_TS: Tensor, source: Tensor, target: Tensor, pad: int, eos: int) -> list[tuple[int, int]]:
    """For each target word, the source word with the largest weight: (source position, target position) pairs.

    Padding and EOS are neither aligned nor counted.

    Args:
        attention_TS: (T, S) weights.
        source: (S,) source tokens, padded on either side.
        target: (T,) target tokens.
    """
    is_word_S = source.ne(pad) & source.ne(eos)
    is_word_T = target.ne(pad) & target.ne(eos)
    if not bool(is_word_S.any()) or not bool(is_word_T.any()):
        return []
    best = attention_TS[is_word_T][:, is_word_S].argmax(dim=1).tolist()
    return [(source_position, target_position) for target_position, source_position in enumerate(best)]


def soft_alignment(attention_TS: Tensor, source: Tensor, target: Tensor, pad: int) -> list[list[float]]:
    """For each target token, EOS included, its weights on the source tokens, EOS included; padding is left out."""
    weights: list[list[float]] = attention_TS[target.ne(pad)][:, source.ne(pad)].tolist()
    return weights


def most_attended(attention_TS: Tensor, source: Tensor, pad: int) -> list[int]:
    """For each target token, the position of the source token with the largest weight; padding is not counted."""
    positions: list[int] = attention_TS[:, source.ne(pad)].argmax(dim=1).tolist()
    return positions


def replace_unk(
    hypothesis: str, source: str, positions: Sequence[int], dictionary: Mapping[str, str], unk: str = "<unk>"
) -> str:
    """Put source words in the place of unknown words (Jean et al., 2015; Luong et al., 2015).

    Args:
        hypothesis: words joined by spaces.
        source: words joined by spaces; the position behind the last one is written `<eos>`.
        positions: for each word of the hypothesis, a source position.
        dictionary: translations of source words; a word that is not there is copied.
        unk: how an unknown word is written.
    """
    source_words = [*source.split(), "<eos>"]
    words = hypothesis.split()
    for place, word in enumerate(words):
        if word == unk:
            copied = source_words[min(positions[place], len(source_words) - 1)]
            words[place] = dictionary.get(copied, copied)
    return " ".join(words)


def load_replacements(path: str | Path) -> dict[str, str]:
    """Read the two-column file of `generation.replace_unk`: a source word and its translation on each line.

    Raises:
        DataError: the file cannot be read, or a line has no second column.
    """
    translations: dict[str, str] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"generation.replace_unk={path} cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        columns = line.split()
        if not columns:
            continue
        if len(columns) < 2:
            raise DataError(
                f"{path}, line {number}: {line!r} has one column; each line is '<source word> <translation>'"
            )
        translations[columns[0]] = columns[1]
    return translations
