import math

import pytest
import torch

from seqkit.errors import SeqkitError
from seqkit.optim.loss_scaler import DynamicLossScaler, MinimumLossScaleError


def overflow(scaler):
    with pytest.raises(OverflowError):
        scaler.check_overflow(math.inf)


def test_rises_after_a_window_without_overflow():
    scaler = DynamicLossScaler(init_scale=4, scale_window=3)
    scales = []
    for _ in range(7):
        scaler.check_overflow(1.0)
        scaler.update()
        scales.append(scaler.loss_scale)
    assert scales == [4, 4, 8, 8, 8, 16, 16]


@pytest.mark.parametrize("norm", [math.inf, -math.inf, math.nan])
def test_falls_on_overflow(norm):
    scaler = DynamicLossScaler(init_scale=4)
    with pytest.raises(OverflowError, match="the loss scale is now 2"):
        scaler.check_overflow(norm)
    assert scaler.loss_scale == 2
    assert scaler.scale(torch.tensor(3.0)).item() == 6.0


def test_tolerance_lets_few_overflows_pass():
    scaler = DynamicLossScaler(init_scale=4, scale_window=100, tolerance=0.5)
    for _ in range(4):
        scaler.update()
    overflow(scaler)
    assert scaler.loss_scale == 4
    overflow(scaler)
    overflow(scaler)
    overflow(scaler)
    assert scaler.loss_scale == 2


def test_threshold_bounds_the_fall():
    scaler = DynamicLossScaler(init_scale=4, threshold=3)
    overflow(scaler)
    overflow(scaler)
    assert scaler.loss_scale == 3


def test_gives_up_at_the_minimum_and_says_what_to_do():
    scaler = DynamicLossScaler(init_scale=2, min_loss_scale=1)
    for _ in range(2):  # also a second time, which divides by zero in fairseq
        with pytest.raises(
            MinimumLossScaleError, match=r"Lower the learning rate, set optimization\.clip_norm"
        ) as caught:
            scaler.check_overflow(math.nan)
        assert isinstance(caught.value, SeqkitError)
        assert isinstance(caught.value, FloatingPointError)
        assert scaler.loss_scale == 2


def test_state_goes_on():
    def trajectory(scaler, steps):
        scales = []
        for bad in steps:
            if bad:
                overflow(scaler)
            else:
                scaler.update()
            scales.append(scaler.loss_scale)
        return scales

    steps = [0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    whole = trajectory(DynamicLossScaler(init_scale=8, scale_window=3), steps)
    first = DynamicLossScaler(init_scale=8, scale_window=3)
    found = trajectory(first, steps[:5])
    second = DynamicLossScaler(scale_window=3)
    second.load_state_dict(first.state_dict())
    assert found + trajectory(second, steps[5:]) == whole
    second.load_state_dict({"loss_scale": 64})
    assert second.loss_scale == 64
