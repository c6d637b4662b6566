"""Time and memory of `seqkit-preprocess` on Multi30k German-English, repeated many times.

    python benchmarks/preprocess.py path/to/multi30k [--times 20] [--workers 1]

The folder holds `train.de`, `train.en` and the subword-nmt codes `bpe8k.deen.codes`. Prints a row of the table in
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seqkit.data.encoders.bpe.subword_nmt import SubwordNmt, SubwordNmtConfig


def main() -> int:
    """Make the corpus, run the command, print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("multi30k", type=Path, help="folder with train.de, train.en and the codes")
    parser.add_argument("--codes", default="bpe8k.deen.codes", help="subword codes, inside that folder")
    parser.add_argument("--times", type=int, default=20, help="how often the training text is repeated")
    parser.add_argument("--workers", type=int, default=1, help="passed on to seqkit-preprocess")
    options = parser.parse_args()
    encoder = SubwordNmt(SubwordNmtConfig(bpe_codes=str(options.multi30k / options.codes)))
    with tempfile.TemporaryDirectory() as folder:
        lines = tokens = 0
        for language in ("de", "en"):
            text = (options.multi30k / f"train.{language}").read_text(encoding="utf-8").splitlines()
            encoded = [encoder.encode(line) for line in text]
            lines += options.times * len(encoded)
            tokens += options.times * sum(len(line.split()) + 1 for line in encoded)
            with open(Path(folder, f"train.{language}"), "w", encoding="utf-8") as file:
                for _ in range(options.times):
                    file.writelines(f"{line}\n" for line in encoded)
        command = [sys.executable, "-m", "seqkit_cli.preprocess", "--source-lang", "de", "--target-lang", "en"]
        command += ["--trainpref", f"{folder}/train", "--joined-dictionary", "--destdir", f"{folder}/data-bin"]
        command += ["--workers", str(options.workers)]
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    machine = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} before"
    figures = f"{seconds:.1f} | {used.ru_utime + used.ru_stime:.1f} | {used.ru_maxrss / 1024:.0f}"
    print(f"| {lines:,} | {tokens:,} | {options.workers} | {figures} | {machine} |")
    return 0


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
