"""The Python lines of docs/decoding.md are run, one block after the other, on a tiny random model."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from seqkit.config.sections import GenerationConfig
from seqkit.config.validate import options_of
from seqkit.data.dictionary import Dictionary
from tests.unit.test_hub import save

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "decoding.md").read_text(encoding="utf-8")
WORDS = ["eine", "frau", "liest", ".", "ein", "hund", "läuft", "a", "woman", "reads", "man", "the", "book"]


def test_the_lines_on_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dictionary = Dictionary()
    for word in WORDS:
        dictionary.add_symbol(word)
    save(tmp_path / "checkpoints", dictionary)
    (tmp_path / "data-bin").mkdir()
    for language in ("de", "en"):
        shutil.move(tmp_path / "checkpoints" / f"dict.{language}.txt", tmp_path / "data-bin")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/decoding.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 6
    assert lines[0].startswith("0 -")


def test_every_option_on_the_page_exists() -> None:
    known = set(options_of(GenerationConfig))
    for name in re.findall(
        r"`((?:beam|sampling|diverse|diversity|constraints|iter|max_len|min_len|print|retain|replace|lm|no_repeat|unk|match|prefix_size|score_ref|unnorm|temperature)[a-z_]*)",
        PAGE,
    ):
        assert name in known, name
