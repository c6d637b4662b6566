"""Small components for tests of the configuration: their registries need no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from seqkit.config.base import MISSING, Config, option
from seqkit.registry import registry


@dataclass
class ToyTaskConfig(Config):
    """Options of the toy task."""

    data: str = option(MISSING, "the data folder", positional=True)
    source_lang: str | None = option(None, "source language", flags=("--source-lang", "-s"))
    left_pad_source: bool = option(True, "pad on the left")
    max_source_positions: int = option(1024, "longest source", low=1)
    train_subset: str = option("train", "split", follows="dataset.train_subset")


@dataclass
class ToyModelConfig(Config):
    """Options of the toy model."""

    width: int = option(8, "width", low=1)
    dropout: float = option(0.1, "dropout", low=0.0, high=1.0)
    encoder_layers: int = option(2, "layers", low=1)
    max_source_positions: int = option(1024, "longest source", follows="task.max_source_positions")


@dataclass
class ToyOptimizerConfig(Config):
    """Options of the toy optimizer."""

    toy_betas: list[float] = option([0.9, 0.999], "decays", low=0.0, high=1.0)
    weight_decay: float = option(0.0, "weight decay", low=0.0)
    lr: list[float] = option([0.25], "rate", follows="optimization.lr")


@dataclass
class OtherOptimizerConfig(Config):
    """Options of the other toy optimizer."""

    momentum: float = option(0.0, "momentum", low=0.0)
    lr: list[float] = option([0.25], "rate", follows="optimization.lr")


@dataclass
class ToyBPEConfig(Config):
    """Options of the toy subword encoder."""

    toy_codes: str | None = option(None, "codes", bare="built-in")


TOYS: dict[str, dict[str, type[Config]]] = {
    "task": {"toy_task": ToyTaskConfig},
    "model": {"toy_model": ToyModelConfig},
    "optimizer": {"toy_optimizer": ToyOptimizerConfig, "other_optimizer": OtherOptimizerConfig},
    "bpe": {"toy_bpe": ToyBPEConfig},
    "criterion": {"toy_criterion": Config},
    "lr_scheduler": {"toy_schedule": Config},
    "scoring": {"toy_score": Config},
}
PLAIN = ["criterion=toy_criterion", "lr_scheduler=toy_schedule", "scoring=toy_score"]
"""Overrides that keep seqkit's own default components, which need torch, out of a test."""
PLAIN_DICT = {"criterion": "toy_criterion", "lr_scheduler": "toy_schedule", "scoring": "toy_score"}


def register_toys() -> Iterator[None]:
    """Register the toys for the length of a test."""
    for kind, members in TOYS.items():
        for name, config in members.items():
            registry(kind).register(name, config=config)(type(name, (), {"__doc__": f"The {name}."}))
    yield
    for kind, members in TOYS.items():
        for name in members:
            registry(kind).unregister(name)


toys = pytest.fixture(register_toys)
