from __future__ import annotations

import pytest
import torch

from seqkit.modules.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_drops_with_its_probability_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    result = Dropout(p)(torch.ones(301, 401))
    assert result.eq(0).float().mean().item() == pytest.approx(p, abs=0.01)
    assert result.mean().item() == pytest.approx(1.0, abs=0.03)
    kept = result[result.ne(0)]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=1e-3)


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.5)(torch.ones(40_000)).eq(0).float()
    for lag in range(1, 9):
        both = (dropped[lag:] * dropped[:-lag]).mean().item()
        assert both == pytest.approx(0.25, abs=0.01), lag


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 4)])
def test_keeps_any_shape(shape: tuple[int, ...]) -> None:
    assert Dropout(0.5)(torch.ones(shape)).shape == shape


def test_a_seed_repeats_the_mask() -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_the_gradient_is_the_mask() -> None:
    x = torch.ones(1000, requires_grad=True)
    result = Dropout(0.25)(x)
    result.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, result.detach())


def test_extremes_and_evaluation() -> None:
    x = torch.ones(8)
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5).eval()(x) is x
    assert not Dropout(1.0)(x).any()
