"""Training speed on the CPU: target words per second of a small translation model, beside the machine's own speed.

    python benchmarks/train.py data-bin [--updates 60]

`data-bin` is Multi30k German-English with 8,000 joint merges and a joined dictionary (examples/translation/README.md).
The model is fairseq's `transformer`, 128 wide, 3+3 layers, feed-forward 256, 4 heads, shared embeddings,
batches of at most 4,096 tokens. A 1024 x 1024 x 1024 float32 product is timed before and after, because these machines
differ: the reference figure (4,400 words/s at 175 GFLOP/s) is scaled by it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

REFERENCE_WORDS_PER_SECOND = 4400.0
REFERENCE_GFLOPS = 175.0


def product_gflops(size: int = 1024, repeats: int = 40) -> float:
    """Billions of floating-point operations per second of a square float32 product (the median run)."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / sorted(seconds)[repeats // 2] / 1e9


def overrides(data: Path, updates: int, save_dir: Path) -> list[str]:
    """The training as arguments of `seqkit-train`."""
    return [
        "task=translation", f"task.data={data}", "model=transformer",
        *(f"model.{side}_{key}={value}" for side in ("encoder", "decoder") for key, value in
          {"embed_dim": 128, "ffn_embed_dim": 256, "layers": 3, "attention_heads": 4}.items()),
        "model.share_all_embeddings=true", "model.dropout=0.3", "criterion=label_smoothed_cross_entropy",
        "criterion.label_smoothing=0.1", "optimizer=adam", "optimizer.adam_betas=[0.9,0.98]",
        "lr_scheduler=inverse_sqrt", "lr_scheduler.warmup_updates=800", "optimization.lr=[2e-3]",
        "optimization.clip_norm=1.0", "dataset.max_tokens=4096", f"optimization.max_update={updates}",
        "dataset.disable_validation=true", "checkpoint.no_save=true", "common.cpu=true", "common.log_format=json",
        "common.log_interval=10", f"checkpoint.save_dir={save_dir}",
    ]  # fmt: skip


def train(
    data: Path, updates: int, save_dir: Path, more: Sequence[str] = (), threads: int | None = None
) -> list[dict[str, str]]:
    """Train for `updates` updates, with more overrides; the JSON log lines, one for every ten updates."""
    command = [sys.executable, "-m", "seqkit_cli.train", *overrides(data, updates, save_dir), *more]
    environment = os.environ if threads is None else {**os.environ, "OMP_NUM_THREADS": str(threads)}
    result = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rows = []
    for line in (result.stdout + result.stderr).splitlines():
        start = line.find("{")
        if start >= 0 and '"wps"' in line:
            row = json.loads(line[start:])
            if "num_updates" in row:
                rows.append(row)
    return rows


def words_per_second(rows: list[dict[str, str]]) -> float:
    """The median of the log lines, but for the first, which holds the start-up."""
    return statistics.median(float(row["wps"]) for row in rows[1:])


def main() -> None:
    """Measure and print one row of the table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--updates", type=int, default=60)
    arguments = parser.parse_args()
    before = product_gflops()
    with tempfile.TemporaryDirectory() as folder:
        rows = train(arguments.data.resolve(), arguments.updates, Path(folder))
    after = product_gflops()
    gflops = (before + after) / 2
    words = words_per_second(rows)
    expected = REFERENCE_WORDS_PER_SECOND * gflops / REFERENCE_GFLOPS
    print("| machine | torch | product, GFLOP/s | words/s | fairseq, scaled | ratio |")
    print("|---|---|---|---|---|---|")
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
    print(
        f"| {machine} | {torch.__version__} | {before:.0f} / {after:.0f} | {words:.0f} | {expected:.0f} "
        f"| {words / expected:.2f} |"
    )


if __name__ == "__main__":
    main()
