import pytest

from seqkit.data.concat_dataset import ConcatDataset
from tests.unit.data.rows import Rows, contents


def test_joins():
    rows = ConcatDataset([Rows([1], [2, 2]), Rows(), Rows([3])])
    assert contents(rows) == [[1], [2, 2], [3]]
    assert rows.sizes.tolist() == [1, 2, 1]


def test_repeats():
    rows = ConcatDataset([Rows([1], [2, 2]), Rows([3])], repeats=[2, 1])
    assert contents(rows) == [[1], [2, 2], [1], [2, 2], [3]]
    assert rows.sizes.tolist() == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("index", [-1, 3])
def test_index_out_of_range(index):
    with pytest.raises(IndexError):
        ConcatDataset([Rows([1], [2, 2]), Rows([3])])[index]


@pytest.mark.parametrize("repeats", [[1], [0, 1]])
def test_bad_repeats(repeats):
    with pytest.raises(ValueError, match="at least 1 for each of 2 sets"):
        ConcatDataset([Rows([1]), Rows([3])], repeats=repeats)
