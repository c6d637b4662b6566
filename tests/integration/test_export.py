"""`seqkit-export` on a tiny random model: what it writes, and what it says of mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.hub import from_pretrained
from seqkit.interop import exports, open_checkpoint
from seqkit_cli import export
from tests.unit.generation.tiny import tiny_dictionary
from tests.unit.test_hub import save


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    save(folder, tiny_dictionary())
    return folder / "checkpoint_best.pt"


def run(checkpoint: Path, output: Path, kind: str, *more: str) -> int:
    return export.main([str(checkpoint), "--format", kind, "--output", str(output), *more])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_safetensors(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    output = tmp_path / "exported"
    assert run(checkpoint, output, "safetensors") == 0
    assert capsys.readouterr().out == f"wrote {output}: transformer as safetensors\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "config.json",
        "dict.de.txt",
        "dict.en.txt",
        "exported",
        "model.safetensors",
    ]
    state = read_checkpoint(checkpoint)
    assert json.loads((output / "config.json").read_text(encoding="utf-8")) == state.config
    ours = from_pretrained(checkpoint, cpu=True).models[0].state_dict()
    theirs = from_pretrained(output, "model.safetensors", cpu=True).models[0].state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


def test_ctranslate2(checkpoint: Path, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra `export` is not installed")
    output = tmp_path / "exported"
    assert run(checkpoint, output, "ctranslate2", "--quantization", "int8") == 0
    translator = ctranslate2.Translator(str(output), device="cpu", compute_type="int8_float32")
    (result,) = translator.translate_batch([["w0", "w1"]], beam_size=1, max_decoding_length=5)
    assert set(result.hypotheses[0]) <= set(tiny_dictionary().symbols)
    float_output = tmp_path / "float"
    assert run(checkpoint, float_output, "ctranslate2") == 0
    translator = ctranslate2.Translator(str(float_output), device="cpu")
    (result,) = translator.translate_batch([["w0", "w1"]], beam_size=1, max_decoding_length=5)
    expected = from_pretrained(checkpoint, cpu=True, beam=1, max_len_a=0, max_len_b=5).translate("w0 w1")
    assert " ".join(result.hypotheses[0]) == expected


def test_huggingface(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    output = tmp_path / "exported"
    assert run(checkpoint, output, "huggingface") == 0
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["FSMTForConditionalGeneration"]
    assert config["langs"] == ["de", "en"]


def test_dictionaries_from_elsewhere(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    moved = tmp_path / "moved.pt"
    state = read_checkpoint(checkpoint)
    state.config["task"] |= {"data": None, "source_lang": None, "target_lang": None}
    write_checkpoint(moved, state)
    assert run(moved, tmp_path / "none", "safetensors") == 2
    assert "data" in error_of(capsys)
    given = ["--data", str(checkpoint.parent), "-s", "de", "-t", "en"]
    assert run(moved, tmp_path / "exported", "safetensors", *given) == 0
    assert (tmp_path / "exported" / "dict.de.txt").is_file()


def test_a_folder_that_is_not_empty(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    output = tmp_path / "exported"
    (output / "source").mkdir(parents=True)
    (output / "notes.txt").write_text("kept", encoding="utf-8")
    (output / "source" / "deep.txt").write_text("kept too", encoding="utf-8")
    (output / "config.json").write_text("old", encoding="utf-8")
    assert run(checkpoint, output, "huggingface") == 2
    assert error_of(capsys) == (
        f"seqkit-export: error: {output} is there already and not empty; give another name, or --force to write into "
        "it\n"
    )
    assert run(checkpoint, output, "huggingface", "--force") == 0
    assert (output / "notes.txt").read_text(encoding="utf-8") == "kept"
    assert (output / "source" / "deep.txt").read_text(encoding="utf-8") == "kept too"
    assert json.loads((output / "config.json").read_text(encoding="utf-8"))["model_type"] == "fsmt"
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_an_export_appears_as_a_whole_or_not_at_all(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    output = tmp_path / "exported"
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        assert not output.exists()  # not before all is on the disk
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(exports, "sync_folder", lambda folder: None)
    assert run(checkpoint, output, "safetensors") == 0
    assert {"model.safetensors", "config.json", "dict.de.txt", "dict.en.txt"} <= set(synced)
    monkeypatch.setattr(os, "fsync", fsync)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def fails(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    assert run(checkpoint, output, "huggingface", "--force") == 2
    assert error_of(capsys).endswith("No space left on device\n")
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_the_checkpoint_is_read_once(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("safetensors", reason="the extra `export` is not installed")
    read: list[str] = []

    def noted(path: Path) -> CheckpointState:
        read.append(str(path))
        return read_checkpoint(path)

    monkeypatch.setattr(open_checkpoint, "read_checkpoint", noted)
    assert run(checkpoint, tmp_path / "exported", "safetensors") == 0
    assert read == [str(checkpoint)]


def test_mistakes(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (
            [str(checkpoint), "--output", "x"],
            "the following arguments are required: --format; see seqkit-export --help",
        ),
        ([str(checkpoint), "--format", "onnx", "--output", "x"], "invalid choice: 'onnx'"),
        ([str(tmp_path / "none.pt"), "--format", "safetensors", "--output", str(tmp_path / "x")], "none.pt"),
        (
            [str(checkpoint), "--format", "safetensors", "--output", str(tmp_path / "no" / "x")],
            f"there is no folder {tmp_path / 'no'}",
        ),
        (
            [str(checkpoint), "--format", "huggingface", "--output", str(tmp_path / "x"), "--quantization", "int8"],
            "--quantization is for --format ctranslate2, not huggingface; leave it out",
        ),
        (
            [str(checkpoint), "--format", "ctranslate2", "--output", str(tmp_path / "x"), "--quantization", "int4"],
            "--quantization int4 is not known; there are: float32, int8, ",
        ),
    ):
        assert export.main(arguments) == 2
        error = error_of(capsys)
        assert error.startswith("seqkit-export: error: ")
        assert message in error
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_fit_leaves_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = checkpoint.with_name("odd.pt")
    state = read_checkpoint(checkpoint)
    state.config["model"] |= {"activation_fn": "linear", "encoder_learned_pos": True}
    state.model["encoder.embed_positions.weight"] = torch.zeros(66, 8)
    write_checkpoint(odd, state)
    for kind, library in (("ctranslate2", "CTranslate2"), ("huggingface", "Hugging Face transformers")):
        assert run(odd, tmp_path / "exported", kind) == 2
        error = error_of(capsys)
        assert error.startswith(
            f"seqkit-export: error: this model (model=transformer) does not fit {library}:\n  - model."
        )
    assert list(tmp_path.iterdir()) == []


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from seqkit_cli.export import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--trust-pickle" in result.stdout
