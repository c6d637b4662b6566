"""Dropout that stays active in chosen modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from seqkit.generation.dropout import dropout_owners, evaluating
from tests.unit.generation.tiny import search, tiny_dictionary, tiny_model

DICTIONARY = tiny_dictionary()


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.dropout = nn.Dropout(0.5)


def test_dropout_modules_are_found_by_their_owners() -> None:
    assert {name: len(found) for name, found in dropout_owners(Outer()).items()} == {"Inner": 1, "Outer": 1}


@pytest.mark.parametrize(
    ("settings", "active"),
    [
        ({}, (False, False)),
        ({"retain_dropout": True}, (True, True)),
        ({"retain_dropout": True, "retain_in": ["Inner"]}, (True, False)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_only_what_is_asked_for_stays_active(
    settings: dict[str, bool], active: tuple[bool, bool], training: bool
) -> None:
    model = Outer().train(training)
    with evaluating([model], **settings):  # type: ignore[arg-type]
        assert (model.inner.dropout.training, model.dropout.training) == active
        assert not model.inner.training
        assert not model.training
    assert all(module.training == training for module in model.modules())


def test_dropout_of_a_loaded_model_is_active_while_decoding_if_asked_for() -> None:
    model = tiny_model(DICTIONARY, dropout=0.5).eval()
    sources = [[4, 5, 6], [7, 4]]
    torch.manual_seed(0)
    drawn = {
        tuple(search(model, sources, DICTIONARY, beam=1, max_len_b=6, retain_dropout=True)[0][0].tokens.tolist())
        for _ in range(8)
    }
    assert len(drawn) > 1
    quiet = {tuple(search(model, sources, DICTIONARY, beam=1, max_len_b=6)[0][0].tokens.tolist()) for _ in range(3)}
    assert len(quiet) == 1
