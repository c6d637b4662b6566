"""A transformer with all that draws random numbers, stopped by SLURM's signal again and again, goes on bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.io import read_checkpoint
from seqkit.config.compose import compose
from seqkit.training.build import build_trainer
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer, UpdateRecord
from seqkit_cli.preprocess import main as preprocess
from tests.unit.training.toy import assert_same_state

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(1)
    for split, count in (("train", 120), ("valid", 9)):
        lines = [[rng.choice("abcdefgh") for _ in range(rng.randint(2, 7))] for _ in range(count)]
        (folder / f"{split}.de").write_text("".join(" ".join(line) + "\n" for line in lines))
        (folder / f"{split}.en").write_text("".join(" ".join(line[::-1]).upper() + "\n" for line in lines))
    flags = ["-s", "de", "-t", "en", "--trainpref", str(folder / "train"), "--validpref", str(folder / "valid")]
    assert preprocess([*flags, "--destdir", str(folder / "bin")]) == 0
    return folder / "bin"


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    sizes = {"embed_dim": 16, "ffn_embed_dim": 32, "layers": 2, "attention_heads": 2, "layerdrop": 0.2}
    return [
        "task=translation",
        f"task.data={data}",
        "model=transformer",
        *(f"model.{side}_{key}={value}" for side in ("encoder", "decoder") for key, value in sizes.items()),
        "model.dropout=0.2",
        "model.attention_dropout=0.1",
        "model.activation_dropout=0.1",
        "criterion=label_smoothed_cross_entropy",
        "optimizer=adam",
        "optimization.lr=[0.01]",
        "lr_scheduler=inverse_sqrt",
        "lr_scheduler.warmup_updates=10",
        "dataset.max_tokens=100",
        "common.cpu=true",
        "common.log_format=none",
        f"checkpoint.save_dir={folder}",
        *more,
    ]


SETTINGS = {
    "float32": ["dataset.num_workers=0"],
    "accumulating, workers": ["optimization.update_freq=[2]", "dataset.num_workers=2"],
    "float16, averaged": [
        "optimization.update_freq=[2]",
        "dataset.num_workers=1",
        "common.fp16=true",
        "common.fp16_scale_window=4",
        "ema.store_ema=true",
    ],
}


class Watch(Observer):
    """Keeps the losses and the sentences of each update; sends itself a signal after one of them."""

    def __init__(self, signal_after: int | None) -> None:
        self.losses: list[float] = []
        self.batches: list[list[list[int]]] = []
        self.ends: list[int] = []
        self._signal_after = signal_after
        self._epoch = 1

    def on_update(self, update: UpdateRecord) -> None:
        if update.epoch > self._epoch:
            self.ends.append(update.num_updates - 1)
            self._epoch = update.epoch
        self.losses.append(update.total("loss"))
        self.batches.append(update.batch_ids)
        if update.num_updates == self._signal_after:
            os.kill(os.getpid(), signal.SIGUSR1)


def train(data: Path, folder: Path, settings: list[str], signal_after: int | None = None) -> tuple[Any, Watch, int]:
    watch = Watch(signal_after)
    config = compose(None, arguments(data, folder, "optimization.max_epoch=2", *settings))
    with StopRequest() as stop:
        trainer = build_trainer(config, observers=[watch], stop=stop)
        trainer.train()
    return trainer.checkpoint_state(), watch, stop.exit_code


@pytest.fixture(scope="module", params=SETTINGS)
def whole(request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """A kind of training, and what comes of it where nobody interrupts it."""
    settings = SETTINGS[request.param]
    state, watch, code = train(data, tmp_path_factory.mktemp("whole"), settings)
    assert code == 0
    return settings, state, watch


@pytest.mark.parametrize("where", ["in mid-epoch", "at an epoch's end", "twice in a row"])
def test_goes_on_bit_for_bit(whole: tuple[Any, ...], data: Path, tmp_path: Path, where: str) -> None:
    settings, state, watch = whole
    (end,) = watch.ends
    assert 4 < end < len(watch.losses) - 2
    losses, batches = [], []
    for after in {"in mid-epoch": (3,), "at an epoch's end": (end,), "twice in a row": (3, 4)}[where]:
        _, part, code = train(data, tmp_path, settings, after)
        assert code == 138
        losses += part.losses
        batches += part.batches
        assert len(losses) == after
    resumed, part, _ = train(data, tmp_path, settings)
    assert losses + part.losses == watch.losses
    assert batches + part.batches == watch.batches
    assert_same_state(resumed, state)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_the_command_ends_with_the_signals_code(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    command = [
        sys.executable,
        "-m",
        "seqkit_cli.train",
        *arguments(data, folder, "optimization.max_epoch=9999", *SETTINGS["float16, averaged"]),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None and not (folder / "checkpoint1.pt").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 138, error
    assert "SIGUSR1: finishing this update and saving a checkpoint" in error
    assert "Traceback" not in error
    assert "the same command goes on from there" in output
    assert read_checkpoint(folder / "checkpoint_last.pt").progress["num_updates"] > 0
