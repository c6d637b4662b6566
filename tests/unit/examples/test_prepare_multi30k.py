import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "examples" / "translation" / "prepare_multi30k.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_folder_of_text_becomes_split_text_and_binary_data(tmp_path: Path) -> None:
    for name in ("train", "valid", "test2016"):
        (tmp_path / f"{name}.de").write_text("ein hund\n", encoding="utf-8")
        (tmp_path / f"{name}.en").write_text("a dog\n", encoding="utf-8")
    (tmp_path / "bpe8k.deen.codes").write_text("#version: 0.2\nd o\ndo g</w>\n", encoding="utf-8")
    result = run(str(tmp_path), str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "bpe" / "test.en").read_text(encoding="utf-8") == "a dog\n"
    assert (tmp_path / "out" / "bpe" / "train.de").read_text(encoding="utf-8") == "e@@ i@@ n h@@ u@@ n@@ d\n"
    assert (tmp_path / "out" / "data-bin" / "train.de-en.de.bin").is_file()


def test_missing_files_are_named(tmp_path: Path) -> None:
    result = run(str(tmp_path), str(tmp_path / "out"))
    assert result.returncode == 2
    assert "bpe8k.deen.codes" in result.stderr
    assert "train.de" in result.stderr
    assert not (tmp_path / "out").exists()
