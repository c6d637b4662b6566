"""The tightest of several limits on length."""

from __future__ import annotations

import pytest

from seqkit.data.length_limits import smallest
from seqkit.errors import DataError


def test_smallest_limits() -> None:
    assert smallest(None, None) is None
    assert smallest(5, None, 3) == 3
    assert smallest((5, 9), 7, None) == (5, 7)
    assert smallest((5, None), (6, None)) == (5, None)
    with pytest.raises(DataError, match="different numbers of sides"):
        smallest((1, 2), (1, 2, 3))
