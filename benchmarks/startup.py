"""Start-up on a huge corpus: seconds to the first update by phase, and memory of the process and its workers.

    python benchmarks/startup.py [--sentences 10000000] [--workers 2] [--keep FOLDER]

A corpus of random words (German-English in name only; about 25 tokens a sentence) is written straight in the binary
format, then `seqkit-train` does three updates of a tiny model on it, in a process of its own that looks at the clock
around each phase. After the second update it reads from /proc, in MB, for itself and each worker: the largest resident
size so far (`peak`), the present one (`resident`, with the pages of the data files it has looked at), its memory
proper (`anonymous`), what of that no other process shares (`own`), and the resident size in which a page shared by n
processes counts one n-th (`proportional`). CPU seconds are those of the main process. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VOCABULARY = 8_000
MEAN_LENGTH = 25
UPDATES = 3
MEASURED_UPDATE = 2


# the corpus


def make_corpus(folder: Path, sentences: int, seed: int = 1) -> None:
    """Write `train` with so many sentence pairs, and `valid` with a hundred, as seqkit-preprocess would."""
    import numpy as np

    from seqkit.data.indexed_dataset import MMapIndexedDatasetBuilder

    rng = np.random.default_rng(seed)
    # Skewed like text: the square of a uniform number favours small ids.
    stock = (4 + (VOCABULARY - 4) * rng.random(1 << 22) ** 2).astype(np.uint16)
    for language in ("de", "en"):
        words = "".join(f"w{number} {VOCABULARY - number}\n" for number in range(VOCABULARY - 4))
        (folder / f"dict.{language}.txt").write_text(words, encoding="utf-8")
        for split, count in (("train", sentences), ("valid", 100)):
            with MMapIndexedDatasetBuilder(folder / f"{split}.de-en.{language}", np.uint16) as builder:
                for start in range(0, count, 1 << 18):
                    rows = min(1 << 18, count - start)
                    sizes = np.clip(rng.lognormal(np.log(MEAN_LENGTH) - 0.125, 0.5, rows), 2, 250).astype(np.int64)
                    total = int(sizes.sum())
                    values = np.resize(np.roll(stock, -int(rng.integers(len(stock)))), total)
                    values[np.cumsum(sizes) - 1] = 2
                    builder.add_rows(values, sizes)


# the process that is measured


class Clock:
    """Wall and CPU seconds of this process, at named moments and in named calls."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.phases: dict[str, tuple[float, float]] = {}
        self._last = (0.0, 0.0)

    def now(self) -> tuple[float, float]:
        """Wall seconds since the process was started, and its CPU seconds."""
        return time.time() - self.started, time.process_time()

    def end(self, phase: str) -> None:
        """What has passed since the end of the phase before belongs to `phase` (if it has no seconds yet)."""
        now = self.now()
        wall, cpu = (after - before for after, before in zip(now, self._last, strict=True))
        before = self.phases.get(phase, (0.0, 0.0))
        self.phases[phase] = (before[0] + wall, before[1] + cpu)
        self._last = now

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Calls of a function or method are `phase`, what comes before them is `rest`."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*arguments: Any, **settings: Any) -> Any:
            self.end("rest")
            try:
                return function(*arguments, **settings)
            finally:
                self.end(phase)

        setattr(owner, name, timed)


def memory_of(pid: int) -> dict[str, float]:
    """Megabytes of a process, see the top of the file."""
    fields = {}
    for file in ("status", "smaps_rollup"):
        for line in Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines():
            words = line.replace(":", " ").split()
            if len(words) == 3 and words[2] == "kB":
                fields[words[0]] = int(words[1]) / 1024
    return {
        "peak": fields["VmHWM"],
        "resident": fields["Rss"],
        "anonymous": fields["Anonymous"],
        "own": fields["Private_Dirty"],
        "proportional": fields["Pss"],
    }


def children() -> list[int]:
    """Processes that this one has started."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (thread / "children").read_text(encoding="utf-8").split())
    return found


def train(report: Path, started: float, arguments: list[str]) -> int:
    """Run seqkit-train in this process and write what was measured to `report`."""
    clock = Clock(started)
    clock.end("Python")
    import torch

    clock.end("import torch")
    import seqkit_cli.train
    from seqkit.data.iterators import EpochBatchIterator
    from seqkit.data.language_pair_dataset import LanguagePairDataset
    from seqkit.tasks.translation import Translation
    from seqkit.training import build
    from seqkit.training.step import UpdateStep

    clock.end("import seqkit")
    figures: dict[str, Any] = {}
    updates = 0
    run_update = UpdateStep.run
    prepare = seqkit_cli.train.train

    def composed(*positional: Any, **settings: Any) -> Any:
        clock.end("compose the config")
        return prepare(*positional, **settings)

    def measured_update(step: UpdateStep, *positional: Any, **settings: Any) -> Any:
        nonlocal updates
        if not updates:
            clock.end("first batch from the workers")
        result = run_update(step, *positional, **settings)
        updates += 1
        if updates == 1:
            clock.end("first update")
            figures.update(phases=dict(clock.phases), total=clock.now())
        if updates == MEASURED_UPDATE:
            figures["processes"] = [memory_of(pid) for pid in [os.getpid(), *children()]]
        return result

    seqkit_cli.train.train = composed
    UpdateStep.run = measured_update  # type: ignore[method-assign]
    clock.watch(build, "build_task", "dictionaries")
    clock.watch(Translation, "load_dataset", "open the data")
    clock.watch(Translation, "build_model", "model")
    clock.watch(LanguagePairDataset, "ordered_indices", "order the sentences")
    clock.watch(EpochBatchIterator, "_filter", "leave out long ones")
    clock.watch(LanguagePairDataset, "batch_by_size", "cut batches")
    clock.watch(EpochBatchIterator, "next_epoch_itr", "shuffle batches")
    torch.set_num_threads(2)
    code = seqkit_cli.train.main(arguments)
    report.write_text(json.dumps(figures), encoding="utf-8")
    return code


def measure(folder: Path, workers: int) -> dict[str, Any]:
    """Start a process that trains on `folder`; its figures."""
    sides = {"embed_dim": 32, "ffn_embed_dim": 32, "layers": 1, "attention_heads": 2}
    arguments = [
        "task=translation", f"task.data={folder}", "model=transformer", "model.share_decoder_input_output_embed=true",
        *(f"model.{side}_{key}={value}" for side in ("encoder", "decoder") for key, value in sides.items()),
        "criterion=cross_entropy", "optimizer=sgd", "lr_scheduler=fixed", "optimization.lr=[0.1]",
        "dataset.max_tokens=4096", f"optimization.max_update={UPDATES}", f"dataset.num_workers={workers}",
        "dataset.disable_validation=true", "checkpoint.no_save=true", "common.cpu=true", "common.log_format=json",
    ]  # fmt: skip
    report = folder / "report.json"
    command = [sys.executable, __file__, "--report", str(report), "--started", repr(time.time()), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    figures: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return figures


@contextlib.contextmanager
def corpus_folder(keep: Path | None) -> Iterator[Path]:
    """The folder that stays, or a temporary one."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> int:
    """Make the corpus, measure, print the tables of benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1, help="take the fastest of so many runs")
    parser.add_argument("--keep", type=Path, help="make the corpus here, or use the one that is here, and leave it")
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.report is not None:
        return train(arguments.report, arguments.started, rest)
    with corpus_folder(arguments.keep) as folder:
        if not (folder / "train.de-en.en.idx").exists():
            make_corpus(folder, arguments.sentences)
        figures = min((measure(folder, arguments.workers) for _ in range(arguments.runs)), key=lambda run: run["total"])
        data = sum(path.stat().st_size for path in folder.glob("train.*"))
    print(
        f"{arguments.sentences:,} sentence pairs, {data / 1e9:.2f} GB, {platform.machine()}, {os.cpu_count()} cores\n"
    )
    print("| phase | seconds | CPU seconds |\n|---|---|---|")
    for phase, (wall, cpu) in figures["phases"].items():
        print(f"| {phase} | {wall:.2f} | {cpu:.2f} |")
    wall, cpu = figures["total"]
    print(f"| **to the end of the first update** | **{wall:.2f}** | **{cpu:.2f}** |\n")
    columns = ("peak", "resident", "anonymous", "own", "proportional")
    print(f"| process | {' | '.join(columns)} |\n|---|---|---|---|---|---|")
    for number, process in enumerate(figures["processes"]):
        name = f"worker {number}" if number else "main"
        print(f"| {name} | {' | '.join(f'{process[key]:.0f}' for key in columns)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
