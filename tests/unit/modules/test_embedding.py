from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.errors import DataError
from seqkit.modules.embedding import load_embeddings, read_embeddings, token_embedding, xavier_linear


def test_token_embedding_is_scaled_and_zero_at_padding() -> None:
    torch.manual_seed(0)
    table = token_embedding(2000, 64, 1)
    assert not table.weight[1].any()
    assert table.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)


def test_xavier_linear_has_zero_bias() -> None:
    layer = xavier_linear(5, 3)
    assert not layer.bias.any()
    assert xavier_linear(5, 3, bias=False).bias is None


def test_vectors_are_read_and_put_in_their_rows(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("2 3\nhaus 1 2 3.5\nbaum -1 0 1e-1\n", encoding="utf-8")
    table = token_embedding(4, 3, 1)
    before = table.weight.clone()
    assert load_embeddings(table, ["<s>", "<pad>", "haus", "auto"], read_embeddings(file)) == 1
    assert table.weight[2].tolist() == [1, 2, 3.5]
    assert torch.equal(table.weight[3], before[3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("haus 1 2 3\n", "the first line of an embedding file is"),
        ("1 3\nhaus 1 2\n", "line 2: expected a word and 3 numbers, got 'haus 1 2"),
        ("1 3\nhaus 1 2 x\n", "line 2: expected a word and 3 numbers"),
    ],
)
def test_damaged_files_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_embeddings(file)


def test_missing_files_and_other_widths_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the embedding file"):
        read_embeddings(tmp_path / "none.txt")
    with pytest.raises(DataError, match="dimension 2, the model's embedding has 3"):
        load_embeddings(token_embedding(2, 3, 1), ["a"], {"a": torch.zeros(2)})
