"""Lists as sums and multiples: read, not run."""

from __future__ import annotations

import pytest

from seqkit.config.list_expression import list_expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", []),
        ("[(512, 3)] * 2 + [(1024, 1, 0)]", [(512, 3), (512, 3), (1024, 1, 0)]),
        (" 2 * [1] + [-1, 0.5]", [1, 1, -1, 0.5]),
        ("[True, None]", [True, None]),
        ("[(1,) * 2]", [(1, 1)]),
    ],
)
def test_lists_are_put_together(text: str, expected: list[object]) -> None:
    assert list_expression(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(512, 3)", "is not a list"),
        ("[(512, 3)", "is not a list such as"),
        ("[__import__('os')]", "has no place"),
        ("[x]", "has no place"),
        ("['a']", "has no place"),
        ("[1] + (2,)", "put together by"),
        ("[1] * [2]", "put together by"),
        ("[1] ** 2", "put together by"),
        ("[1] * 100000000", "longer than"),
    ],
)
def test_anything_else_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        list_expression(text)
