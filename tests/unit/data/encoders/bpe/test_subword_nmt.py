"""Codes of subword-nmt: both versions of the format, white space, and what is wrong with a file."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from seqkit.data.encoders.base import build_bpe
from seqkit.data.encoders.bpe.subword_nmt import SubwordNmt, SubwordNmtConfig
from seqkit.errors import ConfigError, DataError

VERSION_2 = "#version: 0.2\nl o\nlo w</w>\ne r</w>\nlo w\n"


def encoder(folder: Path, codes: str = VERSION_2, separator: str = "@@") -> SubwordNmt:
    file = folder / "codes"
    file.write_text(codes, encoding="utf-8")
    return SubwordNmt(SubwordNmtConfig(bpe_codes=str(file), bpe_separator=separator))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("low lower", "low low@@ er"),
        ("slow", "s@@ low"),
        ("x", "x"),
        ("", ""),
        ("   ", "   "),
        ("  low   low ", "  low low "),
        ("low\tlow", "low@@ \t@@ low"),
        ("déjà", "d@@ é@@ j@@ à"),
    ],
)
def test_encode(tmp_path: Path, text: str, pieces: str) -> None:
    assert encoder(tmp_path).encode(text) == pieces


def test_decode_takes_the_marks_away(tmp_path: Path) -> None:
    made = encoder(tmp_path)
    assert made.decode("low low@@ er") == "low lower"
    assert made.decode("low low@@") == "low low"
    assert made.decode(made.encode("slower lows")) == "slower lows"


def test_version_1_has_a_symbol_for_the_end_of_the_word(tmp_path: Path) -> None:
    made = encoder(tmp_path, "l o\nlo w\nlow </w>\ne r\n")
    assert made.encode("low lower loer") == "low low@@ er lo@@ er"


def test_the_separator_is_a_choice(tmp_path: Path) -> None:
    made = encoder(tmp_path, separator="￭")
    assert made.encode("lower") == "low￭ er"
    assert made.decode("low￭ er") == "lower"


def test_a_pair_listed_twice_has_its_first_rank(tmp_path: Path) -> None:
    made = encoder(tmp_path, "#version: 0.2\na b\nb c</w>\na b\n")
    assert made.encode("abc") == "ab@@ c"


def test_it_is_built_by_name_and_goes_to_workers(tmp_path: Path) -> None:
    (tmp_path / "codes").write_text(VERSION_2, encoding="utf-8")
    made = build_bpe(SubwordNmtConfig(_name="subword_nmt", bpe_codes=str(tmp_path / "codes")))
    assert isinstance(made, SubwordNmt)
    assert pickle.loads(pickle.dumps(made)).encode("lower") == "low@@ er"


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ("", "is empty"),
        ("#version: 0.3\nl o\n", "line 1: unknown version '0.3'; known: 0.1, 0.2"),
        ("#version: 0.2\nl o\nlo\n", "line 3: 'lo' is not two symbols"),
        ("l o 3\n", "line 1: 'l o 3' is a pair with a count .fastBPE.; use bpe=fastbpe"),
    ],
)
def test_a_damaged_file_is_one_error_with_the_line(tmp_path: Path, codes: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encoder(tmp_path, codes)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "codes").write_bytes(b"#version: 0.2\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"not UTF-8 text \(byte 14\)"):
        SubwordNmt(SubwordNmtConfig(bpe_codes=str(tmp_path / "codes")))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"bpe\.bpe_codes=.*nowhere does not exist; give the path of a file of BPE merges"
    ):
        SubwordNmt(SubwordNmtConfig(bpe_codes=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="is not a file"):
        SubwordNmt(SubwordNmtConfig(bpe_codes=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"bpe\.bpe_codes is not given"):
        SubwordNmt(SubwordNmtConfig())
