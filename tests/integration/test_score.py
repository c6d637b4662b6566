"""`seqkit-score` as a user runs it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from seqkit_cli.score import main

REFERENCES = ["the cat sat on the mat", "It rains .", "one two three four"]
HYPOTHESES = ["the cat sat on a mat", "it rains .", "one two three four"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "sys").write_text("\n".join(HYPOTHESES) + "\n", encoding="utf-8")
    (tmp_path / "ref").write_text("\n".join(REFERENCES) + "\n", encoding="utf-8")
    return ["--sys", str(tmp_path / "sys"), "--ref", str(tmp_path / "ref")]


def test_fairseqs_bleu_is_the_default(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(files) == 0
    assert capsys.readouterr().out == (
        "BLEU4 = 64.14, 84.6/70.0/57.1/50.0 (BP=1.000, ratio=1.000, syslen=13, reflen=13)\n"
    )


def test_case_and_order(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--ignore-case", "-o", "1"]) == 0
    assert capsys.readouterr().out.startswith("BLEU1 = 92.31, 92.3 (BP=1.000")


def test_each_sentence(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--sentence-bleu", "--scoring", "bleu,wer"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[1] == "0 WER: 16.67"
    assert lines[4].startswith("2 BLEU4 = 100.00, ")


def test_several_scorers_with_their_options_as_json(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--scoring", "sacrebleu,chrf,ter,wer", "--wer-lowercase", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sentences"] == 3
    assert list(result["scores"]) == ["sacrebleu", "chrf", "ter", "wer"]
    assert result["scores"]["wer"] == {"score": pytest.approx(100 / 13), "text": "WER: 7.69"}
    assert main([*files, "--scoring", "wer", "--sentence-scores", "--json"]) == 0
    sentences = json.loads(capsys.readouterr().out)["sentences"]
    assert [sentence["scores"]["wer"]["score"] for sentence in sentences] == pytest.approx([100 / 6, 100 / 3, 0])


def test_sacrebleu_keeps_case_as_fairseq_does_and_says_so(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*files, "--sacrebleu"]) == 0
    plain = capsys.readouterr().out
    assert plain.startswith("BLEU = ")
    assert main([*files, "--sacrebleu", "--ignore-case"]) == 0
    captured = capsys.readouterr()
    assert captured.out == plain
    assert "--ignore-case does not apply to --sacrebleu" in captured.err


def test_hypotheses_from_standard_input(
    files: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.TextIOWrapper(io.BytesIO("\n".join(REFERENCES).encode()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", text)
    assert main(files[2:]) == 0
    assert capsys.readouterr().out.startswith("BLEU4 = 100.00")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--ref must be given"),
        (["--sys", "nowhere", "--ref", "{ref}"], "--sys nowhere cannot be read: No such file or directory"),
        (["--sys", "{short}", "--ref", "{ref}"], "has 1 lines and --ref {ref} has 3; each line of one must belong"),
        (["--sys", "{empty}", "--ref", "{empty}"], "are empty; there is nothing to score"),
        (["--sys", "{latin}", "--ref", "{ref}"], "{latin}, line 2 is not UTF-8 (byte 1 of the line)"),
        (
            ["--sys", "{ref}", "--ref", "{ref}", "--ignore-cases"],
            "unknown flag --ignore-cases; did you mean '--ignore-case'?",
        ),
        (["--sys", "{ref}", "--ref", "{ref}", "--order", "5"], "--order"),
        (["--sys", "{ref}", "--ref", "{ref}", "--scoring", "sacrebleau"], "unknown scoring 'sacrebleau'; did you mean"),
        (["--sys", "-", "--ref", "-"], "cannot both be standard input"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    places = {name: str(tmp_path / name) for name in ("ref", "short", "empty", "latin")}
    (tmp_path / "ref").write_text("a\nb\nc\n", encoding="utf-8")
    (tmp_path / "short").write_text("a\n", encoding="utf-8")
    (tmp_path / "empty").write_text("", encoding="utf-8")
    (tmp_path / "latin").write_bytes(b"a\nb\xe9\nc\n")
    assert main([argument.format(**places) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("seqkit-score: error: ")
    assert message.format(**places) in captured.err


def test_help_needs_no_torch_and_lists_the_scorers() -> None:
    code = (
        "import sys, contextlib\n"
        "from seqkit_cli.score import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['--help'])\n"
        "assert 'torch' not in sys.modules and 'sacrebleu' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scorers: bert_score, bleu, chrf, meteor, sacrebleu, ter, wer" in done.stdout
    assert "--sentence-bleu" in done.stdout
