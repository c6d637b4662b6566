from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from seqkit.data.dictionary import Dictionary
from seqkit.errors import DataError


def make(words: dict[str, int]) -> Dictionary:
    dictionary = Dictionary()
    for word, count in words.items():
        dictionary.add_symbol(word, count)
    return dictionary


def test_special_symbols_come_first() -> None:
    dictionary = Dictionary(extra_special_symbols=["<mask>"])
    assert (dictionary.bos(), dictionary.pad(), dictionary.eos(), dictionary.unk()) == (0, 1, 2, 3)
    assert dictionary.symbols == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert dictionary.nspecial == 5


def test_unknown_symbols_and_ids() -> None:
    dictionary = make({"a": 1})
    assert dictionary.index("b") == dictionary.unk()
    assert dictionary[99] == "<unk>"
    assert "a" in dictionary
    assert "b" not in dictionary


def test_add_symbol_counts() -> None:
    dictionary = make({"a": 2})
    assert dictionary.add_symbol("a", 3) == 4
    assert dictionary.get_count(4) == 5
    assert dictionary.add_symbol("a", 1, overwrite=True) == 5
    assert dictionary.index("a") == 5
    assert dictionary.symbols[4] == "a"


def test_finalize_sorts_by_count_then_symbol() -> None:
    dictionary = make({"b": 2, "a": 2, "z": 9, "B": 2, "ä": 2})
    dictionary.finalize(padding_factor=1)
    assert dictionary.symbols[4:] == ["z", "B", "a", "b", "ä"]
    assert dictionary.count[4:] == [9, 2, 2, 2, 2]
    assert dictionary.index("ä") == 8


def test_finalize_threshold_nwords_and_padding() -> None:
    words = {"a": 5, "b": 4, "c": 3, "d": 2, "e": 1}
    dictionary = make(words)
    dictionary.finalize(threshold=2, padding_factor=8)
    assert len(dictionary) == 8
    assert dictionary.symbols[4:] == ["a", "b", "c", "d"]

    dictionary = make(words)
    dictionary.finalize(nwords=6, padding_factor=4)
    assert dictionary.symbols[4:] == ["a", "b", "madeupword0000", "madeupword0001"]
    assert dictionary.count[-1] == 0

    for factor in (0, 1):
        dictionary = make(words)
        dictionary.finalize(padding_factor=factor)
        assert len(dictionary) == 9


def test_padding_counts_words_that_look_like_padding() -> None:
    dictionary = make({"madeupword0000": 7, "x": 1})
    dictionary.finalize(padding_factor=8)
    assert dictionary.symbols[4:] == ["madeupword0000", "x", "madeupword0001", "madeupword0002"]


def test_file_round_trip(tmp_path: Path) -> None:
    dictionary = make({"der": 3, "\u00a0nbsp": 2, "#": 1, "日本": 1})
    path = tmp_path / "made" / "dict.txt"
    dictionary.save(path)
    assert path.read_bytes() == "der 3\n\u00a0nbsp 2\n# 1\n日本 1\n".encode()
    loaded = Dictionary.load(path)
    assert loaded == dictionary
    assert loaded.count[4:] == dictionary.count[4:]
    assert [entry.name for entry in path.parent.iterdir()] == ["dict.txt"]


def test_load_and_save_streams() -> None:
    dictionary = Dictionary.load(io.StringIO("a 2\nb 1"))
    assert dictionary.symbols[4:] == ["a", "b"]
    written = io.StringIO()
    dictionary.save(written)
    assert written.getvalue() == "a 2\nb 1\n"


def test_overwrite_flag_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "dict.txt"
    path.write_text("<unk> 7 #fairseq:overwrite\na 2\na 5 #fairseq:overwrite\n")
    dictionary = Dictionary.load(path)
    assert dictionary.index("a") == 6
    assert dictionary.index("<unk>") == 4
    assert dictionary.unk() == 3
    dictionary.save(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text() == path.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\nb 2\na 3\n", r"dict\.txt, line 3: the symbol 'a' is already in the dictionary.*#fairseq:overwrite"),
        ("<pad> 1\n", "line 1: the symbol '<pad>' is already"),
        ("a 1\nb\n", "line 2: 'b' is not a dictionary line; each is '<symbol> <count>'"),
        ("a one\n", "line 1: 'a one' is not a dictionary line"),
        ("a 1\n\nb 1\n", "line 2: '' is not a dictionary line"),
        ("a 1\n7\n", "line 2: '7' is not a dictionary line"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "dict.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        Dictionary.load(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.txt' does not exist"):
        Dictionary.load(tmp_path / "gone.txt")
    bad = tmp_path / "latin1.txt"
    bad.write_bytes(b"a 1\n\xfcber 2\n")
    with pytest.raises(DataError, match="not valid UTF-8: line 2"):
        Dictionary.load(bad)


def test_without_special_symbols(tmp_path: Path) -> None:
    path = tmp_path / "dict.txt"
    path.write_text("<unk> 1\n</s> 1\na 1\n")
    dictionary = Dictionary.load(path, add_special_symbols=False)
    assert (dictionary.unk(), dictionary.eos(), dictionary.index("a")) == (0, 1, 2)
    with pytest.raises(DataError, match="has no '<pad>'"):
        dictionary.pad()


def test_update_adds_counts_and_new_symbols() -> None:
    first, second = make({"a": 1, "b": 1}), make({"c": 2, "a": 4})
    first.update(second)
    assert first.symbols[4:] == ["a", "b", "c"]
    assert first.count[4:] == [5, 1, 2]


def test_equality_and_digest() -> None:
    one, same, other = make({"a": 1, "b": 1}), make({"a": 5, "b": 2}), make({"b": 1, "a": 1})
    assert one == same
    assert one != other
    assert one != "a"
    assert one.digest() == same.digest() != other.digest()


def test_the_first_symbols_alone() -> None:
    whole = Dictionary()
    for word in ("a", "b", "c"):
        whole.add_symbol(word, n=2)
    part = whole.first(6)
    assert (len(part), part.symbols[4:], part.count[4:]) == (6, ["a", "b"], [2, 2])
    assert part.index("c") == part.unk()
    part.add_symbol("d")
    assert (len(whole), "d" in whole) == (7, False)


def test_encode_line() -> None:
    dictionary = make({"the": 1, "cat": 1})
    seen: list[tuple[str, int]] = []
    ids = dictionary.encode_line(
        " the\u3000dog\tcat ", add_if_not_exist=False, consumer=lambda word, index: seen.append((word, index))
    )
    assert ids.dtype == torch.int32
    assert ids.tolist() == [4, 3, 5, 2]
    assert seen == [("the", 4), ("dog", 3), ("cat", 5)]
    assert dictionary.encode_line("cat the", append_eos=False, reverse_order=True).tolist() == [4, 5]
    assert dictionary.encode_line("new").tolist() == [6, 2]
    assert dictionary.encode_line("", add_if_not_exist=False).tolist() == [2]
    assert dictionary.encode_line("cat", line_tokenizer=list, add_if_not_exist=False).tolist() == [3, 3, 3, 2]


def test_string() -> None:
    dictionary = make({"lo@@": 1, "wer": 1})
    ids = torch.tensor([0, 4, 5, 3, 2, 1])
    assert dictionary.string(ids) == "lo@@ wer <unk> <pad>"
    assert dictionary.string(ids, "@@ ") == "lower <unk> <pad>"
    assert dictionary.string(ids, escape_unk=True) == "lo@@ wer <<unk>> <pad>"
    assert dictionary.string(ids, unk_string="?") == "lo@@ wer ? <pad>"
    assert dictionary.string(ids, extra_symbols_to_ignore=[1]) == "lo@@ wer <unk>"
    assert dictionary.string(ids, include_eos=True) == "lo@@ wer <unk> </s> <pad>"
    assert dictionary.string(ids, separator="") == "lo@@wer<unk><pad>"
    assert dictionary.string(ids.view(2, 3), unk_string="?") == "lo@@ wer\n? <pad>"
    assert dictionary.string([4, 5]) == dictionary.string(np.array([4, 5])) == "lo@@ wer"
    assert dictionary.string([]) == dictionary.string(torch.zeros(0, dtype=torch.long)) == ""
