"""`Dictionary`: the symbols of a vocabulary, their ids and their counts, in fairseq's file format.

Knows nothing of files of text, of batches, or of models.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from seqkit.data.post_process import post_process
from seqkit.data.text_file import read_text
from seqkit.errors import DataError
from seqkit.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

OVERWRITE_FLAG = "#fairseq:overwrite"


class Dictionary:
    """A two-way map between symbols and ids 0, 1, 2, …

    The special symbols come first (`<s>`, `<pad>`, `</s>`, `<unk>`, then `extra_special_symbols`); they have ids and
    no line in the file. Symbols and counts are the public lists `symbols` and `count`, the map is `indices`.

    Args:
        bos, pad, eos, unk: how the special symbols are written.
        extra_special_symbols: further symbols that come before the words.
        add_special_symbols: False makes an empty dictionary whose file holds every symbol, special ones too.
    """

    def __init__(
        self,
        *,
        bos: str = "<s>",
        pad: str = "<pad>",
        eos: str = "</s>",
        unk: str = "<unk>",
        extra_special_symbols: Sequence[str] = (),
        add_special_symbols: bool = True,
    ) -> None:
        self.bos_word, self.pad_word, self.eos_word, self.unk_word = bos, pad, eos, unk
        self.symbols: list[str] = []
        self.count: list[int] = []
        self.indices: dict[str, int] = {}
        self._special_ids: tuple[int, int, int, int] | None = None
        if add_special_symbols:
            self._special_ids = (
                self.add_symbol(bos),
                self.add_symbol(pad),
                self.add_symbol(eos),
                self.add_symbol(unk),
            )
            for symbol in extra_special_symbols:
                self.add_symbol(symbol)
        self.nspecial = len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dictionary) and self.indices == other.indices

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by content

    def __getitem__(self, index: int) -> str:
        """The symbol of an id; the unknown symbol for an id beyond the end."""
        return self.symbols[index] if index < len(self.symbols) else self.unk_word

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self.indices

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} symbols)"

    def get_count(self, index: int) -> int:
        """How often the symbol of this id was counted."""
        return self.count[index]

    def index(self, symbol: str) -> int:
        """The id of a symbol; the id of the unknown symbol for one that is not there."""
        found = self.indices.get(symbol)
        return self.unk() if found is None else found

    def bos(self) -> int:
        """Id of the beginning-of-sentence symbol."""
        return self._special(0)

    def pad(self) -> int:
        """Id of the padding symbol."""
        return self._special(1)

    def eos(self) -> int:
        """Id of the end-of-sentence symbol."""
        return self._special(2)

    def unk(self) -> int:
        """Id of the unknown symbol."""
        return self._special(3)

    @property
    def bos_index(self) -> int:
        """The same as `bos()`."""
        return self.bos()

    @property
    def pad_index(self) -> int:
        """The same as `pad()`."""
        return self.pad()

    @property
    def eos_index(self) -> int:
        """The same as `eos()`."""
        return self.eos()

    @property
    def unk_index(self) -> int:
        """The same as `unk()`."""
        return self.unk()

    def _special(self, which: int) -> int:
        if self._special_ids is not None:
            return self._special_ids[which]
        word = (self.bos_word, self.pad_word, self.eos_word, self.unk_word)[which]
        if word not in self.indices:
            raise DataError(f"the dictionary was made without special symbols and has no {word!r}")
        return self.indices[word]

    def unk_string(self, escape: bool = False) -> str:
        """The unknown symbol as shown to people; `escape` writes `<<unk>>`, which no hypothesis can match."""
        return f"<{self.unk_word}>" if escape else self.unk_word

    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the symbols in their order: equal for dictionaries that give equal ids."""
        return hashlib.sha256("\n".join(self.symbols).encode("utf-8", "surrogatepass")).hexdigest()

    # building

    def add_symbol(self, word: str, n: int = 1, overwrite: bool = False) -> int:
        """Count a symbol `n` times, adding it if it is new.

        Args:
            overwrite: give the symbol a new id at the end even if it has one (the old id keeps its place).

        Returns:
            The symbol's id.
        """
        index = self.indices.get(word)
        if index is not None and not overwrite:
            self.count[index] += n
            return index
        index = len(self.symbols)
        self.indices[word] = index
        self.symbols.append(word)
        self.count.append(n)
        return index

    def update(self, other: Dictionary) -> None:
        """Add the symbols and counts of another dictionary; new symbols go to the end in its order."""
        for word, n in zip(other.symbols, other.count, strict=True):
            self.add_symbol(word, n)

    def finalize(self, threshold: int = -1, nwords: int = -1, padding_factor: int = 8) -> None:
        """Sort the words by count (high to low), then by code points, and cut and pad the vocabulary.

        Args:
            threshold: words counted less often than this are left out.
            nwords: most symbols to keep, the special ones among them; 0 or less keeps all.
            padding_factor: pad the length to a multiple of this with `madeupword0000`, `madeupword0001`, … of count 0;
                0 and 1 add nothing.
        """
        words = sorted(
            zip(self.symbols[self.nspecial :], self.count[self.nspecial :], strict=True),
            key=lambda item: (-item[1], item[0]),
        )
        if nwords > 0:
            words = words[: max(nwords - self.nspecial, 0)]
        words = [item for item in words if item[1] >= threshold]
        self.symbols[self.nspecial :] = [word for word, _ in words]
        self.count[self.nspecial :] = [n for _, n in words]
        self.indices = {word: index for index, word in enumerate(self.symbols)}
        self.pad_to_multiple(padding_factor)

    def pad_to_multiple(self, padding_factor: int) -> None:
        """Add `madeupword0000`, … until the length is a multiple of `padding_factor` (0 and 1 add nothing)."""
        number = 0
        while padding_factor > 1 and len(self) % padding_factor != 0:
            self.add_symbol(f"madeupword{number:04d}", n=0)
            number += 1

    def first(self, size: int) -> Dictionary:
        """A dictionary of the first `size` symbols; all others are unknown to it."""
        result = copy.copy(self)
        result.symbols, result.count = self.symbols[:size], self.count[:size]
        result.indices = {symbol: index for symbol, index in self.indices.items() if index < size}
        return result

    # files

    @classmethod
    def load(cls, path: str | Path | IO[str], **settings: Any) -> Dictionary:
        """Read a dictionary file: one `<symbol> <count>` per line, special symbols left out.

        Args:
            path: a file's path, or an open text file.
            settings: keyword arguments of the constructor.

        Raises:
            DataError: missing file, bad line, invalid UTF-8 or duplicate symbol; the message names the line.
        """
        dictionary = cls(**settings)
        dictionary.add_from_file(path)
        return dictionary

    def add_from_file(self, path: str | Path | IO[str]) -> None:
        """Add the symbols of a dictionary file. See `load`."""
        if isinstance(path, str | Path):
            name, text = str(path), read_text(path)
        else:
            name, text = str(getattr(path, "name", "<stream>")), path.read()
        for number, line in enumerate(text.split("\n")[: None if text and text[-1] != "\n" else -1], start=1):
            word, overwrite, count = self._parse(line, f"{name}, line {number}")
            if word in self.indices and not overwrite:
                raise DataError(
                    f"{name}, line {number}: the symbol {word!r} is already in the dictionary; remove one of the two "
                    f"lines, or end this one with {OVERWRITE_FLAG!r} if it shall replace the earlier symbol"
                )
            self.add_symbol(word, n=count, overwrite=overwrite)

    @staticmethod
    def _parse(line: str, where: str) -> tuple[str, bool, int]:
        word, _, field = line.rstrip().rpartition(" ")
        overwrite = field == OVERWRITE_FLAG
        if overwrite:
            word, _, field = word.rpartition(" ")
        try:
            if not word:
                raise ValueError
            return word, overwrite, int(field)
        except ValueError:
            raise DataError(
                f"{where}: {line!r} is not a dictionary line; each is '<symbol> <count>', "
                f"with {OVERWRITE_FLAG!r} at the end if wanted"
            ) from None

    def save(self, path: str | Path | IO[str]) -> None:
        """Write the dictionary file (one `<symbol> <count>` per line; special symbols are left out).

        Args:
            path: where to write (the folder is made if it is missing), or a text file open for writing.
        """
        if isinstance(path, str | Path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "w", encoding="utf-8", newline="\n") as file:
                file.writelines(self._lines())
        else:
            path.writelines(self._lines())

    def _lines(self) -> Iterable[str]:
        seen = set(self.symbols[: self.nspecial])
        for word, n in zip(self.symbols[self.nspecial :], self.count[self.nspecial :], strict=True):
            yield f"{word} {n} {OVERWRITE_FLAG}\n" if word in seen else f"{word} {n}\n"
            seen.add(word)

    # text to ids and back

    def encode_line(
        self,
        line: str,
        line_tokenizer: Callable[[str], Sequence[str]] = str.split,
        add_if_not_exist: bool = True,
        consumer: Callable[[str, int], object] | None = None,
        append_eos: bool = True,
        reverse_order: bool = False,
    ) -> Tensor:
        """The ids of a line's words.

        Args:
            line: text.
            line_tokenizer: cuts the line into symbols; Unicode whitespace by default.
            add_if_not_exist: add new words to the dictionary instead of making them unknown.
            consumer: called with each word and its id.
            append_eos: end with the end-of-sentence id.
            reverse_order: last word first.

        Returns:
            (words + 1,) int32, or (words,) without `append_eos`.
        """
        import torch

        words = line_tokenizer(line)
        if reverse_order:
            words = list(reversed(words))
        to_index = self.add_symbol if add_if_not_exist else self.index
        ids = [to_index(word) for word in words]
        if consumer is not None:
            for word, index in zip(words, ids, strict=True):
                consumer(word, index)
        if append_eos:
            ids.append(self.eos())
        return torch.tensor(ids, dtype=torch.int32)

    def string(
        self,
        tensor: Tensor | Sequence[Any],
        bpe_symbol: str | None = None,
        escape_unk: bool = False,
        extra_symbols_to_ignore: Iterable[int] | None = None,
        unk_string: str | None = None,
        include_eos: bool = False,
        separator: str = " ",
    ) -> str:
        """The text of a row of ids; of each row of a matrix, joined by newlines.

        Beginning-of-sentence is always left out, end-of-sentence unless `include_eos`.

        Args:
            tensor: (T,) or (N, T) integers.
            bpe_symbol: subword segmentation to undo, see `post_process`.
            escape_unk: write unknown words as `<<unk>>`.
            extra_symbols_to_ignore: further ids to leave out.
            unk_string: what to write for unknown words.
            separator: what to put between symbols.
        """
        rows = tensor if isinstance(tensor, Sequence) else tensor.tolist()
        left_out = {self.bos(), *(extra_symbols_to_ignore or ())}
        if not include_eos:
            left_out.add(self.eos())
        unknown = self.unk_string(escape_unk) if unk_string is None else unk_string
        unk = self.unk()

        def text(row: Sequence[int]) -> str:
            words = [unknown if index == unk else self[index] for index in row if index not in left_out]
            return post_process(separator.join(words), bpe_symbol)

        if rows and isinstance(rows[0], Sequence):
            return "\n".join(text(row) for row in rows)
        return text([int(index) for index in rows])
