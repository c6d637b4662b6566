"""Which tokens of a text make one word, and how many bytes of text each stands for.

Knows nothing of scores or models. Axes: N tokens in the order of the text.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.base import TextEncoder
from seqkit.errors import ConfigError, did_you_mean

_MARKS_OF_CONTINUATION = {"subword_nmt": "@@", "@@ ": "@@", "@@": "@@"}
_MARKS_OF_BEGINNING = {"sentencepiece": "\u2581", "wordpiece": "_"}
_MARKS_OF_END = {"_EOW": "_EOW"}
_NAMES = ("none", *_MARKS_OF_CONTINUATION, *_MARKS_OF_BEGINNING, *_MARKS_OF_END)
_AS_POST_PROCESS = {
    "subword_nmt": "subword_nmt",
    "fastbpe": "subword_nmt",
    "sentencepiece": "sentencepiece",
    "characters": "sentencepiece",
}
"""How the pieces of a subword encoder are marked."""
SPELLED_OUT = ("code_points",)
"""Subword encoders whose pieces stand for their own text, whatever is beside them: only they know it."""

Tokens = NDArray[np.int64]
Flags = NDArray[np.bool_]


class WordSpelling:
    """Words and bytes of text over the symbols of a dictionary.

    The bytes are those of the text in UTF-8: words with one space between them, and a line end for each EOS.

    Args:
        dictionary: of the text.
        post_process: how subwords are marked: those of a word are then taken together. None leaves every token a word.
        bpe_name: the subword encoder that made the text, by its registered name; counts for bytes alone, where
            `post_process` does not say how subwords are marked.
        bpe: that encoder.

    Attributes:
        knows_bytes: whether the bytes of symbols are known.

    Raises:
        ConfigError: subwords cannot be joined in that way.
    """

    def __init__(
        self,
        dictionary: Dictionary,
        post_process: str | None,
        *,
        bpe_name: str | None = None,
        bpe: TextEncoder | None = None,
    ) -> None:
        if post_process is not None and post_process not in _NAMES:
            hint = did_you_mean(post_process, _NAMES) or f"; there are: {', '.join(map(repr, _NAMES))}"
            raise ConfigError(
                f"common_eval.post_process={post_process!r} does not say which subwords make a word{hint}"
            )
        joining = None if post_process == "none" else post_process
        self._symbols = list(dictionary.symbols)
        self._special: Flags = np.zeros(len(self._symbols), dtype=np.bool_)
        self._special[[dictionary.bos(), dictionary.pad(), dictionary.eos()]] = True
        self._unknown = dictionary.unk()
        self._open_left, self._open_right = self._openings(joining)
        self._marking = joining
        by_itself = bpe is not None and bpe_name in SPELLED_OUT
        spelling = joining or (None if bpe_name is None else _AS_POST_PROCESS.get(bpe_name))
        self.knows_bytes = by_itself or bpe_name is None or spelling is not None
        if by_itself:
            assert bpe is not None
            texts = [bpe.decode(symbol) for symbol in self._symbols]
            self._gap: Flags = np.zeros(len(texts), dtype=np.bool_)
            self._closes_gap = self._gap
        else:
            texts, self._gap, self._closes_gap = self._texts(spelling)
        self._bytes: Tokens = np.array([len(text.encode()) for text in texts], dtype=np.int64)
        self._bytes[self._special] = 0
        self._bytes[dictionary.eos()] = 1

    def joined(self, tokens: Tokens) -> Flags:
        """(N - 1,) whether each of `tokens` (N,) is of one word with the next."""
        result: Flags = self._open_right[tokens[:-1]] & self._open_left[tokens[1:]]
        return result

    def is_unknown(self, tokens: Tokens) -> Flags:
        """(N,) whether tokens stand for words that are not in the dictionary, so that their text is not known."""
        result: Flags = tokens == self._unknown
        return result

    def bytes_of(self, tokens: Tokens, before: Tokens) -> Tokens:
        """(N,) bytes that each token adds to the text.

        Args:
            tokens: (N,).
            before: (N,) the token before each; EOS at the beginning of a line. It may be of a larger dictionary that
                begins as this one does.
        """
        before = np.where(before < len(self._symbols), before, self._unknown)
        gap = self._gap[tokens] & ~self._closes_gap[before] & ~self._special[before]
        return self._bytes[tokens] + gap

    def word(self, tokens: list[int]) -> str:
        """The text of the tokens of one word; the mark of one that was broken off stays."""
        pieces = [self._symbols[token] for token in tokens]
        mark = _MARKS_OF_CONTINUATION.get(self._marking or "")
        if mark is not None:
            return "".join([piece.removesuffix(mark) for piece in pieces[:-1]] + pieces[-1:])
        word = "".join(pieces)
        begin, end = _MARKS_OF_BEGINNING.get(self._marking or ""), _MARKS_OF_END.get(self._marking or "")
        if begin is not None and word != begin:
            word = word.removeprefix(begin)
        return word if end is None else word.removesuffix(end)

    def _openings(self, marking: str | None) -> tuple[Flags, Flags]:
        """Of each symbol, whether it may be of one word with the token before it, and with that behind it."""
        count = len(self._symbols)
        if marking is None:
            return np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.bool_)
        if marking in _MARKS_OF_CONTINUATION:
            # EOS too is joined to what is continued, as in fairseq.
            return np.ones(count, dtype=np.bool_), self._ends_with(_MARKS_OF_CONTINUATION[marking])
        if marking in _MARKS_OF_BEGINNING:
            return ~self._special & ~self._begins_with(_MARKS_OF_BEGINNING[marking]), ~self._special
        return ~self._special, ~self._special & ~self._ends_with(_MARKS_OF_END[marking])

    def _texts(self, marking: str | None) -> tuple[list[str], Flags, Flags]:
        """The text of each symbol, whether a space comes before it, and whether none comes behind it."""
        nowhere = np.zeros(len(self._symbols), dtype=np.bool_)
        if marking in _MARKS_OF_BEGINNING:
            mark = _MARKS_OF_BEGINNING[str(marking)]
            texts = [symbol.removeprefix(mark).replace(mark, " ") for symbol in self._symbols]
            return texts, self._begins_with(mark), nowhere
        if marking in _MARKS_OF_END:
            mark = _MARKS_OF_END[str(marking)]
            return [symbol.removesuffix(mark) for symbol in self._symbols], ~self._special, ~self._ends_with(mark)
        if marking is None:
            return self._symbols, ~self._special, nowhere
        mark = _MARKS_OF_CONTINUATION[marking]
        return [symbol.removesuffix(mark) for symbol in self._symbols], ~self._special, self._ends_with(mark)

    def _begins_with(self, mark: str) -> Flags:
        return np.array([symbol.startswith(mark) for symbol in self._symbols], dtype=np.bool_)

    def _ends_with(self, mark: str) -> Flags:
        return np.array([symbol.endswith(mark) for symbol in self._symbols], dtype=np.bool_)
