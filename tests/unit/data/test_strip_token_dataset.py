from seqkit.data.strip_token_dataset import StripTokenDataset
from tests.unit.data.rows import Rows, contents


def test_strips_every_copy_from_the_end_only():
    rows = StripTokenDataset(Rows([5, 2, 6, 2, 2], [5, 6], [2, 2], []), 2)
    assert contents(rows) == [[5, 2, 6], [5, 6], [], []]
    assert rows.sizes.tolist() == [5, 2, 2, 0]
