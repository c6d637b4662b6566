from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.errors import DataError
from seqkit.generation.alignment import (
    hard_alignment,
    load_replacements,
    most_attended,
    replace_unk,
    soft_alignment,
)

PAD, EOS = 1, 2
SOURCE = torch.tensor([PAD, 7, 8, EOS])
TARGET = torch.tensor([5, 6, EOS])
ATTENTION = torch.tensor([[0.0, 0.2, 0.3, 0.5], [0.0, 0.6, 0.1, 0.3], [0.0, 0.1, 0.2, 0.7]])


def test_hard_alignment_counts_words_only() -> None:
    assert hard_alignment(ATTENTION, SOURCE, TARGET, PAD, EOS) == [(1, 0), (0, 1)]


def test_hard_alignment_of_nothing_is_empty() -> None:
    assert hard_alignment(ATTENTION[:1], SOURCE, torch.tensor([EOS]), PAD, EOS) == []
    assert hard_alignment(ATTENTION[:, :1], torch.tensor([EOS]), TARGET, PAD, EOS) == []


def test_soft_alignment_leaves_padding_out_but_not_the_end() -> None:
    weights = soft_alignment(ATTENTION, SOURCE, TARGET, PAD)
    assert [len(row) for row in weights] == [3, 3, 3]
    assert weights[1] == pytest.approx([0.6, 0.1, 0.3])


def test_most_attended_may_be_the_end() -> None:
    assert most_attended(ATTENTION, SOURCE, PAD) == [2, 0, 2]


def test_unknown_words_are_replaced_by_what_they_attend_to() -> None:
    replaced = replace_unk("ein <unk> und <unk>", "a dog barks", [0, 1, 2, 3], {"dog": "Hund"})
    assert replaced == "ein Hund und <eos>"
    assert replace_unk("ein Tier", "an animal", [0, 1], {}) == "ein Tier"


def test_replacements_are_read_from_two_columns(tmp_path: Path) -> None:
    file = tmp_path / "pairs.txt"
    file.write_text("dog Hund 0.9\n\ncat Katze\n", encoding="utf-8")
    assert load_replacements(file) == {"dog": "Hund", "cat": "Katze"}
    file.write_text("dog Hund\ncat\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: 'cat' has one column"):
        load_replacements(file)
    with pytest.raises(DataError, match="cannot be read"):
        load_replacements(tmp_path / "nowhere")
