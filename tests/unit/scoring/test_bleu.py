"""fairseq's BLEU."""

from __future__ import annotations

import math

import pytest

from seqkit.errors import ConfigError
from seqkit.scoring._ngrams import exact_ngrams, hashed_ngrams
from seqkit.scoring.base import build_scorer
from seqkit.scoring.bleu import Bleu, BleuConfig


def bleu(*pairs: tuple[str, str], exact: bool = False) -> Bleu:
    scorer = Bleu(BleuConfig(_name="bleu", exact_counts=exact))
    for reference, hypothesis in pairs:
        scorer.add(reference, hypothesis)
    return scorer


def test_a_figure_worked_out_by_hand() -> None:
    # unigrams 5/6 (the second "the" is clipped), bigrams 4/5, trigrams 3/4, 4-grams 2/3; 6 words for 7
    scorer = bleu(("the cat sat on a red mat", "the the cat sat on a"))
    expected = 100 * math.exp(1 - 7 / 6) * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert scorer.score() == pytest.approx(expected)
    assert scorer.result_string() == ("BLEU4 = 64.32, 83.3/80.0/75.0/66.7 (BP=0.846, ratio=0.857, syslen=6, reflen=7)")


def test_counts_are_of_the_corpus() -> None:
    scorer = bleu(("a b c d", "a b c d"), ("a b c d", "x y z w"))
    assert scorer.precisions() == [0.5, 0.5, 0.5, 0.5]
    assert scorer.score() == pytest.approx(50)
    scorer.reset()
    assert scorer.score() == 0.0
    assert (scorer.system_length, scorer.reference_length) == (0, 0)


def test_orders() -> None:
    scorer = bleu(("a b c", "a c b"))
    assert scorer.score(1) == pytest.approx(100)
    assert scorer.result_string(2) == "BLEU2 = 0.00, 100.0/0.0 (BP=1.000, ratio=1.000, syslen=3, reflen=3)"
    with pytest.raises(ConfigError, match="order is 5; n-grams are counted for orders 1 to 4"):
        scorer.score(5)


def test_unknown_words_in_the_reference_never_match() -> None:
    assert bleu(("a <unk> c", "a <unk> c")).precisions()[0] == pytest.approx(2 / 3)
    scorer = Bleu(BleuConfig(unk=7))
    scorer.add_tokens([5, 7, 3], [5, 7, 3])
    assert scorer.precisions()[0] == pytest.approx(2 / 3)


def test_padding_and_end_of_sentence_are_not_counted() -> None:
    scorer = Bleu(BleuConfig())
    scorer.add_tokens([1, 1, 4, 5, 2, 1], [4, 5, 2])
    assert (scorer.system_length, scorer.reference_length) == (2, 2)


def test_an_empty_sentence_is_its_end_of_sentence() -> None:
    assert bleu(("one", "")).result_string().endswith("syslen=1, reflen=1)")
    assert bleu(("", "")).precisions()[0] == 1.0


def test_nothing_at_all() -> None:
    assert bleu().result_string() == "BLEU4 = 0.00, 0.0/0.0/0.0/0.0 (BP=0.000, ratio=inf, syslen=0, reflen=0)"


def test_single_sentences_are_smoothed_and_leave_the_corpus_alone() -> None:
    scorer = bleu(("a b c d", "a b c d"))
    score, text = scorer.score_sentence("the cat sat", "the cat")
    assert score == pytest.approx(100 * math.exp(1 - 3 / 2))
    assert text == "BLEU4 = 60.65, 100.0/100.0/100.0/100.0 (BP=0.607, ratio=0.667, syslen=2, reflen=3)"
    assert scorer.score() == pytest.approx(100)


def test_hashes_are_fairseqs() -> None:
    """FNV-1a of the bytes of the numbers, each byte taken as signed; worked out here in the plain way."""

    def plain(tokens: list[int]) -> int:
        value = 14695981039346656037
        for byte in b"".join(token.to_bytes(4, "little", signed=True) for token in tokens):
            value ^= byte if byte < 128 else (1 << 64) - 256 + byte
            value = value * 1099511628211 % (1 << 64)
        return value

    tokens = [4, 127, 128, 300, 70_000, -999]
    for n, counted in enumerate(hashed_ngrams(tokens, 4), start=1):
        assert set(counted) == {plain(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def test_a_collision_of_fairseqs_hashes_and_the_option_without() -> None:
    one, other = [216, 217], [38, 39]
    assert hashed_ngrams(one, 2)[1] == hashed_ngrams(other, 2)[1]
    assert exact_ngrams(one, 2)[1] != exact_ngrams(other, 2)[1]
    for exact, expected in ((True, 0.0), (False, 1.0)):
        scorer = Bleu(BleuConfig(exact_counts=exact))
        scorer.add_tokens(one, other)
        assert scorer.precisions()[1] == expected


def test_words_are_numbered_as_a_dictionary_numbers_them() -> None:
    symbols = ["<s>", "<pad>", "</s>", "<unk>", *(f"w{number}" for number in range(300))]
    by_words, by_numbers = Bleu(BleuConfig()), Bleu(BleuConfig())
    by_words.number_words_as(symbols)
    for start in range(0, 280, 7):
        reference, hypothesis = list(range(start + 4, start + 14)), list(range(start + 8, start + 20))
        by_words.add(" ".join(symbols[n] for n in reference), " ".join(symbols[n] for n in hypothesis))
        by_numbers.add_tokens([*reference, 2], [*hypothesis, 2])
    assert by_words.result_string() == by_numbers.result_string()


def test_it_is_built_by_name() -> None:
    assert isinstance(build_scorer(BleuConfig(_name="bleu")), Bleu)
