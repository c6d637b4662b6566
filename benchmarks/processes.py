"""Training speed of one process and of two on the CPU, with the same sentences in every update.

    python benchmarks/processes.py data-bin [--updates 40] [--rounds 3]

The data and the model are those of `benchmarks/train.py`; the ways take turns, one round after the other, because the
machine's speed changes. Two processes exchange their gradients by gloo and have a thread each; one process makes the
same update of two batches (`optimization.update_freq=[2]`), with one thread and with two.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from train import product_gflops, train, words_per_second

WAYS = {
    "1 process, 1 thread": (["optimization.update_freq=[2]"], 1),
    "1 process, 2 threads": (["optimization.update_freq=[2]"], 2),
    "2 processes, 1 thread each": (["distributed_training.distributed_world_size=2"], 1),
}


def main() -> None:
    """Measure and print the table of benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    load, gflops = os.getloadavg()[0], product_gflops()
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for way, (more, threads) in WAYS.items():
                rows = train(arguments.data.resolve(), arguments.updates, Path(folder), more, threads)
                speeds[way].append(words_per_second(rows))
    first = next(iter(speeds.values()))
    print("| way | words/s | beside the first |\n|---|---|---|")
    for way, found in speeds.items():
        ratio = statistics.median(speed / base for speed, base in zip(found, first, strict=True))
        print(f"| {way} | {statistics.median(found):.0f} | {ratio:.2f} |")
    print(f"\n{arguments.rounds} rounds of {arguments.updates} updates; ", end="")
    print(f"{os.cpu_count()} cores, {gflops:.0f} GFLOP/s, load {load:.1f}")


if __name__ == "__main__":
    main()
