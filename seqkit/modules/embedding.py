"""Embedding tables of symbols, and the text format of pretrained vectors.

Knows nothing of models; a vocabulary is anything that counts its symbols and finds their index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from seqkit.errors import DataError


def token_embedding(count: int, dim: int, padding_idx: int) -> nn.Embedding:
    """A table (count, dim) drawn from a normal distribution of deviation dim**-0.5, zero at the padding symbol."""
    table = nn.Embedding(count, dim, padding_idx)
    nn.init.normal_(table.weight, mean=0, std=dim**-0.5)
    nn.init.zeros_(table.weight[padding_idx])
    return table


def xavier_linear(in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer with Xavier's uniform weights (Glorot and Bengio, 2010) and a bias of zeros."""
    layer = nn.Linear(in_features, out_features, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def read_embeddings(path: str | Path) -> dict[str, Tensor]:
    """Read word vectors in the text format of word2vec and GloVe.

    The first line is `<number of words> <dimension>`; each further line a word and its numbers, separated by spaces.

    Raises:
        DataError: the file is missing, or a line (named) has not as many numbers as the first line says.
    """
    vectors: dict[str, Tensor] = {}
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            header = file.readline().split()
            if len(header) != 2 or not all(part.isdigit() for part in header):
                raise DataError(
                    f"{path}: the first line of an embedding file is '<number of words> <dimension>', "
                    f"not {' '.join(header)[:60]!r}"
                )
            dim = int(header[1])
            for number, line in enumerate(file, start=2):
                word, *parts = line.rstrip().split(" ")
                try:
                    vector = torch.tensor([float(part) for part in parts])
                except ValueError:
                    vector = torch.empty(0)
                if vector.numel() != dim:
                    raise DataError(f"{path}, line {number}: expected a word and {dim} numbers, got {line[:60]!r}")
                vectors[word] = vector
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the embedding file {path}: {error}") from error
    return vectors


def load_embeddings(table: nn.Embedding, symbols: Iterable[str], vectors: Mapping[str, Tensor]) -> int:
    """Copy the vectors of the `symbols` (in the table's order) that have one into the table; returns how many had.

    Raises:
        DataError: the vectors have another dimension than the table.
    """
    found = 0
    with torch.no_grad():
        for index, symbol in enumerate(symbols):
            vector = vectors.get(symbol)
            if vector is None:
                continue
            if vector.numel() != table.embedding_dim:
                raise DataError(
                    f"pretrained embeddings have dimension {vector.numel()}, the model's embedding has "
                    f"{table.embedding_dim}; set encoder_embed_dim / decoder_embed_dim to {vector.numel()}"
                )
            table.weight[index] = vector
            found += 1
    return found
