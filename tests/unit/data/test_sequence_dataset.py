import numpy as np
import pytest

from seqkit.data.sequence_dataset import SequenceDataset


class Lengths(SequenceDataset):
    """Items are their own ids."""

    def __init__(self, sizes):
        self._sizes = np.array(sizes)

    def __getitem__(self, index):
        return index

    def __len__(self):
        return len(self._sizes)

    def collater(self, samples):
        return list(samples)

    @property
    def sizes(self):
        return self._sizes


ONE_SIDE = [3, 9, 5]
TWO_SIDES = [[3, 4], [9, 1], [5, 7]]


def test_sizes_of_one_side():
    dataset = Lengths(ONE_SIDE)
    assert dataset.size(1) == 9
    assert dataset.num_tokens(1) == 9
    assert dataset.num_tokens_vec(np.array([2, 0])).tolist() == [5, 3]


def test_sizes_of_two_sides():
    dataset = Lengths(TWO_SIDES)
    assert dataset.size(0) == (3, 4)
    assert dataset.num_tokens(0) == 4
    assert dataset.num_tokens_vec(np.array([2, 0, 1])).tolist() == [7, 4, 9]


def test_order_is_that_of_the_data():
    assert Lengths(ONE_SIDE).ordered_indices(np.random.RandomState(1)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("sizes", "limit", "ignored"),
    [
        (ONE_SIDE, None, []),
        (ONE_SIDE, 9, []),
        (ONE_SIDE, 5, [1]),
        (ONE_SIDE, (4, 100), [1, 2]),
        (TWO_SIDES, 6, [1, 2]),
        (TWO_SIDES, (9, 4), [2]),
        (TWO_SIDES, [None, 3], [0, 2]),
        (TWO_SIDES, (8, None), [1]),
    ],
)
def test_filter(sizes, limit, ignored):
    dataset = Lengths(sizes)
    kept, left_out = dataset.filter_by_size(np.array([0, 1, 2]), limit)
    assert left_out.tolist() == ignored
    assert kept.tolist() == [index for index in range(3) if index not in ignored]


def test_batches():
    found = Lengths(ONE_SIDE).batch_by_size(np.array([0, 2, 1]), max_tokens=10)
    assert [batch.tolist() for batch in found] == [[0, 2], [1]]
