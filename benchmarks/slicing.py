"""How long it takes to cut a corpus of 100 million tokens into blocks, by break mode.

    python benchmarks/slicing.py [--tokens 100000000] [--block 512] [--rounds 3]

Sentences of 1 to 49 tokens, one in twenty of them an empty line. Seconds are the least of the rounds; those of the
processor (`CPU s`) are what counts on a shared machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqkit.data.token_block_dataset import BREAK_MODES, TokenBlockDataset


class NoRows(Sequence[Tensor]):
    """Stands for the text: cutting it reads lengths alone."""

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: object) -> Tensor:  # type: ignore[override]
        return torch.empty(0)


def main() -> None:
    """Measure and print the table of benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    sizes = rng.integers(2, 50, arguments.tokens // 24).astype(np.int32)
    sizes[rng.random(len(sizes)) < 0.05] = 1  # an EOS alone
    sizes = sizes[: int(np.searchsorted(np.cumsum(sizes, dtype=np.int64), arguments.tokens))]
    print(f"{int(sizes.sum()):,} tokens, {len(sizes):,} sentences, blocks of {arguments.block}\n")
    print("| break mode | blocks | seconds | CPU s |\n|---|---|---|---|")
    for mode in BREAK_MODES:
        taken = []
        for _ in range(arguments.rounds):
            wall, processor = time.perf_counter(), time.process_time()
            dataset = TokenBlockDataset(NoRows(), sizes, arguments.block, pad=1, eos=2, break_mode=mode)
            taken.append((time.perf_counter() - wall, time.process_time() - processor))
        seconds, of_processor = (min(column) for column in zip(*taken, strict=True))
        print(f"| {mode} | {len(dataset):,} | {seconds:.2f} | {of_processor:.2f} |")


if __name__ == "__main__":
    main()
