"""Tokenizers, subword encoders, and the functions beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seqkit.data.encoders.bpe._byte_characters import from_byte_characters
from seqkit.data.post_process import post_process
from seqkit.registry import registry
from tests.parity.loader import Case

_POST_PROCESS = "post_process (text, symbol, result)"
_DESCRIPTION = {"area", "what", "files", "tolerance", "versions"}
_FUNCTIONS: dict[str, Callable[[str], str]] = {"smart_byte_decode": from_byte_characters}


def run_encoders(case: Case) -> None:
    """Every row of the case: lines encoded and decoded by a component, or inputs put through a function."""
    spec = case.spec
    unknown = set(spec) - _DESCRIPTION - {"lines", "rows", _POST_PROCESS}
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    assert spec["tolerance"] == "exact"
    for row in spec["rows"]:
        if row["kind"] == "function":
            _run_function(row)
        else:
            _run_component(case, row, spec["lines"])
    for text, symbol, expected in spec.get(_POST_PROCESS, []):
        found = post_process(text, symbol)
        assert found == expected, f"post_process({text!r}, {symbol!r}): {found!r}, expected {expected!r}"


def _run_component(case: Case, row: dict[str, Any], lines: list[str]) -> None:
    unknown = set(row) - {"kind", "name", "settings", "encoded", "decoded"}
    assert not unknown, f"parts of the row that no one reads: {sorted(unknown)}"
    kind, name = row["kind"], row["name"]
    if name not in registry(kind).names():
        case.not_built(f"{kind}={name}: a later issue")
    component = registry(kind).get(name)
    settings = {
        key: str(case.folder / value) if isinstance(value, str) and (case.folder / value).is_file() else value
        for key, value in row["settings"].items()
    }
    encoder = component.cls(component.config(_name=name, **settings))
    where = f"{kind} {name} {row['settings']}"
    for line, expected in zip(lines, row["encoded"], strict=True):
        found = encoder.encode(line)
        assert found == expected, f"{where}: encode({line!r}) is {found!r}, expected {expected!r}"
    for encoded, expected in zip(row["encoded"], row["decoded"], strict=True):
        found = encoder.decode(encoded)
        assert found == expected, f"{where}: decode({encoded!r}) is {found!r}, expected {expected!r}"


def _run_function(row: dict[str, Any]) -> None:
    function = _FUNCTIONS.get(row["name"])
    assert function is not None, f"no counterpart of the function {row['name']}"
    for given, expected in zip(row["inputs"], row["outputs"], strict=True):
        found = function(given)
        assert found == expected, f"{row['name']}({given!r}) is {found!r}, expected {expected!r}"
