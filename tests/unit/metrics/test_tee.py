from __future__ import annotations

from seqkit.metrics.aggregator import Aggregator
from seqkit.metrics.tee import Tee


def test_every_call_reaches_every_target() -> None:
    one, two = Aggregator(), Aggregator()
    tee = Tee([one, two])
    tee.log_scalar("loss", 2.0, weight=1, round=1)
    two.reset()
    tee.log_scalar("loss", 4.0, weight=3, round=1)
    tee.log_scalar_sum("total", 5)
    tee.log_derived("double", lambda log: 2 * float(log["loss"].avg))
    tee.log_speed("wps", 1.0)
    tee.log_start_time("wall")
    tee.log_stop_time("wall")
    assert one.keys() == two.keys() == tee.keys() == ["loss", "total", "double", "wps", "wall"]
    assert one.smoothed_value("loss") == 3.5
    assert two.smoothed_value("loss") == 4.0
    assert one.smoothed_value("double") == 7.0
    assert two.smoothed_value("double") == 8.0


def test_reads_are_the_first_targets() -> None:
    one, two = Aggregator(), Aggregator()
    tee = Tee([one, two])
    one.log_scalar("loss", 1.0)
    two.log_scalar("bleu", 1.0)
    assert "loss" in tee
    assert "bleu" not in tee
    assert tee["loss"] is one["loss"]
    assert tee.get_meter("loss") is one["loss"]
    assert tee.smoothed_values() == {"loss": 1.0}
