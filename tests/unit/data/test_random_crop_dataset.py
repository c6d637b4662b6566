import pytest

from seqkit.data.random_crop_dataset import RandomCropDataset
from tests.unit.data.rows import Rows

LONG = list(range(100))


def test_long_rows_lose_ends_and_short_ones_nothing():
    rows = RandomCropDataset(Rows(LONG, [4, 5]), 10)
    piece = rows[0].tolist()
    assert piece == list(range(piece[0], piece[0] + 10))
    assert rows[1].tolist() == [4, 5]
    assert rows.sizes.tolist() == [10, 2]
    assert len(rows) == 2


def test_the_piece_depends_on_seed_epoch_and_row_alone():
    rows = RandomCropDataset(Rows(LONG, LONG), 10, seed=3)
    assert rows[0].tolist() == rows[0].tolist()
    starts = {int(rows[0][0]), int(rows[1][0])}
    rows.set_epoch(2)
    starts.add(int(rows[0][0]))
    starts.add(int(RandomCropDataset(Rows(LONG), 10, seed=4)[0][0]))
    assert len(starts) > 2


def test_a_length_below_one_is_told():
    with pytest.raises(ValueError, match="cannot be cut to 0 tokens"):
        RandomCropDataset(Rows([4]), 0)
