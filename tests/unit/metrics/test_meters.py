import time

import pytest
import torch

from seqkit.metrics.meters import AverageMeter, StopwatchMeter, SumMeter, TimeMeter


def test_average_is_weighted():
    meter = AverageMeter(round=3)
    meter.update(2.0, 1)
    meter.update(5.0, 2)
    assert meter.val == 5.0
    assert meter.avg == 4.0
    assert meter.smoothed_value == 4.0


def test_average_without_values_or_weights():
    meter = AverageMeter()
    assert meter.avg is None
    assert meter.smoothed_value is None
    meter.update(None)
    assert meter.avg is None
    meter.update(7.0, 0)
    assert meter.avg == 7.0, "a value of weight 0 shows until one with a weight comes"
    meter.update(3.0, 1)
    assert meter.avg == 3.0


def test_average_rounds_and_takes_tensors():
    meter = AverageMeter(round=2)
    meter.update(torch.tensor(1.23456), torch.tensor(2))
    meter.update(torch.tensor(1.23456), 1)
    assert meter.smoothed_value == 1.23
    assert isinstance(meter.smoothed_value, float)


def test_average_keeps_double_precision():
    meter = AverageMeter()
    meter.update(torch.tensor(1e8), 1)
    for _ in range(100):
        meter.update(torch.tensor(1.0), 1)
    assert float(meter.sum) == 1e8 + 100


def test_average_does_not_hold_a_graph():
    meter = AverageMeter()
    meter.update(torch.tensor(1.0, requires_grad=True) * 2, 1)
    assert not meter.val.requires_grad
    assert not meter.sum.requires_grad


@pytest.mark.parametrize("meter", [AverageMeter(round=1), SumMeter(round=1)])
def test_state_is_plain_and_comes_back(meter):
    meter.update(torch.tensor(2.26))
    state = meter.state_dict()
    assert all(value is None or isinstance(value, int | float) for value in state.values())
    other = type(meter)()
    other.load_state_dict(state)
    assert other.smoothed_value == meter.smoothed_value == 2.3


def test_sum():
    meter = SumMeter()
    meter.update(2)
    meter.update(None)
    meter.update(torch.tensor(3))
    assert meter.smoothed_value == 5
    meter.reset()
    assert meter.smoothed_value == 0


def test_time_meter_goes_on_after_loading(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meter = TimeMeter(round=1)
    meter.update(30)
    now[0] += 10
    assert meter.avg == 3.0
    state = meter.state_dict()
    now[0] += 1000
    other = TimeMeter()
    other.load_state_dict(state)
    other.update(30)
    now[0] += 10
    assert other.elapsed_time == 20
    assert other.smoothed_value == 3.0


def test_time_meter_of_an_old_clock_forgets_its_count():
    meter = TimeMeter()
    meter.load_state_dict({"init": 5.0, "n": 100, "start": 1.0, "round": None})
    assert meter.n == 0
    assert meter.elapsed_time >= 5


def test_stopwatch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meter = StopwatchMeter(round=2)
    meter.stop(5)
    assert meter.sum == 0, "a watch that was not started does not stop"
    meter.start()
    now[0] = 3.0
    assert meter.smoothed_value == 3.0, "a running watch shows the time so far"
    meter.stop(2)
    assert meter.sum == 3.0
    assert meter.smoothed_value == 1.5
    state = meter.state_dict()
    other = StopwatchMeter()
    other.load_state_dict(state)
    assert other.smoothed_value == 1.5
