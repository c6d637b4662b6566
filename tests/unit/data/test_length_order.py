import numpy as np
import pytest

from seqkit.data.length_order import order_by_lengths


def slowly(indices, sides):
    return sorted(indices.tolist(), key=lambda item: [int(side[item]) for side in sides])


@pytest.mark.parametrize("longest", [3, 200, 60_000, 100_000])
@pytest.mark.parametrize("sides", [1, 2])
def test_sorted_by_all_sides_and_stable(longest, sides):
    rng = np.random.RandomState(longest)
    count = 500
    lengths = [rng.randint(0, longest + 1, count).astype(np.int32) for _ in range(sides)]
    lengths[0][7] = longest
    shuffled = rng.permutation(count)
    found = order_by_lengths(shuffled, lengths)
    assert found.tolist() == slowly(shuffled, lengths)
    assert found.dtype == np.int64


def test_more_pairs_of_lengths_than_one_small_number_holds():
    rng = np.random.RandomState(1)
    lengths = [rng.randint(0, 600, 200_000) for _ in range(2)]
    items = np.arange(200_000)
    assert order_by_lengths(items, lengths).tolist() == np.lexsort((items, lengths[1], lengths[0])).tolist()


def test_a_part_of_the_items():
    assert order_by_lengths(np.array([3, 1]), [np.array([9, 5, 9, 2])]).tolist() == [3, 1]
    assert order_by_lengths(np.array([], dtype=np.int64), [np.array([1])]).tolist() == []
