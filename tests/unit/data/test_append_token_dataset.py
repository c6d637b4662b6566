from seqkit.data.append_token_dataset import AppendTokenDataset
from tests.unit.data.rows import Rows, contents


def test_appends():
    rows = AppendTokenDataset(Rows([5, 6], []), 2)
    assert contents(rows) == [[5, 6, 2], [2]]
    assert rows.sizes.tolist() == [3, 1]
