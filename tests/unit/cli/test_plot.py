import json
from pathlib import Path

import pytest

from seqkit_cli.plot import main


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run.jsonl"
    rows = [
        {"epoch": 1, "update": n / 4, "loss": str(9 - n), "num_updates": str(n), "wall": str(n)} for n in range(1, 5)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_picture_of_two_runs(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "both.png"
    argv = [str(log), str(log), "--names", "one", "other", "--output", str(picture), "--log-scale", "none"]
    assert main([*argv, "--smooth", "0.5", "--x", "epoch"]) == 0
    assert capsys.readouterr().out == f"{picture}: one (1 streams), other (1 streams)\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--names", "a", "b"], "--names gives 2 names for 1 logs"),
        (["--smooth", "1"], "1 is not a number from 0 to below 1"),
        (["--x", "time"], "invalid choice: 'time'"),
        (["--keys", "bleu"], "no log has a figure 'bleu'"),
    ],
)
def test_mistakes(log: Path, tmp_path: Path, argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main([str(log), "--output", str(tmp_path / "a.png"), *argv]) == 2
    error = capsys.readouterr().err
    assert error.startswith("seqkit-plot: error: ")
    assert text in error
    assert not (tmp_path / "a.png").exists()


def test_help_needs_neither_matplotlib_nor_numpy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "seqkit-plot run.jsonl" in capsys.readouterr().out
