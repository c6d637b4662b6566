"""What is told of a training before it begins."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from seqkit.training.build import build_trainer
from seqkit.training.report import batch_statistics, model_parts, parts_table
from tests.unit.training.toy import ToyRows, toy_config


class Tied(nn.Module):
    """Two layers and an output that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.embed = nn.Embedding(10, 4)
        self.encoder.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.output = nn.Linear(4, 10, bias=True)
        self.output.weight = self.encoder.embed.weight
        self.scale = nn.Parameter(torch.ones(3), requires_grad=False)


def test_parts_count_every_number_once() -> None:
    model = Tied()
    criterion = nn.Linear(4, 1, bias=False)
    parts = {part.name: part for part in model_parts(model, criterion)}
    assert list(parts) == ["scale", "encoder.embed", "encoder.layers", "output", "criterion"]
    assert sum(part.parameters for part in parts.values()) == sum(
        param.numel() for param in [*model.parameters(), *criterion.parameters()]
    )
    assert parts["encoder.layers"].modules == 2
    assert (parts["output"].parameters, parts["output"].shared, parts["output"].shared_with) == (
        10,
        40,
        ("encoder.embed",),
    )
    assert parts["scale"].trained == 0


def test_table_of_parts() -> None:
    lines = parts_table(model_parts(Tied(), nn.Identity())).splitlines()
    assert lines[0].split() == ["part", "parameters", "trained", "share"]
    assert lines[3].split() == ["encoder.layers", "(2)", "40", "40", "43.0%"]
    assert lines[4].endswith("40 shared with encoder.embed")
    assert lines[-1].split() == ["all", "93", "90", "100.0%"]


def test_the_tree_of_modules_is_only_for_debugging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="seqkit.training.report")
    build_trainer(toy_config(tmp_path))
    by_level = {record.levelno: record.getMessage() for record in caplog.records if "Toy" in record.getMessage()}
    assert set(by_level) == {logging.DEBUG}
    assert "task toy, model toy, criterion toy\n  part" in caplog.text


def test_statistics_of_batches() -> None:
    dataset = ToyRows(6, 12, seed=1)
    dataset._sizes = np.array([2, 6, 3, 3, 5, 1])
    found = batch_statistics(dataset, [np.array([0, 1]), np.array([2, 3, 4]), np.array([5])])
    assert (found.sentences, found.batches, found.tokens, found.places) == (6, 3, (20,), (12 + 15 + 1,))
    assert found.largest == 1
    assert found.padding == pytest.approx(8 / 28)
