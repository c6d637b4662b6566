"""How long every command takes to answer `--help`: the best of several runs of a new process each.

python benchmarks/help.py
"""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = (
    *("preprocess", "train", "validate", "generate", "interactive", "eval-lm"),
    *("score", "average", "convert", "export", "plot"),
)
RUNS = 5


def seconds(command: str) -> float:
    """Wall time of `seqkit-<command> --help`, the shortest of `RUNS`."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        module = f"seqkit_cli.{command.replace('-', '_')}"
        subprocess.run([sys.executable, "-m", module, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table of benchmarks/README.md."""
    print("| command | seconds |\n|---|---|")
    for command in COMMANDS:
        print(f"| `seqkit-{command} --help` | {seconds(command):.2f} |")


if __name__ == "__main__":
    main()
