"""Dictionaries: ids to text and lines to ids."""

from __future__ import annotations

import torch

from seqkit.data.dictionary import Dictionary
from tests.parity.loader import Case

_DESCRIPTION = {"area", "what", "note", "versions"}


def run_dictionary(case: Case) -> None:
    """Every row of the case's `string` and `encode_line`, each with its settings."""
    spec = case.spec
    parts = {"symbols", "counts", "tokens", "string", "string_2d", "encode_line", "tolerance"}
    unknown = set(spec) - _DESCRIPTION - parts
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    assert spec["tolerance"] == "exact"
    dictionary = Dictionary()
    for symbol, count in zip(spec["symbols"], spec["counts"], strict=True):
        if symbol not in dictionary:
            dictionary.add_symbol(symbol, n=count)
    assert dictionary.symbols == spec["symbols"]
    assert dictionary.count == spec["counts"]

    tokens = torch.tensor(spec["tokens"])
    for row in spec["string"]:
        found = dictionary.string(tokens, **row["settings"])
        assert found == row["result"], f"string with {row['settings']}: {found!r}, expected {row['result']!r}"
    if "string_2d" in spec:
        found = dictionary.string(tokens.view(2, -1))
        assert found == spec["string_2d"], f"string of two rows: {found!r}, expected {spec['string_2d']!r}"
    for row in spec["encode_line"]:
        ids = dictionary.encode_line(row["line"], **row["settings"])
        assert ids.dtype == torch.int32
        assert ids.tolist() == row["ids"], f"encode_line of {row}: {ids.tolist()}"
