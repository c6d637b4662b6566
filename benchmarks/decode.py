"""Decoding speed on the CPU: seqkit beside CTranslate2, which gets the same weights, interleaved in one run.

    python benchmarks/decode.py checkpoints/checkpoint_best.pt data-bin [--beam 5] [--batch-size 64] [--rounds 5]

The model must be a `transformer` that `seqkit-export --format ctranslate2` takes. Its weights are written in
CTranslate2's layout (float32) into a temporary folder. Both systems get the split's source tokens and give target
tokens; reading the data from disk and turning ids into words count, loading models does not. Outputs are compared. A
1024 x 1024 x 1024 float32 product is timed as well, because machines differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time

import ctranslate2
import torch

from seqkit.data.language_pair_dataset import LanguagePairDataset
from seqkit.hub import Hub, from_pretrained
from seqkit.interop.ctranslate2_export import export_ctranslate2
from seqkit.interop.exports import symbols_of
from seqkit_cli._memory import keep_freed_memory

GOAL = 0.6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--subset", default="test")
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    keep_freed_memory()  # as seqkit-generate does
    torch.set_num_threads(args.threads)
    hub = from_pretrained(
        args.checkpoint, data=args.data, cpu=True, beam=args.beam, batch_size=args.batch_size, num_workers=0
    )
    dataset = hub.task.load_dataset(args.subset)
    assert isinstance(dataset, LanguagePairDataset)
    with tempfile.TemporaryDirectory() as folder:
        (model,) = hub.models
        export_ctranslate2(model, symbols_of(hub.task), folder)
        translator = ctranslate2.Translator(folder, device="cpu", compute_type="float32", intra_threads=args.threads)
        ours, theirs, seconds = compete(hub, translator, dataset, args)

    load = os.getloadavg()[0]
    words = sum(len(line.split()) for line in ours)
    print(f"{len(ours):,} sentences, {words:,} words out, beam {args.beam}, batch {args.batch_size}, ", end="")
    print(f"{args.threads} threads, {product_gflops():.0f} GFLOP/s, load {load:.1f}; medians of {args.rounds} rounds\n")
    print("| system | seconds | fastest | sentences/s |\n|---|---|---|---|")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"| {name} | {median:.2f} | {min(taken):.2f} | {len(ours) / median:.0f} |")
    ratio = statistics.median(
        other / mine for mine, other in zip(seconds["seqkit"], seconds["CTranslate2"], strict=True)
    )
    equal = sum(mine == other for mine, other in zip(ours, theirs, strict=True)) / len(ours)
    print(f"\nthroughput of seqkit / CTranslate2: {ratio:.2f} (goal: at least {GOAL}); equal outputs: {equal:.1%}")
    return 0


def compete(
    hub: Hub, translator: ctranslate2.Translator, dataset: LanguagePairDataset, args: argparse.Namespace
) -> tuple[list[str], list[str], dict[str, list[float]]]:
    """Outputs of both systems, and their seconds in each round (the first round warms up and is not counted)."""
    seconds: dict[str, list[float]] = {"seqkit": [], "CTranslate2": []}
    ours: list[str] = []
    theirs: list[str] = []
    for number in range(args.rounds + 1):
        start = time.perf_counter()
        ours = decode_with_seqkit(hub, dataset)
        middle = time.perf_counter()
        theirs = decode_with_ctranslate2(translator, dataset, args.beam, args.batch_size)
        end = time.perf_counter()
        if number:
            seconds["seqkit"].append(middle - start)
            seconds["CTranslate2"].append(end - middle)
    return ours, theirs, seconds


def decode_with_seqkit(hub: Hub, dataset: LanguagePairDataset) -> list[str]:
    outputs: dict[int, str] = {}
    for results in hub.decode_batches(hub.batches(dataset), dataset):
        for result in results:
            outputs[result.id] = result.hypotheses[0].pieces
    return [outputs[number] for number in range(len(dataset))]


def decode_with_ctranslate2(
    translator: ctranslate2.Translator, dataset: LanguagePairDataset, beam: int, batch_size: int
) -> list[str]:
    symbols = dataset.src_dict.symbols
    # It puts EOS behind them itself.
    sources = [[symbols[token] for token in dataset.src[number].tolist()[:-1]] for number in range(len(dataset))]
    results = translator.translate_batch(
        sources, beam_size=beam, max_batch_size=batch_size, max_decoding_length=200, length_penalty=1.0
    )
    return [" ".join(result.hypotheses[0]) for result in results]


def product_gflops(size: int = 1024, repeats: int = 20) -> float:
    """Billions of floating-point operations per second of a square float32 product (the median run)."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds) / 1e9


if __name__ == "__main__":
    sys.exit(main())
