"""Words and bytes of tokens, by the ways of marking subwords."""

from __future__ import annotations

import numpy as np
import pytest

from seqkit.data.dictionary import Dictionary
from seqkit.data.encoders.bpe.code_points import CodePoints, CodePointsConfig
from seqkit.errors import ConfigError
from seqkit.generation.word_spelling import WordSpelling

CASES = [
    (None, "ein haus </s> ja </s>", ["ein", "haus", "</s>", "ja", "</s>"], "ein haus\nja\n"),
    ("none", "h@@ a </s>", ["h@@", "a", "</s>"], "h@@ a\n"),
    ("subword_nmt", "un@@ schö@@ n ist es </s>", ["unschön", "ist", "es", "</s>"], "unschön ist es\n"),
    ("@@ ", "un@@ d o@@ </s>", ["und", "o</s>"], "und o\n"),
    (
        "sentencepiece",
        "▁un schön ▁ist ▁ s </s> ▁a </s>",
        ["unschön", "ist", "s", "</s>", "a", "</s>"],
        "unschön ist s\na\n",
    ),
    ("wordpiece", "_un d _o </s>", ["und", "o", "</s>"], "und o\n"),
    ("_EOW", "un d_EOW o_EOW </s>", ["und", "o", "</s>"], "und o\n"),
]


def spelled(symbols: list[str]) -> tuple[Dictionary, np.ndarray]:
    dictionary = Dictionary()
    for symbol in symbols:
        dictionary.add_symbol(symbol)
    return dictionary, np.array([dictionary.index(symbol) for symbol in symbols])


def words_of(spelling: WordSpelling, tokens: np.ndarray) -> list[str]:
    words: list[list[int]] = [[]]
    for token, goes_on in zip(tokens.tolist(), [*spelling.joined(tokens), False], strict=True):
        words[-1].append(token)
        if not goes_on:
            words.append([])
    return [spelling.word(word) for word in words[:-1]]


@pytest.mark.parametrize(("post_process", "line", "words", "text"), CASES, ids=[str(case[0]) for case in CASES])
def test_words_and_bytes(post_process: str | None, line: str, words: list[str], text: str) -> None:
    dictionary, tokens = spelled(line.split(" "))
    spelling = WordSpelling(dictionary, post_process)
    assert words_of(spelling, tokens) == words
    before = np.concatenate(([dictionary.eos()], tokens[:-1]))
    assert spelling.knows_bytes
    assert int(spelling.bytes_of(tokens, before).sum()) == len(text.encode())


def test_a_word_that_is_broken_off_keeps_its_mark() -> None:
    dictionary, tokens = spelled(["un@@", "schö@@"])
    assert WordSpelling(dictionary, "subword_nmt").word(tokens.tolist()) == "unschö@@"


def test_the_encoder_says_how_bytes_are_counted() -> None:
    symbols = ["ä", "<U+0020>", "b", "<U+000A>"]
    dictionary, tokens = spelled(symbols)
    spelling = WordSpelling(dictionary, None, bpe_name="code_points", bpe=CodePoints(CodePointsConfig()))
    before = np.concatenate(([dictionary.eos()], tokens[:-1]))
    assert spelling.bytes_of(tokens, before).tolist() == [2, 1, 1, 1]
    assert not spelling.joined(tokens).any()
    marked, pieces = spelled(["un@@", "d", "o"])
    before = np.concatenate(([marked.eos()], pieces[:-1]))
    assert WordSpelling(marked, None, bpe_name="fastbpe").bytes_of(pieces, before).tolist() == [2, 1, 2]
    assert not WordSpelling(marked, None, bpe_name="gpt2").knows_bytes


def test_a_marking_without_words_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"common_eval.post_process='letter' does not say which subwords make a word"):
        WordSpelling(Dictionary(), "letter")


def test_the_token_before_may_be_unknown_to_a_smaller_dictionary() -> None:
    dictionary, tokens = spelled(["ein", "haus"])
    spelling = WordSpelling(dictionary, None)
    assert spelling.bytes_of(tokens, np.array([dictionary.eos(), len(dictionary) + 7])).tolist() == [3, 5]
