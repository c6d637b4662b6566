from __future__ import annotations

import torch

from seqkit.interop.fairseq.training_state import convert_metrics, name_parameters
from seqkit.metrics.aggregator import Aggregator


def test_averages_go_on() -> None:
    meter = {"val": torch.tensor(3.0), "sum": torch.tensor(12.0), "count": 4, "round": 3}
    recorded = {
        "default": [(10, "loss", "AverageMeter", meter)],
        "train": [(10, "loss", "AverageMeter", meter), (20, "odd", "MeterOfSomeFork", {})],
    }
    states = convert_metrics(recorded)
    assert list(states) == ["train"]
    log = Aggregator()
    log.load_state_dict(states["train"])
    log.log_scalar("loss", 7.0, weight=1, round=3)
    assert log.smoothed_values() == {"loss": 3.8}


def _optimizer(shapes: list[tuple[int, ...]]) -> dict[str, object]:
    state = {number: {"step": 1, "exp_avg": torch.zeros(shape)} for number, shape in enumerate(shapes)}
    return {"state": state, "param_groups": [{"lr": 1.0, "params": list(range(len(shapes)))}]}


def test_parameters_are_named_in_the_order_of_the_model() -> None:
    tied = torch.zeros(3, 2)
    model = {
        "encoder.version": torch.ones(1),
        "embed.weight": tied,
        "layer.bias": torch.zeros(4),
        "norm.running_mean": torch.zeros(4),
        "output.weight": tied,
    }
    named = name_parameters(_optimizer([(3, 2), (4,)]), model)
    assert named["param_groups"][0]["param_names"] == ["embed.weight", "layer.bias"]


def test_state_that_does_not_match_stays_without_names() -> None:
    model = {"a": torch.zeros(2), "b": torch.zeros(3)}
    for shapes in ([(5,)], [(3,), (2,)]):
        optimizer = _optimizer(shapes)
        assert name_parameters(optimizer, model) == optimizer
