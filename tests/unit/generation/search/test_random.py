"""Random numbers that depend on nothing but what they are asked for."""

from __future__ import annotations

import torch

from seqkit.generation.search._random import random_numbers, stream_of


def test_numbers_depend_on_seed_sentence_step_and_place_alone() -> None:
    ids = torch.tensor([5, 9, 7])
    numbers = random_numbers(stream_of(3, ids), 2, 4)
    assert numbers.shape == (3, 4)
    torch.testing.assert_close(random_numbers(stream_of(3, ids[1:2]), 2, 6)[0, :4], numbers[1], rtol=0, atol=0)
    for other in (
        random_numbers(stream_of(4, ids), 2, 4),
        random_numbers(stream_of(3, ids), 3, 4),
        random_numbers(stream_of(3, ids + 1), 2, 4),
    ):
        assert not torch.equal(other, numbers)
    assert numbers.unique().numel() == numbers.numel()


def test_numbers_are_evenly_spread_over_0_to_1() -> None:
    numbers = torch.cat([random_numbers(stream_of(1, torch.arange(200)), step, 5).flatten() for step in range(20)])
    assert float(numbers.min()) >= 0.0
    assert float(numbers.max()) < 1.0
    counts = torch.histc(numbers.float(), bins=10, min=0, max=1)
    assert float(counts.min()) > 1800
    assert float(counts.max()) < 2200
    steps = numbers.view(20, -1)
    assert abs(float(torch.corrcoef(steps[:2])[0, 1])) < 0.1
