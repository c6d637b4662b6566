import numpy as np
import pytest

from seqkit.data.batch_by_size import batch_by_bucket, batch_by_size
from seqkit.errors import DataError


def batches(lengths, **limits):
    return [batch.tolist() for batch in batch_by_size(np.arange(len(lengths)), np.array(lengths), **limits)]


def one_by_one(lengths, max_tokens, max_sentences, multiple):
    """The same rule, by trying each size of each batch."""

    def fits(start, size):
        within = max_sentences is None or size <= max_sentences
        return within and (max_tokens is None or size * max(lengths[start : start + size]) <= max_tokens)

    found, start = [], 0
    while start < len(lengths):
        sizes = [size for size in range(1, len(lengths) - start + 1) if fits(start, size)]
        size = max(size for size in sizes if size < multiple or size % multiple == 0)
        found.append(list(range(start, start + size)))
        start += size
    return found


def test_counts_padding():
    assert batches([2, 2, 5, 1], max_tokens=10) == [[0, 1], [2, 3]]
    assert batches([3, 3, 3, 3, 3], max_tokens=9) == [[0, 1, 2], [3, 4]]


def test_sentences():
    assert batches([9, 1, 5, 7, 3], max_sentences=2) == [[0, 1], [2, 3], [4]]


def test_without_limits_is_one_batch():
    assert batches([1, 2, 3]) == [[0, 1, 2]]
    assert batches([1, 2, 3], max_tokens=0, max_sentences=-1) == [[0, 1, 2]]


def test_keeps_ids_and_takes_iterables():
    found = batch_by_size(iter([7, 3, 5]), iter([1, 1, 1]), max_sentences=2)
    assert [batch.tolist() for batch in found] == [[7, 3], [5]]
    assert found[0].dtype == np.int64


def test_nothing():
    assert batches([]) == []


def test_multiple_leaves_the_rest_to_the_next_batch():
    assert batches([1] * 11, max_tokens=6, required_batch_size_multiple=4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_batches_smaller_than_the_multiple_are_kept():
    assert batches([5, 5, 5, 5, 5], max_tokens=10, required_batch_size_multiple=8) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("max_tokens", [None, 40, 130, 1000])
@pytest.mark.parametrize("max_sentences", [None, 1, 7, 50])
@pytest.mark.parametrize("multiple", [1, 3, 8])
def test_any_lengths(max_tokens, max_sentences, multiple):
    lengths = np.random.RandomState(3).randint(1, 40, size=150)
    limits = {"max_tokens": max_tokens, "max_sentences": max_sentences}
    found = batches(lengths, **limits, required_batch_size_multiple=multiple)
    assert found == one_by_one(lengths, max_tokens, max_sentences, multiple)


def test_long_batches_of_sorted_lengths():
    lengths = np.sort(np.random.RandomState(4).randint(1, 9, size=900))
    assert batches(lengths, max_tokens=600, required_batch_size_multiple=8) == one_by_one(lengths, 600, None, 8)


def test_sentence_longer_than_a_batch():
    with pytest.raises(DataError) as caught:
        batch_by_size(np.array([40, 17, 2]), np.array([101, 143, 3]), max_tokens=100)
    text = str(caught.value)
    assert "dataset.max_tokens=100" in text
    assert "id 17, 143 tokens" in text
    assert "2 of 3 sentences" in text
    assert "skip_invalid_size_inputs_valid_test" in text


def test_lengths_must_match_ids():
    with pytest.raises(ValueError, match="2 ids but 1 lengths"):
        batch_by_size([1, 2], [3])


class TestBuckets:
    def test_tokens_alone_make_multiples(self):
        lengths = np.array([4] * 13 + [8] * 5)
        found = batch_by_bucket(np.arange(18), lengths, max_tokens=40, required_batch_size_multiple=4)
        assert [len(batch) for batch in found] == [8, 5, 4, 1]
        assert np.concatenate(found).tolist() == list(range(18))

    def test_sentences_bind_without_multiple(self):
        found = batch_by_bucket(np.arange(7), np.full(7, 4), max_tokens=40, max_sentences=3)
        assert [len(batch) for batch in found] == [3, 3, 1]

    def test_needs_a_limit(self):
        with pytest.raises(DataError, match=r"num_batch_buckets needs dataset\.max_tokens"):
            batch_by_bucket([0], [1])

    def test_bucket_longer_than_a_batch(self):
        with pytest.raises(DataError, match=r"max_tokens=5 .*id 1, 8 tokens"):
            batch_by_bucket([0, 1], [4, 8], max_tokens=5)
