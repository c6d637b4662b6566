"""The dynamic loss scale, step by step."""

from __future__ import annotations

import math

from seqkit.optim.loss_scaler import DynamicLossScaler
from tests.parity.loader import Case

_READ = {"area", "what", "trajectories", "tolerance", "versions"}


def run_loss_scaler(case: Case) -> None:
    """Feed the recorded overflows and compare what happens and the scale after each."""
    spec = case.spec
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    assert spec["tolerance"] == "exact"
    for trajectory in spec["trajectories"]:
        assert set(trajectory) == {"settings", "steps"}
        scaler = DynamicLossScaler(**trajectory["settings"])
        for number, step in enumerate(trajectory["steps"]):
            assert set(step) == {"overflow_in", "event", "scale_after"}
            event = "ok"
            try:
                scaler.check_overflow(math.inf if step["overflow_in"] else 1.0)
                scaler.update()
            except OverflowError:
                event = "overflow"
            except FloatingPointError:
                event = "floating_point_error"
            where = f"{trajectory['settings']}, step {number}"
            assert event == step["event"], f"{where}: {event}, expected {step['event']}"
            assert scaler.loss_scale == step["scale_after"], f"{where}: {scaler.loss_scale}"
