"""From text to a trained, resumed, validated and averaged model by the commands, on 200 reversed letter sequences."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqkit.checkpoint.io import read_checkpoint
from seqkit_cli.average import main as average
from seqkit_cli.preprocess import main as preprocess
from seqkit_cli.train import main as train
from seqkit_cli.validate import main as validate

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(1)
    for split, count in (("train", 200), ("valid", 21)):
        lines = [[rng.choice("abcdefgh") for _ in range(rng.randint(2, 7))] for _ in range(count)]
        (folder / f"{split}.de").write_text("".join(" ".join(line) + "\n" for line in lines))
        (folder / f"{split}.en").write_text("".join(" ".join(line[::-1]).upper() + "\n" for line in lines))
    flags = ["-s", "de", "-t", "en", "--trainpref", str(folder / "train"), "--validpref", str(folder / "valid")]
    assert preprocess([*flags, "--destdir", str(folder / "bin")]) == 0
    return folder / "bin"


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    return [
        "task=translation",
        f"task.data={data}",
        "model=transformer",
        *(f"model.{side}_embed_dim=16" for side in ("encoder", "decoder")),
        *(f"model.{side}_ffn_embed_dim=32" for side in ("encoder", "decoder")),
        *(f"model.{side}_layers=1" for side in ("encoder", "decoder")),
        *(f"model.{side}_attention_heads=2" for side in ("encoder", "decoder")),
        "criterion=label_smoothed_cross_entropy",
        "criterion.label_smoothing=0.1",
        "optimizer=adam",
        "optimization.lr=[0.01]",
        "lr_scheduler=inverse_sqrt",
        "lr_scheduler.warmup_updates=10",
        "dataset.max_tokens=200",
        "dataset.num_workers=0",
        "common.cpu=true",
        "common.log_format=json",
        "common.log_interval=4",
        f"common.log_file={folder / 'log'}",
        f"checkpoint.save_dir={folder / 'checkpoints'}",
        *more,
    ]


def lines(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def timeless(line: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in line.items() if not re.search(r"wps|ups|wall|gb_free", key)}


def test_train_resume_validate_average(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert train(arguments(data, whole, "optimization.max_epoch=2")) == 0
    output = capsys.readouterr().out
    assert "model transformer, criterion label_smoothed_cross_entropy" in output
    assert re.search(r"^ +encoder\.layers \(\d+\) +[\d,]+ ", output, re.MULTILINE)
    assert re.search(r"^ +all +[\d,]+ +[\d,]+ +100\.0%", output, re.MULTILINE)
    assert "label_smoothing: 0.1" in output
    assert "of 200 sentences, 0 left out as too long" in output
    assert train(arguments(data, parts, "optimization.max_update=6")) == 0
    assert train(arguments(data, parts, "optimization.max_epoch=2")) == 0

    one = read_checkpoint(whole / "checkpoints/checkpoint_last.pt")
    other = read_checkpoint(parts / "checkpoints/checkpoint_last.pt")
    for name, weight in one.model.items():
        assert weight.equal(other.model[name]), name
    in_whole = [timeless(line) for line in lines(whole) if "loss" in line]
    in_parts = [timeless(line) for line in lines(parts) if "loss" in line]
    assert in_parts == in_whole

    capsys.readouterr()
    path = f"common_eval.path={whole / 'checkpoints/checkpoint_last.pt'}"
    assert validate([path, "common.cpu=true", "common.log_format=json"]) == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1].split(" | ")[-1])
    trained = next(line for line in reversed(lines(whole)) if "valid_loss" in line)
    assert shown["valid_bsz"] == "21"
    assert shown["valid_loss"] == trained["valid_loss"]

    averaged = tmp_path / "average.pt"
    inputs = ["--inputs", str(whole / "checkpoints"), "--num-epoch-checkpoints", "2"]
    assert average([*inputs, "--output", str(averaged)]) == 0
    first = read_checkpoint(whole / "checkpoints/checkpoint1.pt").model
    mean = read_checkpoint(averaged).model
    for name, weight in mean.items():
        assert weight.allclose((first[name] + one.model[name]) / 2)
    assert validate([f"common_eval.path={averaged}", "common.cpu=true", "dataset.valid_subset=valid"]) == 0


def test_mistakes(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*more: str) -> str:
        assert train(arguments(data, tmp_path, *more)) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert error[0].startswith("seqkit-train: error: ")
        return "\n".join(error)

    assert "nowhere" in told("task.data=nowhere")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in told(f"checkpoint.save_dir={tmp_path / 'file' / 'x'}")
    assert "does not exist" in told("checkpoint.restore_file=missing.pt")
    (tmp_path / "damaged.pt").write_bytes(b"\x80")
    assert "damaged.pt" in told(f"checkpoint.restore_file={tmp_path / 'damaged.pt'}")
    assert "max_tokens" in told("dataset.max_tokens=null")
    assert validate([f"common_eval.path={tmp_path / 'missing.pt'}"]) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    assert validate([]) == 2
    assert "common_eval.path is not given" in capsys.readouterr().err
    assert average(["--inputs", str(tmp_path), "--num-epoch-checkpoints", "3", "--output", "x.pt"]) == 2
    assert "holds 0 epoch checkpoints, not the 3 asked for" in capsys.readouterr().err


def test_checkpoint_of_another_vocabulary(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(arguments(data, tmp_path, "optimization.max_update=1")) == 0
    other = tmp_path / "other"
    for split in ("train", "valid"):
        for side in ("de", "en"):
            (tmp_path / f"{split}.{side}").write_text("x y z\n" * 40)
    flags = ["-s", "de", "-t", "en", "--trainpref", str(tmp_path / "train"), "--validpref", str(tmp_path / "valid")]
    assert preprocess([*flags, "--destdir", str(other)]) == 0
    capsys.readouterr()
    assert train(arguments(other, tmp_path)) == 2
    error = capsys.readouterr().err
    assert "encoder.embed_tokens.weight: [16, 16] in the checkpoint, [8, 16] in the model" in error
    assert "The vocabulary is another one" in error


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_saves_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seqkit_cli.train", *arguments(data, tmp_path, "optimization.max_epoch=500")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if (tmp_path / "log").exists() and "num_updates" in (tmp_path / "log").read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Ctrl-C: finishing this update" in error
    assert "Traceback" not in error
    assert "the same command goes on from there" in output
    done = read_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt").progress["num_updates"]
    assert done >= 4
    assert train(arguments(data, tmp_path, f"optimization.max_update={done + 2}")) == 0
    assert read_checkpoint(tmp_path / "checkpoints/checkpoint_last.pt").progress["num_updates"] == done + 2
