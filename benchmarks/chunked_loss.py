"""Memory and time of the loss of a large vocabulary: whole logits beside logits made some positions at a time.

    python benchmarks/chunked_loss.py [--vocabulary 128000] [--tokens 2048] [--width 512] [--chunk 256] [--device cpu]

One forward and backward pass from features to the gradients of features and projection, each way in its own process:
`torch` is `F.linear` and `F.cross_entropy`, `whole` is seqkit's loss of whole logits, `chunked` is
`criterion.chunk_size`. Memory is the peak less what was there before (features, projection, its gradient), on a CPU of
the process's resident size; the loss and the norm of the projection's gradient show that all three compute the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.modules.chunked_linear_cross_entropy import chunked_linear_cross_entropy
from seqkit.modules.fused_cross_entropy import fused_cross_entropy

WAYS = ("torch", "whole", "chunked")
_NOTHING_IGNORED = -1


def loss_of(way: str, features: Tensor, weight: Tensor, target: Tensor, chunk: int) -> Tensor:
    """The summed cross-entropy, computed one way."""
    if way == "torch":
        return F.cross_entropy(F.linear(features, weight).float(), target, reduction="sum")
    if way == "whole":
        logits = F.linear(features, weight)
        return fused_cross_entropy(logits=logits, target=target, ignore_index=_NOTHING_IGNORED, overwrite_logits=True)[
            0
        ]
    return chunked_linear_cross_entropy(
        features=features, weight=weight, target=target, ignore_index=_NOTHING_IGNORED, chunk_size=chunk
    )[0]


def peak_mebibytes(device: torch.device) -> float:
    """The most memory that was in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, options: argparse.Namespace) -> dict[str, float]:
    """One way, in this process."""
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    torch.manual_seed(1)
    features = torch.randn(options.tokens, options.width).to(device, dtype).requires_grad_()
    weight = (torch.randn(options.vocabulary, options.width) * options.width**-0.5).to(device, dtype).requires_grad_()
    target = torch.randint(options.vocabulary, (options.tokens,)).to(device)
    weight.grad = torch.zeros_like(weight)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = peak_mebibytes(device)
    started = time.perf_counter()
    loss = loss_of(way, features, weight, target, options.chunk)
    loss.backward()  # type: ignore[no-untyped-call]
    result = {"loss": float(loss.detach()), "gradient": float(weight.grad.float().norm())}
    return {**result, "seconds": time.perf_counter() - started, "mebibytes": peak_mebibytes(device) - before}


def main() -> int:
    """Measure all ways and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=128_000)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options)))
        return 0
    logits = options.vocabulary * options.tokens * torch.finfo(getattr(torch, options.dtype)).bits / 8 / 2**20
    print(
        f"{options.tokens} tokens, vocabulary {options.vocabulary}, width {options.width}: logits of {logits:.0f} MiB"
    )
    print(f"{'way':<10}{'MiB above':>12}{'seconds':>10}{'loss':>16}{'gradient':>14}")
    for way in WAYS:
        command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{way:<10}{row['mebibytes']:>12.0f}{row['seconds']:>10.2f}{row['loss']:>16.4f}{row['gradient']:>14.6f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
