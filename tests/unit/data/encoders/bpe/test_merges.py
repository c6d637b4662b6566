"""Applying merges: the order of merging, and the word cache."""

from __future__ import annotations

import itertools
import pickle
import random
import time

from seqkit.data.encoders.bpe._merges import Pair, WordCache, apply_merges


def by_the_book(symbols: list[str], ranks: dict[Pair, int]) -> list[str]:
    """The algorithm as the paper states it: find the best pair, merge it everywhere, begin again."""
    word = list(symbols)
    while True:
        known = [pair for pair in itertools.pairwise(word) if pair in ranks]
        if not known:
            return word
        best = min(known, key=ranks.__getitem__)
        merged: list[str] = []
        place = 0
        while place < len(word):
            if tuple(word[place : place + 2]) == best:
                merged.append(word[place] + word[place + 1])
                place += 2
            else:
                merged.append(word[place])
                place += 1
        word = merged


def test_lowest_rank_comes_first() -> None:
    assert apply_merges(list("abc"), {("b", "c"): 0, ("a", "b"): 1}) == ["a", "bc"]
    assert apply_merges(list("abc"), {("b", "c"): 1, ("a", "b"): 0}) == ["ab", "c"]


def test_overlapping_pairs_are_taken_from_the_left() -> None:
    assert apply_merges(list("aaaaa"), {("a", "a"): 0}) == ["aa", "aa", "a"]


def test_all_of_a_pair_are_merged_before_a_pair_of_lower_rank_that_they_make() -> None:
    # the first "a bc" makes "abc", which would take the next "a" away from the second "a bc"
    ranks = {("b", "c"): 0, ("abc", "a"): 1, ("a", "bc"): 2}
    assert apply_merges(list("abcabc"), ranks) == ["abc", "abc"]


def test_nothing_to_merge() -> None:
    assert apply_merges([], {("a", "b"): 0}) == []
    assert apply_merges(["a"], {("a", "b"): 0}) == ["a"]


def test_equals_the_algorithm_of_the_paper_for_any_list_of_merges() -> None:
    generator = random.Random(0)
    for _ in range(1500):
        symbols = ["a", "b", "c"]
        pairs: set[Pair] = set()
        for _ in range(generator.randint(1, 14)):
            pair = (generator.choice(symbols), generator.choice(symbols))
            symbols.append("".join(pair))
            pairs.add(pair)
        shuffled = sorted(pairs)
        generator.shuffle(shuffled)
        ranks = {pair: rank for rank, pair in enumerate(shuffled)}
        word = generator.choices("abc", k=generator.randint(1, 25))
        assert apply_merges(word, ranks) == by_the_book(word, ranks), (word, ranks)


def test_a_very_long_word_takes_no_time() -> None:
    start = time.process_time()
    pieces = apply_merges(list("ab" * 20_000), {("a", "b"): 0, ("ab", "ab"): 1})
    assert pieces == ["abab"] * 10_000
    assert time.process_time() - start < 5  # looking for the best pair anew after each merge takes minutes


def double(word: str) -> str:
    return word * 2


def test_cache_computes_once_and_stays_small() -> None:
    asked: list[str] = []

    def encode(word: str) -> str:
        asked.append(word)
        return word.upper()

    cache = WordCache(encode, most=2)
    assert [cache[word] for word in ["a", "a", "b", "a"]] == ["A", "A", "B", "A"]
    assert asked == ["a", "b"]
    assert cache["c"] == "C"
    assert len(cache) == 1


def test_cache_goes_to_workers_empty() -> None:
    cache = WordCache(double)
    assert cache["x"] == "xx"
    copy = pickle.loads(pickle.dumps(cache))
    assert len(copy) == 0
    assert copy["x"] == "xx"
