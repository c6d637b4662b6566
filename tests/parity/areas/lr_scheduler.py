"""Learning-rate schedules: the rate in force at every update."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from seqkit.config.validate import build_config, options_of
from seqkit.optim.lr_scheduler.base import build_lr_scheduler
from seqkit.registry import registry
from tests.parity.loader import Case

_CALL_ORDER = (
    "build; step_update(0); per epoch: step_begin_epoch(e), step_update(n); per update: use lr, n+=1, step_update(n); "
    "end of epoch: step(e,val_loss), step_update(n)"
)
_READ = {
    "what", "area", "flags", "resolved_config", "updates_per_epoch", "epochs", "lr_after_construction",
    "lr_after_step_update_0", "arrays", "epochs_detail", "state_dict", "call_order", "tolerance", "versions",
}  # fmt: skip


def run(case: Case) -> None:
    """Take the recorded calls and compare the rate after each of them."""
    spec = case.spec
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    assert spec["call_order"] == _CALL_ORDER, "another order of calls"
    assert set(spec["tolerance"]) == {"rtol"}
    rtol = float(spec["tolerance"]["rtol"])
    resolved = spec["resolved_config"]
    # Components of fairseq's older kind are recorded with all options of the command line.
    whole_command = "lr_scheduler" in resolved
    name = resolved["lr_scheduler"] if whole_command else resolved["_name"]
    cls = registry("lr_scheduler").get(name).config
    known = options_of(cls)
    settings = {key: value for key, value in resolved.items() if not whole_command or key in known}
    config = build_config(cls, {**settings, "_name": name}, where="lr_scheduler")

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=float(resolved["lr"][0]))
    scheduler = build_lr_scheduler(config, optimizer)

    def same(found: float, expected: float, where: str) -> None:
        assert math.isclose(found, expected, rel_tol=rtol, abs_tol=0), f"{where}: {found!r}, expected {expected!r}"

    same(scheduler.lr, spec["lr_after_construction"], "after construction")
    same(scheduler.step_update(0), spec["lr_after_step_update_0"], "after step_update(0)")
    arrays = np.load(case.folder / "lr.npz")
    assert set(arrays.files) == {"lr_used"}
    used: list[float] = []
    updates = 0
    details: list[dict[str, Any]] = spec["epochs_detail"]
    assert len(details) == spec["epochs"]
    for detail in details:
        epoch = detail["epoch"]
        scheduler.step_begin_epoch(epoch)
        same(scheduler.step_update(updates), detail["lr_at_begin"], f"begin of epoch {epoch}")
        for _ in range(spec["updates_per_epoch"]):
            used.append(scheduler.lr)
            updates += 1
            scheduler.step_update(updates)
        same(scheduler.lr, detail["lr_after_last_update"], f"after epoch {epoch}'s updates")
        scheduler.step(epoch, detail["val_loss"])
        same(scheduler.lr, detail["lr_after_step_epoch"], f"after step of epoch {epoch}")
        scheduler.step_update(updates)
        same(scheduler.lr, detail["lr_after_final_step_update"], f"end of epoch {epoch}")
    np.testing.assert_allclose(np.array(used), arrays["lr_used"], rtol=rtol, atol=0)
    state = scheduler.state_dict()
    for key, value in spec["state_dict"].items():
        if key == "best" and isinstance(value, float) and math.isinf(value):  # before the first validation
            value = None
        assert state[key] == value, f"state {key}: {state[key]!r}, expected {value!r}"
