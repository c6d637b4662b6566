"""Codes of fastBPE."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.data.encoders.bpe.fastbpe import FastBpe, FastBpeConfig
from seqkit.errors import DataError


def encoder(folder: Path, codes: str) -> FastBpe:
    (folder / "codes").write_text(codes, encoding="utf-8")
    return FastBpe(FastBpeConfig(bpe_codes=str(folder / "codes")))


def test_encode_and_decode(tmp_path: Path) -> None:
    made = encoder(tmp_path, "l o 9\nlo w</w> 7\ne r</w> 5\nlo w 2\n")
    assert made.encode(" low  lower x ") == "low low@@ er x"
    assert made.decode("low low@@ er x") == "low lower x"
    assert made.encode("") == ""


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ("#version: 0.2\nl o\n", "begins a subword-nmt file; use bpe=subword_nmt"),
        ("l o 9\nl o\n", "line 2: 'l o' is not two symbols and a count"),
        ("l o many\n", "line 1: 'l o many' is not two symbols and a count"),
    ],
)
def test_a_file_of_another_form(tmp_path: Path, codes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encoder(tmp_path, codes)
