"""Files of learnt merges as subword-nmt and fastBPE write them.

Knows nothing of how merges are applied.
"""

from __future__ import annotations

from seqkit.data.encoders._files import model_file, read_text
from seqkit.data.encoders.bpe._merges import Pair
from seqkit.errors import DataError

_HOLDS = "a file of BPE merges (one pair of symbols on each line)"


def read_subword_nmt_codes(path: str) -> tuple[dict[Pair, int], tuple[int, int]]:
    """Ranks of the merges and the format's version.

    The first line may be `#version: 0.2`; without one the version is 0.1, whose words end in a symbol
    of their own (`</w>`) instead of a marked last letter. A pair that is listed twice has its first rank.

    Raises:
        DataError: no such file, or a line that is not a pair; the line's number is named.
    """
    lines, option = _lines(path)
    version = (0, 1)
    first = 1
    if lines and lines[0].startswith("#version:"):
        stated = lines.pop(0).removeprefix("#version:").strip()
        first = 2
        try:
            major, minor = (int(part) for part in stated.split(".")[:2])
        except ValueError:
            raise DataError(f"{option}={path}, line 1: unknown version {stated!r}; known: 0.1, 0.2") from None
        version = (major, minor)
        if version not in ((0, 1), (0, 2)):
            raise DataError(f"{option}={path}, line 1: unknown version {stated!r}; known: 0.1, 0.2")
    ranks: dict[Pair, int] = {}
    for number, line in enumerate(lines, start=first):
        items = line.strip(" ").split(" ")
        if len(items) == 3 and items[2].isdigit():
            raise DataError(
                f"{option}={path}, line {number}: {line!r} is a pair with a count (fastBPE); use bpe=fastbpe"
            )
        if len(items) != 2:
            raise DataError(f"{option}={path}, line {number}: {line!r} is not two symbols with a space between")
        ranks.setdefault((items[0], items[1]), number - first)
    return ranks, version


def read_fastbpe_codes(path: str) -> dict[Pair, int]:
    """Ranks of the merges of a fastBPE file, whose lines are `left right count`.

    Raises:
        DataError: no such file, or a line of another form; the line's number is named.
    """
    lines, option = _lines(path)
    ranks: dict[Pair, int] = {}
    for number, line in enumerate(lines, start=1):
        items = line.split()
        if number == 1 and line.startswith("#version:"):
            raise DataError(f"{option}={path}, line 1: {line!r} begins a subword-nmt file; use bpe=subword_nmt")
        if len(items) != 3 or not items[2].isdigit():
            raise DataError(f"{option}={path}, line {number}: {line!r} is not two symbols and a count")
        ranks.setdefault((items[0], items[1]), number - 1)
    return ranks


def _lines(path: str) -> tuple[list[str], str]:
    option = "bpe.bpe_codes"
    text = read_text(model_file(path, option, _HOLDS), option).rstrip("\n")
    if not text:
        raise DataError(f"{option}={path} is empty; give {_HOLDS}")
    return text.split("\n"), option
