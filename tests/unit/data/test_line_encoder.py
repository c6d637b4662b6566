from __future__ import annotations

import itertools

import pytest

from seqkit.data.dictionary import Dictionary
from seqkit.data.line_encoder import LineEncoder

LINES = [
    "the cat  sat",
    "",
    "\t the\u00a0\u3000dog\u2028 \x1c cat\x85",
    "zero\u200bwidth the",
    "<unk> <s> </s> the </s>",
    " ",
    "the " * 5000,
]


@pytest.fixture
def dictionary() -> Dictionary:
    made = Dictionary()
    for word in ("the", "cat", "sat"):
        made.add_symbol(word)
    return made


@pytest.mark.parametrize(("append_eos", "reverse_order"), list(itertools.product((True, False), repeat=2)))
def test_agrees_with_the_dictionary_line_by_line(dictionary: Dictionary, append_eos: bool, reverse_order: bool) -> None:
    encoder = LineEncoder(dictionary, append_eos=append_eos, reverse_order=reverse_order)
    encoded = encoder.encode("".join(f"{line}\n" for line in LINES))
    expected = [
        dictionary.encode_line(
            line, add_if_not_exist=False, append_eos=append_eos, reverse_order=reverse_order
        ).tolist()
        for line in LINES
    ]
    assert encoded.sizes.tolist() == [len(row) for row in expected]
    assert encoded.ids.tolist() == list(itertools.chain.from_iterable(expected))


def test_counts_replaced_words_but_not_literal_unknowns(dictionary: Dictionary) -> None:
    assert LineEncoder(dictionary).encode("the <unk> dog\n<unk> bird\n").replaced == 2


def test_no_lines(dictionary: Dictionary) -> None:
    for append_eos, reverse_order in itertools.product((True, False), repeat=2):
        encoded = LineEncoder(dictionary, append_eos=append_eos, reverse_order=reverse_order).encode("")
        assert (len(encoded.ids), len(encoded.sizes), encoded.replaced) == (0, 0, 0)
