"""Joining subword pieces back into words, by the name of the segmentation.

Works on strings alone; knows nothing of dictionaries or of the encoders that made the pieces.
"""

from __future__ import annotations

import re

from seqkit.errors import UserError, did_you_mean

POST_PROCESS_NAMES = ("none", "subword_nmt", "@@ ", "@@", "sentencepiece", "wordpiece", "letter", "_EOW", "silence")


def post_process(sentence: str, symbol: str | None) -> str:
    """Undo a subword segmentation.

    Args:
        sentence: pieces joined by single spaces.
        symbol: which segmentation to undo; None or `"none"` leaves the sentence as it is.
            `"subword_nmt"` (the same as `"@@ "`) joins pieces that end in `@@`; `"@@"` only deletes the marks;
            `"sentencepiece"` takes U+2581 as the word boundary, `"wordpiece"` the underscore, `"letter"` the bar,
            `"_EOW"` the piece `_EOW`; `"silence"` deletes `<SIL>`.

    Raises:
        UserError: an unknown symbol.
    """
    if symbol is None or symbol == "none":
        return sentence
    if symbol in ("subword_nmt", "@@ ", "@@"):
        mark = "@@ " if symbol == "subword_nmt" else symbol
        return (sentence + " ").replace(mark, "").rstrip()
    if symbol == "sentencepiece":
        return _rejoin(sentence, "\u2581")
    if symbol == "wordpiece":
        return _rejoin(sentence, "_")
    if symbol == "letter":
        return _rejoin(sentence, "|")
    if symbol == "_EOW":
        return _rejoin(sentence, "_EOW")
    if symbol == "silence":
        return re.sub(" +", " ", sentence.replace("<SIL>", "")).strip()
    hint = did_you_mean(symbol, POST_PROCESS_NAMES) or f"; there are: {', '.join(map(repr, POST_PROCESS_NAMES))}"
    raise UserError(f"unknown post_process symbol {symbol!r}{hint}")


def _rejoin(sentence: str, boundary: str) -> str:
    return sentence.replace(" ", "").replace(boundary, " ").strip()
