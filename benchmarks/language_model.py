"""Training speed of small language models on the CPU, beside plain PyTorch doing the same.

    python benchmarks/language_model.py [--model decoder_lm transformer_lm] [--rounds 12] [--updates 25]

The models are of the CPU-sized Shakespeare recipe: 4 layers, 4 heads, 128 wide, 65 characters, batches of 12 blocks of
64. On one side seqkit's trainer as `seqkit-train` runs it, on random text in a data-bin; on the other the same model
written out plainly as one would for oneself (after the manner of nanoGPT, with a fused projection of queries, keys and
values), with `F.cross_entropy`, `clip_grad_norm_` and `torch.optim.AdamW`. They take turns within one run, some updates
each, because these machines vary from minute to minute; the figures are medians over the rounds, and the ratio is that
of each round.
"""

from __future__ import annotations

import argparse
import logging
import math
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.config.compose import compose
from seqkit.data.indexed_dataset import MMapIndexedDatasetBuilder
from seqkit.training.build import build_trainer
from seqkit.training.observer import Observer, UpdateRecord
from seqkit_cli._memory import keep_freed_memory

CHARACTERS, LAYERS, HEADS, WIDTH, BLOCK, BATCH = 65, 4, 4, 128, 64, 12
WORDS = CHARACTERS + 7  # as the dictionary has it: special symbols, and filled up to a multiple of 8
FEED_FORWARD = {"decoder_lm": 384, "transformer_lm": 512}
OPTIONS = {
    "decoder_lm": {},
    "transformer_lm": {
        "decoder_input_dim": WIDTH,
        "decoder_output_dim": WIDTH,
        "decoder_normalize_before": True,
        "decoder_learned_pos": True,
        "no_scale_embedding": True,
        "activation_fn": "gelu",
        "dropout": 0.0,
    },
}


# the plain models


class PlainAttention(nn.Module):
    """Causal self-attention, with or without rotary positions."""

    def __init__(self, *, bias: bool, rotary: bool) -> None:
        super().__init__()
        self.rotary = rotary
        self.inputs = nn.Linear(WIDTH, 3 * WIDTH, bias=bias)
        self.output = nn.Linear(WIDTH, WIDTH, bias=bias)
        head = WIDTH // HEADS
        angle = torch.arange(BLOCK).unsqueeze(1) * 10000.0 ** -(torch.arange(0, head, 2) / head)
        angle = torch.cat((angle, angle), dim=-1)
        self.register_buffer("cosine", angle.cos(), persistent=False)
        self.register_buffer("sine", angle.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        batch, length, _ = x.shape
        queries, keys, values = (
            part.view(batch, length, HEADS, -1).transpose(1, 2) for part in self.inputs(x).split(WIDTH, dim=2)
        )
        if self.rotary:
            queries, keys = self.turned(queries), self.turned(keys)
        context = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return self.output(context.transpose(1, 2).reshape(batch, length, WIDTH))

    def turned(self, x: Tensor) -> Tensor:
        """Rotary positions, the usual way."""
        first, second = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat((-second, first), dim=-1) * self.sine


class PlainGated(nn.Module):
    """SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        inner = FEED_FORWARD["decoder_lm"]
        self.gate, self.up = nn.Linear(WIDTH, inner, bias=False), nn.Linear(WIDTH, inner, bias=False)
        self.down = nn.Linear(inner, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class PlainBlock(nn.Module):
    """Attention and feed-forward, each behind a norm and added."""

    def __init__(self, name: str) -> None:
        super().__init__()
        modern = name == "decoder_lm"
        norm: Callable[[int], nn.Module] = nn.RMSNorm if modern else nn.LayerNorm
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.attention = PlainAttention(bias=not modern, rotary=modern)
        inner = FEED_FORWARD[name]
        self.feed_forward = (
            PlainGated() if modern else nn.Sequential(nn.Linear(WIDTH, inner), nn.GELU(), nn.Linear(inner, WIDTH))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class PlainModel(nn.Module):
    """Embedding, blocks, norm, tied projection; the loss."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = None if name == "decoder_lm" else nn.Embedding(BLOCK + 2, WIDTH)
        self.blocks = nn.ModuleList([PlainBlock(name) for _ in range(LAYERS)])
        self.norm = nn.RMSNorm(WIDTH) if name == "decoder_lm" else nn.LayerNorm(WIDTH)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of (B, T)."""
        x = self.words(tokens)
        if self.places is not None:
            x = x + self.places.weight[2 : 2 + tokens.size(1)]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.words.weight)
        return F.cross_entropy(logits.flatten(0, 1), target.flatten())


class PlainTraining:
    """The plain model's training loop."""

    def __init__(self, name: str, text: Tensor) -> None:
        self.model = PlainModel(name)
        self.text = text
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)

    def updates(self, count: int) -> None:
        """Do so many updates on blocks drawn from the text."""
        for _ in range(count):
            starts = torch.randint(len(self.text) - BLOCK, (BATCH,)).tolist()
            tokens = torch.stack([self.text[start : start + BLOCK] for start in starts])
            target = torch.stack([self.text[start + 1 : start + 1 + BLOCK] for start in starts])
            loss = self.model(tokens, target)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            if not math.isfinite(loss.item()):
                raise SystemExit("the plain model diverged")


# seqkit's side


class TakingTurns(Observer):
    """After every few updates of seqkit's trainer, lets the plain loop do as many; times both."""

    def __init__(self, plain: PlainTraining, updates: int) -> None:
        self.plain = plain
        self.updates = updates
        self.ours: list[tuple[float, float]] = []
        self.theirs: list[tuple[float, float]] = []
        self.start = _now()

    def on_update(self, update: UpdateRecord) -> None:
        """An update of seqkit's is done."""
        if update.num_updates % self.updates:
            return
        middle = _now()
        self.plain.updates(self.updates)
        end = _now()
        if update.num_updates > self.updates:  # the first round holds the start-up
            self.ours.append(_difference(self.start, middle))
            self.theirs.append(_difference(middle, end))
        self.start = _now()


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _difference(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


def write_data(folder: Path) -> Tensor:
    """A data-bin of random characters in lines; returns its tokens."""
    symbols = [chr(0x100 + number) for number in range(CHARACTERS)]
    filled = [f"madeupword{number:04d}" for number in range(WORDS - 4 - CHARACTERS)]
    lines = "".join(f"{symbol} {int(symbol in symbols)}\n" for symbol in [*symbols, *filled])
    (folder / "dict.txt").write_text(lines, encoding="utf-8")
    rng = np.random.default_rng(1)
    with MMapIndexedDatasetBuilder(folder / "train", np.uint16) as builder:
        sizes = rng.integers(10, 60, 20_000)
        values = rng.integers(4, 4 + CHARACTERS, int(sizes.sum())).astype(np.uint16)
        values[np.cumsum(sizes) - 1] = 2
        builder.add_rows(values, sizes)
    return torch.from_numpy(values.astype(np.int64))


def measure(name: str, rounds: int, updates: int) -> TakingTurns:
    """Train both for `rounds` rounds (and one before them that does not count)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        turns = TakingTurns(PlainTraining(name, write_data(folder)), updates)
        model = {
            "decoder_embed_dim": WIDTH,
            "decoder_layers": LAYERS,
            "decoder_attention_heads": HEADS,
            "decoder_ffn_embed_dim": FEED_FORWARD[name],
            "share_decoder_input_output_embed": True,
            **OPTIONS[name],
        }
        config = compose(
            overrides=[
                "task=language_modeling", f"task.data={folder}", f"task.tokens_per_sample={BLOCK}", f"model={name}",
                *(f"model.{key}={value}" for key, value in model.items()), "criterion=cross_entropy", "optimizer=adam",
                "optimizer.adam_betas=[0.9,0.99]", "optimizer.weight_decay=0.1", "lr_scheduler=fixed",
                "optimization.lr=[1e-3]", "optimization.clip_norm=1.0", f"dataset.batch_size={BATCH}",
                f"optimization.max_update={(rounds + 1) * updates}", "dataset.disable_validation=true",
                "dataset.num_workers=0", "checkpoint.no_save=true", "common.cpu=true", "common.log_format=none",
                f"checkpoint.save_dir={folder / 'checkpoints'}",
            ]
        )  # fmt: skip
        trainer = build_trainer(config, observers=[turns])
        ours = sum(parameter.numel() for parameter in trainer.parts.model.parameters())
        theirs = sum(parameter.numel() for parameter in turns.plain.model.parameters())
        if ours != theirs:
            raise SystemExit(f"the models are not the same: {ours} and {theirs} parameters")
        turns.start = _now()
        trainer.train()
    return turns


def main() -> None:
    """Measure and print rows of the table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--updates", type=int, default=25, help="updates of each side in a round")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    keep_freed_memory()
    print("| model | machine | torch | seqkit, tokens/s | plain PyTorch, tokens/s | ratio | ratio of CPU time |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.model:
        turns = measure(name, arguments.rounds, arguments.updates)
        tokens = arguments.updates * BATCH * BLOCK
        ours, theirs = (tokens / statistics.median(wall for wall, _ in side) for side in (turns.ours, turns.theirs))
        pairs = list(zip(turns.ours, turns.theirs, strict=True))
        wall, processor = (statistics.median(plain[at] / own[at] for own, plain in pairs) for at in (0, 1))
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads"
        print(
            f"| {name} | {machine} | {torch.__version__} | {ours:,.0f} | {theirs:,.0f} | {wall:.2f} | {processor:.2f} |"
        )


if __name__ == "__main__":
    main()
