"""Averaged checkpoints: the recorded commands through `seqkit-average`, weights compared by norm, sum and beginning."""

from __future__ import annotations

import torch

from seqkit.checkpoint.io import read_checkpoint
from seqkit_cli.average import main
from tests.parity.loader import Case

_READ = {"area", "what", "inputs", "runs", "tolerance", "versions", "informational"}
# What fairseq's files hold, and the part of ours that holds it. The optimizer's state belongs to none of the averages.
_PART_OF_KEY = {
    "args": None,
    "cfg": "config",
    "model": "model",
    "criterion": "criterion",
    "optimizer_history": "progress",
    "task_state": "task",
    "extra_state": "extra",
    "last_optimizer_state": None,
}


def run_average(case: Case) -> None:
    """Average as recorded and compare every parameter."""
    spec = case.spec
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    rtol = float(spec["tolerance"]["rtol"])
    for number, run in enumerate(spec["runs"]):
        unknown = set(run) - {"args", "keys", "parameters"}
        assert not unknown, f"parts of a run that no one reads: {sorted(unknown)}"
        output = case.tmp / f"average{number}.pt"
        assert main(_with_places(run["args"], case, str(output))) == 0
        state = read_checkpoint(output)
        for key in run["keys"]:
            part = _PART_OF_KEY[key]
            if part is not None:
                assert getattr(state, part) is not None, f"the average has no {part} (fairseq's {key})"
        assert set(run["parameters"]) <= set(state.model), sorted(set(run["parameters"]) - set(state.model))
        for name, expected in run["parameters"].items():
            unknown = set(expected) - {"norm", "sum", "first4"}
            assert not unknown, f"figures that no one reads: {sorted(unknown)}"
            weights = state.model[name].double()
            found = {"norm": float(weights.norm()), "sum": float(weights.sum())}
            for figure, value in found.items():
                scale = max(abs(expected[figure]), float(weights.abs().sum()) if figure == "sum" else 0.0)
                assert abs(value - expected[figure]) <= rtol * scale, f"{name}: {figure} {value} != {expected[figure]}"
            first = torch.tensor(expected["first4"], dtype=torch.float64)
            torch.testing.assert_close(weights.flatten()[: len(first)], first, rtol=rtol, atol=1e-9)


def _with_places(args: list[str], case: Case, output: str) -> list[str]:
    """The recorded arguments with input files and folders in the case's folder, and the output in `output`."""
    placed = []
    for position, arg in enumerate(args):
        if position and args[position - 1] == "--output":
            placed.append(output)
        elif (case.folder / arg).exists():
            placed.append(str(case.folder / arg))
        else:
            placed.append(arg)
    return placed
