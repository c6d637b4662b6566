"""Word vectors made of a word's characters by convolutions and highway layers (Kim et al., 2016).

Characters are the bytes of the word in UTF-8. Knows nothing of dictionaries beyond a list of symbols.
Axes: … any leading axes, U different words, L bytes of a word, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from seqkit.modules.highway import Highway

logger = logging.getLogger(__name__)

_BYTES = 256
_EOS_ROW, _UNK_ROW = 0, 1


class CharacterTokenEmbedder(nn.Module):
    """Convolutions of several widths over a word's bytes, each channel's maximum, highway layers, a projection.

    Padding has the zero vector, EOS and unknown words have vectors of their own.

    Args:
        symbols: the vocabulary.
        special: how many of the symbols, from the first on, are not made of characters.
        pad, eos, unk: indices of symbols.
        filters: (width, channels) of each convolution.
        char_embed_dim: width of a byte's vector.
        word_embed_dim: C.
        highway_layers: number of highway layers.

    Of a word, the first `MAX_CHAR_LEN` bytes are read.
    """

    MAX_CHAR_LEN: ClassVar[int] = 50
    word_to_char: Tensor

    def __init__(
        self,
        symbols: Sequence[str],
        *,
        special: int,
        pad: int,
        eos: int,
        unk: int,
        filters: Sequence[tuple[int, int]],
        char_embed_dim: int,
        word_embed_dim: int,
        highway_layers: int,
    ) -> None:
        super().__init__()
        self.padding_idx = pad
        self.eos_idx = eos
        self.unk_idx = unk
        self.embedding_dim = word_embed_dim
        self.num_embeddings = len(symbols)
        self.char_embeddings = nn.Embedding(_BYTES + 1, char_embed_dim, padding_idx=0)
        self.symbol_embeddings = nn.Parameter(torch.empty(2, word_embed_dim))
        self.convolutions = nn.ModuleList([nn.Conv1d(char_embed_dim, channels, width) for width, channels in filters])
        channels = sum(channels for _, channels in filters)
        self.highway = Highway(channels, highway_layers) if highway_layers > 0 else None
        self.projection = nn.Linear(channels, word_embed_dim)
        self.register_buffer("word_to_char", _byte_table(symbols, special, self.MAX_CHAR_LEN), persistent=False)
        self._widest = max(width for width, _ in filters)
        nn.init.xavier_normal_(self.char_embeddings.weight)
        nn.init.xavier_normal_(self.symbol_embeddings)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.char_embeddings.weight[0])
        nn.init.zeros_(self.projection.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Indices (…) to vectors (…, C)."""
        words, places = torch.unique(tokens, return_inverse=True)
        vectors = self._vectors(words)
        eos, unk = (words == self.eos_idx).unsqueeze(1), (words == self.unk_idx).unsqueeze(1)
        vectors = torch.where(eos, self.symbol_embeddings[_EOS_ROW].to(vectors), vectors)
        vectors = torch.where(unk, self.symbol_embeddings[_UNK_ROW].to(vectors), vectors)
        vectors = vectors.masked_fill((words == self.padding_idx).unsqueeze(1), 0.0)
        return vectors[places]

    def _vectors(self, words_U: Tensor) -> Tensor:
        bytes_UL = self.word_to_char[words_U]
        # Beyond the longest word all windows are alike: as many columns of padding as the widest needs stand for all.
        longest = int(bytes_UL.ne(0).sum(1).max()) if words_U.numel() else 0
        bytes_UL = bytes_UL[:, : longest + self._widest]
        embedded = self.char_embeddings(bytes_UL).transpose(1, 2)
        x = torch.cat([torch.relu(convolution(embedded).amax(-1)) for convolution in self.convolutions], dim=-1)
        if self.highway is not None:
            x = self.highway(x)
        vectors: Tensor = self.projection(x)
        return vectors


def _byte_table(symbols: Sequence[str], special: int, length: int) -> Tensor:
    """(V, length) the bytes of each symbol, each one higher than it is; 0 behind them and for special symbols."""
    encoded = [b"" if index < special else symbol.encode() for index, symbol in enumerate(symbols)]
    lengths = np.array([len(word) for word in encoded])
    table = np.frombuffer(b"".join([word[:length].ljust(length, b"\0") for word in encoded]), np.uint8)
    table = table.reshape(len(symbols), length).astype(np.int64)
    table += np.arange(length) < lengths[:, None]
    if cut := int((lengths > length).sum()):
        logger.info("%d words are longer than %d bytes; the rest of them is not read", cut, length)
    return torch.from_numpy(table)
