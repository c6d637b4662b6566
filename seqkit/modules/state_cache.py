"""The cache of decoders that remember a fixed amount: recurrent states, the last inputs of convolutions.

Knows nothing of what the states mean. Axes: B sentences, K rows per sentence (the beam), N = B·K rows.
"""

from __future__ import annotations

from torch import Tensor

from seqkit.modules.cache import spread


class StateCache:
    """Tensors by name, one row for each hypothesis; a `DecoderCache` whose size does not grow with the target.

    Args:
        rows: N, hypotheses decoded side by side.
        max_length: the most target positions that will be decoded.
        beam: K, how many adjacent rows make one sentence.

    Attributes:
        states: (N, …) by name; put there by the decoder.
        source: (B, …) by name: what belongs to a sentence and all its rows read.
        constants: by name, what is made once of the parameters and belongs to no row.

    Raises:
        ValueError: `rows` is not a multiple of `beam`.
    """

    def __init__(self, rows: int, max_length: int, *, beam: int = 1) -> None:
        if beam < 1 or rows % beam:
            raise ValueError(f"a cache of rows={rows} cannot be shared out to sentences of beam={beam} rows each")
        self.rows = rows
        self.max_length = max_length
        self.states: dict[str, Tensor] = {}
        self.source: dict[str, Tensor] = {}
        self.constants: dict[str, Tensor] = {}
        self._per_sentence = beam
        self._length = 0

    @property
    def length(self) -> int:
        """Target positions already decoded."""
        return self._length

    def set_source(self, sentences: int, source: dict[str, Tensor]) -> None:
        """Keep what is computed once of the source of `sentences` sentences. Call before the first step."""
        self._per_sentence = self.rows // sentences
        self.source = source

    def advance(self, rows: int, new: int) -> None:
        """Count `new` further positions of each of `rows` rows. Call once per step.

        Raises:
            ValueError: the cache is full, or the rows are not those it was made for.
        """
        if rows != self.rows or self._length + new > self.max_length:
            raise ValueError(
                f"{rows} rows of {new} new tokens do not fit a cache of {self.rows} rows, "
                f"{self._length} of at most {self.max_length} positions filled"
            )
        self._length += new

    def reorder(self, index: Tensor) -> None:
        """Make row i what row `index[i]` was; see `DecoderCache.reorder`."""
        self.rows = index.numel()
        self.states = {name: state.index_select(0, index) for name, state in self.states.items()}

    def select_sentences(self, index: Tensor) -> None:
        """Keep the sentences `index` (B',), in that order, with all their rows; see `DecoderCache`."""
        self.reorder(spread(index, self._per_sentence))
        self.source = {name: value.index_select(0, index) for name, value in self.source.items()}
