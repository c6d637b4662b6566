"""A training of `seqkit-train` that takes no time: data of letters, and a model of eight channels."""

from __future__ import annotations

import random
from pathlib import Path

from seqkit_cli.preprocess import main as preprocess


def tiny_data(folder: Path, train: int, valid: int) -> Path:
    """Binary data of so many sentences, made in `folder`; returns where it lies."""
    rng = random.Random(1)
    for split, count in (("train", train), ("valid", valid)):
        lines = [[rng.choice("abcdefgh") for _ in range(rng.randint(2, 7))] for _ in range(count)]
        for side in ("de", "en"):
            (folder / f"{split}.{side}").write_text("".join(" ".join(line) + "\n" for line in lines))
    flags = ["-s", "de", "-t", "en", "--trainpref", str(folder / "train"), "--validpref", str(folder / "valid")]
    assert preprocess([*flags, "--destdir", str(folder / "bin")]) == 0
    return folder / "bin"


def tiny_training(data: Path, folder: Path) -> list[str]:
    """Arguments of a training that logs JSON lines to `folder`/log and saves to `folder`/checkpoints."""
    return [
        "task=translation",
        f"task.data={data}",
        "model=transformer",
        *(f"model.{side}_{name}" for side in ("encoder", "decoder") for name in ("embed_dim=8", "ffn_embed_dim=8")),
        *(f"model.{side}_{name}" for side in ("encoder", "decoder") for name in ("layers=1", "attention_heads=1")),
        "optimizer=adam",
        "dataset.max_tokens=100",
        "dataset.num_workers=0",
        "common.cpu=true",
        "common.log_format=json",
        f"common.log_file={folder / 'log'}",
        f"checkpoint.save_dir={folder / 'checkpoints'}",
        "checkpoint.no_epoch_checkpoints=true",
    ]
