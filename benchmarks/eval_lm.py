"""Evaluation of a language model with a context window, beside reading every window anew with all its logits.

    python benchmarks/eval_lm.py checkpoints/checkpoint_best.pt data-bin [--context 32 48] [--rounds 7] [--blocks 512]

Three ways to score the same blocks of one text, in one process, taking turns:

- every window anew, as fairseq-eval-lm does: the model's whole output, log-probabilities of all positions, of which
  those of the block are taken (done plainly here, without fairseq's loop over hypotheses);
- `seqkit-eval-lm`: the same figures, where the context goes no further than the last layer's keys and values;
- `seqkit-eval-lm eval_lm.reuse_context=true`: each token is read once (for models that can).

Tokens are those scored; each way scores the same in a round. Medians over the rounds, a first one left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from seqkit.data.lm_context_window_dataset import LMContextWindowDataset
from seqkit.data.monolingual_dataset import MonolingualDataset
from seqkit.generation.ensemble import Ensemble
from seqkit.generation.sequence_scorer import score_stretches, score_targets
from seqkit.hub import Hub, from_pretrained
from seqkit.models.base import LanguageModel
from seqkit_cli._memory import keep_freed_memory

ROWS = 64
STRETCH, AT_ONCE = 16, 128  # as seqkit-eval-lm reads text

Way = Callable[[], tuple[int, float]]
"""Scores the text; returns how many tokens, and the sum of their log-probabilities."""


def main() -> None:
    """Measure and print rows of the table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--subset", default="valid")
    parser.add_argument("--context", type=int, nargs="+", default=[32, 48])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--blocks", type=int, default=512, help="blocks of the text that are scored in a round")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    keep_freed_memory()  # as seqkit-eval-lm does
    hub = from_pretrained(arguments.checkpoint, data=arguments.data, cpu=True)
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}\n")
    print("| model | window | context | way | tokens/s | of CPU time | times as fast | of CPU time | loss (base 2) |")
    print("|---|---|---|---|---|---|---|---|---|")
    for context in arguments.context:
        measure(hub, arguments, context)


@torch.inference_mode()
def measure(hub: Hub, arguments: argparse.Namespace, context: int) -> None:
    """Let the ways take turns, and print a row of each."""
    (model,) = hub.models
    assert isinstance(model, LanguageModel)
    window = hub.task.config.tokens_per_sample
    ways = ways_to_score(hub, model, arguments, context)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    figures: dict[str, tuple[int, float]] = {}
    for _ in range(arguments.rounds + 1):
        for name, way in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            figures[name] = way()
            taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
    first, *_ = ways
    for name, rounds in taken.items():
        tokens, log_prob = figures[name]
        if tokens != figures[first][0]:
            raise SystemExit(f"{name} scored {tokens} tokens, {first} {figures[first][0]}")
        speeds = [tokens / statistics.median(seconds[kind] for seconds in rounds[1:]) for kind in (0, 1)]
        pairs = list(zip(taken[first][1:], rounds[1:], strict=True))
        ratios = [statistics.median(other[kind] / own[kind] for other, own in pairs) for kind in (0, 1)]
        loss = -log_prob / tokens / math.log(2)
        print(
            f"| `{model.config._name}` | {window} | {context} | {name} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | "
            f"{ratios[0]:.2f} | {ratios[1]:.2f} | {loss:.4f} |"
        )


def ways_to_score(hub: Hub, model: LanguageModel, arguments: argparse.Namespace, context: int) -> dict[str, Way]:
    """The ways, by name, each over the same blocks."""
    pad, block = hub.target_dictionary.pad(), hub.task.config.tokens_per_sample - context
    per_stretch = 1 + -(-STRETCH * context // block)
    blocks = arguments.blocks // per_stretch * per_stretch or per_stretch
    ensemble = Ensemble([model])
    windows = list(batches(hub, arguments.subset, block, context, blocks))

    def all_logits() -> tuple[int, float]:
        total, count = 0.0, 0
        for sample in windows:
            target = sample["target"]
            log_probs = model.normalized_probs(model(**sample["net_input"]).logits, log_probs=True)
            scored = target.ne(pad)
            total += float(log_probs.gather(2, target.unsqueeze(2)).squeeze(2)[scored].double().sum())
            count += int(scored.sum())
        return count, total

    def scored_alone() -> tuple[int, float]:
        total, count = 0.0, 0
        for sample in windows:
            scores, _ = score_targets(ensemble, sample["net_input"], sample["target"], pad=pad)
            total, count = total + float(scores.double().sum()), count + int(sample["target"].ne(pad).sum())
        return count, total

    ways: dict[str, Way] = {"every window anew, all logits": all_logits, "`seqkit-eval-lm`": scored_alone}
    if model.decoder.why_not_carried_on() is None:
        at_once = max(max(context, AT_ONCE) // block, 1)
        stretches = list(batches(hub, arguments.subset, per_stretch * block, context, blocks // per_stretch))

        def carried_on() -> tuple[int, float]:
            total, count = 0.0, 0
            for sample in stretches:
                tokens, target = sample["net_input"]["src_tokens"], sample["target"]
                scores = score_stretches(
                    ensemble, tokens, target, pad=pad, block=block, context=context, at_once=at_once
                )
                total, count = total + float(scores.double().sum()), count + int(target.ne(pad).sum())
            return count, total

        ways["`eval_lm.reuse_context=true`"] = carried_on
    return ways


def batches(hub: Hub, subset: str, size: int, context: int, count: int) -> Iterator[Any]:
    """The first `count` pieces of `size` tokens, each behind its context, some at a time."""
    own = hub.task.config
    hub.task.config = dataclasses.replace(own, tokens_per_sample=size)
    rows = hub.task.load_dataset(subset)
    hub.task.config = own
    assert isinstance(rows, MonolingualDataset)
    windows = LMContextWindowDataset(rows, size, context, rows.src_dict.pad())
    if len(windows) <= count:
        raise SystemExit(f"{subset} has only {len(windows)} pieces of {size} tokens; lower --blocks")
    for start in range(0, count, ROWS):
        yield windows.collater([windows[index] for index in range(start, min(start + ROWS, count))])


if __name__ == "__main__":
    main()
