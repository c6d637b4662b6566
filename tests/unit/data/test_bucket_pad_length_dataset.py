import numpy as np
import pytest

from seqkit.data.bucket_pad_length_dataset import BucketPadLengthDataset, bucket_lengths
from tests.unit.data.rows import Rows, contents


def test_pads_to_few_lengths():
    rows = Rows([5], [5, 6], [5, 6, 7], [5, 6, 7, 8])
    padded = BucketPadLengthDataset(rows, rows.sizes, 2, pad_idx=1, left_pad=False)
    assert padded.sizes.tolist() == [2, 2, 4, 4]
    assert contents(padded) == [[5, 1], [5, 6], [5, 6, 7, 1], [5, 6, 7, 8]]


def test_pads_left():
    rows = Rows([5], [5, 6])
    assert contents(BucketPadLengthDataset(rows, rows.sizes, 1, pad_idx=1, left_pad=True)) == [[1, 5], [5, 6]]


@pytest.mark.parametrize("count", [1, 4, 50])
def test_every_length_has_a_bucket(count):
    sizes = np.random.RandomState(0).randint(1, 30, size=200)
    buckets = bucket_lengths(sizes, count)
    assert len(buckets) <= count
    assert buckets[-1] == sizes.max()
    assert (np.diff(buckets) > 0).all()
