import pytest

from seqkit.data.truncate_dataset import TruncateDataset
from tests.unit.data.rows import Rows, contents


def test_keeps_the_beginning():
    rows = TruncateDataset(Rows([5, 6, 7], [8]), 2)
    assert contents(rows) == [[5, 6], [8]]
    assert rows.sizes.tolist() == [2, 1]


def test_refuses_to_keep_nothing():
    with pytest.raises(ValueError, match="0 tokens"):
        TruncateDataset(Rows([5]), 0)
