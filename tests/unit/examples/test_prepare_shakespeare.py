import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "examples" / "language_model" / "prepare_shakespeare.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_text_becomes_characters_of_two_parts(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("To be,\nor not\nto be ", encoding="utf-8", newline="")
    result = run(str(tmp_path / "input.txt"), str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    text = tmp_path / "out" / "text"
    assert (text / "train").read_text(encoding="utf-8").startswith("T o <U+0020> b e , <U+000A> o ")
    assert (text / "valid").read_text(encoding="utf-8") == "e <U+0020>\n"
    data = tmp_path / "out" / "data-bin"
    assert {path.name for path in data.iterdir()} >= {"dict.txt", "train.bin", "train.idx", "valid.bin", "valid.idx"}
    assert "madeupword" not in (data / "dict.txt").read_text(encoding="utf-8")


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    missing = run(str(tmp_path / "input.txt"), str(tmp_path / "out"))
    assert missing.returncode == 2
    assert 'input.txt is not a file; "tiny Shakespeare" is at https://' in missing.stderr
    (tmp_path / "input.txt").write_bytes(b"\xff\xfe\x00\x01")
    binary = run(str(tmp_path / "input.txt"), str(tmp_path / "out"))
    assert binary.returncode == 2
    assert "is not text in UTF-8" in binary.stderr
    (tmp_path / "input.txt").write_text("", encoding="utf-8")
    empty = run(str(tmp_path / "input.txt"), str(tmp_path / "out"))
    assert empty.returncode == 2
    assert "has 0 characters, too few for two parts" in empty.stderr
    assert not (tmp_path / "out").exists()
