import json
import math

import pytest
import torch

from seqkit.metrics.aggregator import Aggregator, perplexity


def test_priority_then_order_of_coming():
    log = Aggregator()
    log.log_scalar("lr", 0.1, priority=300)
    log.log_scalar("loss", 1.0)
    log.log_derived("ppl", lambda figures: perplexity(figures["loss"].avg))
    log.log_scalar("nll_loss", 2.0)
    assert list(log.smoothed_values()) == ["loss", "nll_loss", "ppl", "lr"]


def test_values_are_weighted_and_rounded():
    log = Aggregator()
    log.log_scalar("loss", torch.tensor(1.00049), 1, round=3)
    log.log_scalar("loss", 2.0, 3, round=3)
    assert log.smoothed_values() == {"loss": 1.75}
    assert log["loss"].val == 2.0


def test_underscore_is_kept_but_not_reported():
    log = Aggregator()
    log.log_scalar_sum("_counts", 3)
    log.log_scalar_sum("_counts", 4)
    assert log.smoothed_values() == {}
    assert log["_counts"].sum == 7


def test_first_speed_only_starts_the_clock():
    log = Aggregator()
    log.log_speed("wps", 1000)
    assert log["wps"].n == 0
    log.log_speed("wps", 500)
    assert log["wps"].n == 500


def test_stop_of_an_unknown_watch_is_passed_over():
    log = Aggregator()
    log.log_stop_time("train_wall")
    assert "train_wall" not in log
    log.log_start_time("train_wall")
    log.log_stop_time("train_wall")
    assert log["train_wall"].sum > 0


def test_reset_forgets_values_not_figures():
    log = Aggregator()
    log.log_scalar("loss", 4.0, 2, round=1)
    log.log_derived("ppl", lambda figures: perplexity(figures["loss"].avg))
    log.reset()
    assert log.smoothed_values() == {"loss": None, "ppl": 0.0}
    log.log_scalar("loss", 1.26)
    assert log.smoothed_values()["loss"] == 1.3


def test_state_is_plain_and_averages_go_on():
    log = Aggregator()
    log.log_scalar("b", torch.tensor(1.0), torch.tensor(3), priority=20, round=2)
    log.log_scalar_sum("a", 5, priority=10)
    log.log_speed("wps", 3)
    log.log_derived("double", lambda figures: 2 * figures["b"].avg)
    state = json.loads(json.dumps(log.state_dict()))
    other = Aggregator()
    other.log_scalar("forgotten", 1)
    other.load_state_dict(state)
    assert other.keys() == ["a", "b", "wps"]
    other.log_scalar("b", 5.0, 1, priority=20, round=2)
    assert other["b"].avg == 2.0


def test_a_name_belongs_to_one_kind():
    log = Aggregator()
    log.log_scalar("loss", 1.0)
    with pytest.raises(TypeError, match="figure 'loss' is a AverageMeter, not a SumMeter"):
        log.log_scalar_sum("loss", 1.0)
    log.log_derived("ppl", lambda figures: 1.0)
    with pytest.raises(TypeError, match="derived"):
        log.log_scalar("ppl", 1.0)
    with pytest.raises(KeyError, match="there is a figure 'loss' already"):
        log.add_meter("loss", log["loss"])


def test_perplexity():
    assert perplexity(3.0) == 8.0
    assert perplexity(None) == 0.0
    assert perplexity(2000.0) == math.inf
    assert perplexity(1.5, round=4) == 2.8284
