from __future__ import annotations

import math

import pytest
import torch

from seqkit.errors import DataError
from seqkit.modules.positional_embedding import (
    LearnedPositionalEmbedding,
    SinusoidalPositionalEmbedding,
    count_positions,
    positional_embedding,
)


def test_positions_count_what_is_not_padding() -> None:
    mask = torch.tensor([[True, True, False, False], [False, False, True, True]])
    assert count_positions(mask).tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]


@pytest.mark.parametrize("dim", [6, 7])
def test_sinusoids_follow_their_formula(dim: int) -> None:
    table = SinusoidalPositionalEmbedding(dim, padding_idx=1, init_size=10)
    row = table(None, 4)[3]  # the fourth position is row 1 + 4 of the table
    for channel in range(3):
        angle = 5 * 10000 ** (-channel / 2)
        assert row[channel].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert row[3 + channel].item() == pytest.approx(math.cos(angle), abs=1e-6)
    if dim == 7:
        assert row[6] == 0


@pytest.mark.parametrize("learned", [False, True])
def test_numbers_and_ranges_look_up_the_same(learned: bool) -> None:
    table = positional_embedding(10, 6, 1, learned=learned)
    by_number = table(torch.tensor([[1, 2, 3, 4]]), 4)[0]
    assert torch.equal(by_number, table(None, 4))
    assert torch.equal(by_number[2:], table(None, 2, start=2))
    assert not table(torch.tensor([[0]]), 1).any()


def test_sinusoids_grow_and_are_not_saved() -> None:
    table = SinusoidalPositionalEmbedding(6, padding_idx=1, init_size=4)
    long = SinusoidalPositionalEmbedding(6, padding_idx=1, init_size=50)
    assert torch.equal(table(None, 40), long(None, 40))
    assert not table.state_dict()


def test_learned_positions_end() -> None:
    table = LearnedPositionalEmbedding(4, 6, padding_idx=1)
    assert table.weight.shape == (6, 6)
    with pytest.raises(DataError, match="5 tokens does not fit this model's 4 learned positions"):
        table(None, 2, start=3)


def test_learned_padding_gets_no_gradient() -> None:
    table = LearnedPositionalEmbedding(4, 6, padding_idx=1)
    table(torch.tensor([[0, 1]]), 2).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad[2].all()
    assert not table.weight.grad[1].any()


def test_a_table_that_grew_in_inference_can_be_trained_with() -> None:
    table = SinusoidalPositionalEmbedding(6, padding_idx=1, init_size=4)
    with torch.inference_mode():
        table(None, 9)
    weight = torch.ones(6, requires_grad=True)
    (table(None, 9) * weight).sum().backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, table(torch.arange(1, 10).unsqueeze(0), 9)[0].sum(0))
