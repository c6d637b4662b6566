"""Lists written as sums and multiples of lists: fairseq's `"[(512, 3)] * 9 + [(1024, 3)] * 4"`.

Reads the text as a syntax tree; nothing is evaluated. Knows nothing of what the lists are for.
"""

from __future__ import annotations

import ast
from typing import Any

_LONGEST = 10_000
"""Entries of a result at most: a slip such as `* 1e9` must not eat the memory."""


def list_expression(text: str) -> list[Any]:
    """The list that `text` describes.

    Args:
        text: literals of lists and tuples of numbers, put together by `+` and `*` (by a whole number).

    Raises:
        ValueError: anything else; the text says what was found.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = _value(tree.body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is not a list such as '[(512, 3)] * 4 + [(1024, 1)]'") from error
    if not isinstance(value, list):
        raise ValueError(f"{text!r} is not a list; write it like '[(512, 3)] * 4 + [(1024, 1)]'")
    return value


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.BinOp):
        return _combined(_value(node.left), node.op, _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        operand = _value(node.operand)
        if _is_number(operand):
            return -operand
    if isinstance(node, ast.Constant) and (_is_number(node.value) or isinstance(node.value, bool | None)):
        return node.value
    raise ValueError(f"{ast.unparse(node)!r} has no place in a list of numbers")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _combined(left: Any, operator: ast.operator, right: Any) -> Any:
    if isinstance(operator, ast.Mult) and isinstance(right, list | tuple):
        left, right = right, left
    if isinstance(operator, ast.Add) and type(left) is type(right) and isinstance(left, list | tuple):
        result = left + right
    elif isinstance(operator, ast.Mult) and isinstance(left, list | tuple) and type(right) is int:
        if len(left) * right > _LONGEST:
            raise ValueError(f"a list of {len(left) * right} entries is longer than {_LONGEST}")
        result = left * right
    else:
        raise ValueError("lists are put together by '+' (with a list) and '*' (with a whole number) alone")
    return result
