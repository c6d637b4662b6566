"""How long training waits for a checkpoint: written while it goes on, and written before it does.

    python benchmarks/checkpoint_stall.py [--updates 12] [--every 3] [--folder DIR]

A transformer of fairseq's base size (512 wide, 6+6 layers, 8,000 words) is trained with Adam on random sentences that
the script makes, two in a batch, on the CPU; every third update it is saved, the file before being deleted. `waited` is
the time from the end of an update until the next may begin, as the log tells it; `first` includes getting the memory
for the copy, which later saves use again. `slower` is by how much an update and what follows it took longer with a save
than without, all told: writing in the background takes processor time from training where there is no other.
"""

from __future__ import annotations

import argparse
import logging
import platform
import random
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from seqkit.config.compose import compose
from seqkit.training.build import build_trainer
from seqkit.training.observer import Observer, UpdateRecord
from seqkit_cli.preprocess import main as preprocess


class Figures(NamedTuple):
    """What one run gave: seconds, and the size of a checkpoint in bytes."""

    waited: list[float]
    plain: list[float]
    saving: list[float]
    size: int
    parameters: int


class Watch(Observer):
    """The time of every update's end."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, float]] = []

    def on_update(self, update: UpdateRecord) -> None:
        self.ends.append((update.num_updates, time.perf_counter()))


class Waits(logging.Handler):
    """Collects what the log says of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"training waited ([\d.]+) s", record.getMessage())
        if found:
            self.seconds.append(float(found[1]))


def make_data(folder: Path) -> Path:
    """2,000 sentences of five random words from 8,000."""
    rng = random.Random(1)
    for side in ("de", "en"):
        lines = [" ".join(str(rng.randrange(8000)) for _ in range(5)) for _ in range(2000)]
        (folder / f"train.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["-s", "de", "-t", "en", "--trainpref", str(folder / "train"), "--joined-dictionary"]
    assert preprocess([*flags, "--destdir", str(folder / "bin")]) == 0
    return folder / "bin"


def measure(data: Path, folder: Path, *, updates: int, every: int, asynchronous: bool) -> Figures:
    """Train, saving every `every` updates."""
    config = compose(
        overrides=[
            "task=translation", f"task.data={data}", "model=transformer", "model.share_all_embeddings=true",
            "criterion=label_smoothed_cross_entropy", "optimizer=adam", "optimization.lr=[1e-4]",
            "lr_scheduler=fixed", "dataset.batch_size=2", "dataset.disable_validation=true", "dataset.num_workers=0",
            f"optimization.max_update={updates}", "common.cpu=true", "common.log_format=none",
            f"checkpoint.save_interval_updates={every}", "checkpoint.keep_interval_updates=1",
            f"checkpoint.save_dir={folder}",
            f"checkpoint.write_checkpoints_asynchronously={str(asynchronous).lower()}",
        ]
    )  # fmt: skip
    watch, waits = Watch(), Waits()
    logger = logging.getLogger("seqkit.training.trainer")
    logger.addHandler(waits)
    logger.setLevel(logging.INFO)
    trainer = build_trainer(config, observers=[watch])
    trainer.train()
    logger.removeHandler(waits)
    gaps = [(number, after - before) for (number, before), (_, after) in zip(watch.ends, watch.ends[1:], strict=False)]
    return Figures(
        waited=waits.seconds,
        plain=[seconds for number, seconds in gaps if (number - 1) % every == every - 2],
        saving=[seconds for number, seconds in gaps if number % every == 0],
        size=(folder / "checkpoint_last.pt").stat().st_size,
        parameters=sum(param.numel() for param in trainer.parts.model.parameters()),
    )


def main() -> None:
    """Measure and print two rows of the table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where checkpoints are written; by default the temporary folder")
    arguments = parser.parse_args()
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        data = make_data(folder)
        print("| written | parameters | file, MB | waited: first, later (s) | update (s) | slower by (s) | machine |")
        print("|---|---|---|---|---|---|---|")
        for asynchronous in (False, True):
            found = measure(
                data,
                folder / str(asynchronous),
                updates=arguments.updates,
                every=arguments.every,
                asynchronous=asynchronous,
            )
            plain = statistics.median(found.plain)
            print(
                f"| {'while training goes on' if asynchronous else 'before it goes on'} "
                f"| {found.parameters / 1e6:.0f}M | {found.size / 1e6:.0f} "
                f"| {found.waited[0]:.2f}, {statistics.median(found.waited[1:]):.2f} "
                f"| {plain:.2f} | {statistics.median(found.saving) - plain:.2f} | {machine} |"
            )


if __name__ == "__main__":
    main()
