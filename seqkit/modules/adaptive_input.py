"""Adaptive input embeddings: wide vectors for frequent words, narrow ones for rare words (Baevski and Auli, 2019).

Words are sorted by frequency and cut into bands. Knows nothing of models or of what the words are.
Axes: … any leading axes, C channels, V vocabulary, D width of a band's own vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqkit.modules.linear import linear_of_any_size


def check_cutoffs(cutoffs: Sequence[int], vocab_size: int) -> list[int]:
    """The ends of all clusters of a vocabulary, its own size the last.

    Raises:
        ValueError: they do not rise from above 0 to at most `vocab_size`.
    """
    ends = [*cutoffs] if cutoffs and cutoffs[-1] == vocab_size else [*cutoffs, vocab_size]
    if len(ends) < 2 or any(low >= high for low, high in zip([0, *ends], ends, strict=False)):
        raise ValueError(
            f"the cutoffs {','.join(map(str, cutoffs)) or 'none'} do not cut a vocabulary of {vocab_size} words into "
            f"clusters: they must be rising numbers between 1 and {vocab_size - 1}"
        )
    return ends


class AdaptiveInput(nn.Module):
    """A table for each band of words, and a linear map from its width to the common one.

    Band i has vectors of width `initial_dim // factor**i`.

    Args:
        vocab_size: V.
        padding_idx: index of the padding symbol, whose vector is zero and not trained.
        initial_dim: width of the first band's vectors.
        factor: what each band is narrower by than the one before.
        output_dim: C.
        cutoffs: where bands end; V is added where it is missing.

    Raises:
        ValueError: cutoffs that do not rise or lie outside the vocabulary.
    """

    def __init__(
        self,
        vocab_size: int,
        padding_idx: int,
        initial_dim: int,
        factor: float,
        output_dim: int,
        cutoffs: Sequence[int],
    ) -> None:
        super().__init__()
        self.cutoffs = check_cutoffs(cutoffs, vocab_size)
        self.padding_idx = padding_idx
        self.embedding_dim = output_dim
        self.num_embeddings = vocab_size
        self.embeddings = nn.ModuleList()
        for band, (start, end) in enumerate(zip([0, *self.cutoffs], self.cutoffs, strict=False)):
            width = int(initial_dim // factor**band)
            # Not by its padding_idx argument: the padding symbol lies in one band only.
            table = nn.Embedding(end - start, width)
            if start <= padding_idx < end:
                table.padding_idx = padding_idx - start
            self.embeddings.append(nn.Sequential(table, linear_of_any_size(width, output_dim, bias=False)))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for band in self.embeddings:
            table, projection = _parts(band)
            if table.embedding_dim:
                nn.init.normal_(table.weight, mean=0, std=table.embedding_dim**-0.5)
                nn.init.xavier_uniform_(projection.weight)
            if table.padding_idx is not None:
                nn.init.zeros_(table.weight[table.padding_idx])

    def forward(self, tokens: Tensor) -> Tensor:
        """Indices (…) to vectors (…, C)."""
        flat = tokens.reshape(-1)
        places: list[Tensor] = []
        vectors: list[Tensor] = []
        for band, start, end in zip(self.embeddings, [0, *self.cutoffs], self.cutoffs, strict=False):
            # A band without a word in this batch is run all the same, so that its weights get a gradient.
            place = ((flat >= start) & (flat < end)).nonzero().squeeze(1)
            places.append(place)
            vectors.append(band(flat.index_select(0, place) - start))
        order = torch.cat(places).argsort()
        return torch.cat(vectors).index_select(0, order).view(*tokens.shape, self.embedding_dim)

    def weights_for_band(self, band: int) -> tuple[Tensor, Tensor]:
        """A band's vectors (words, D) and its map to the common width (C, D)."""
        table, projection = _parts(self.embeddings[band])
        return table.weight, projection.weight


def _parts(band: nn.Module) -> tuple[nn.Embedding, nn.Linear]:
    assert isinstance(band, nn.Sequential)
    table, projection = band[0], band[1]
    assert isinstance(table, nn.Embedding)
    assert isinstance(projection, nn.Linear)
    return table, projection
