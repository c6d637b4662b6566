"""Criteria: loss, per-position losses, gradients, logging output, and the figures made of several of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqkit.config.validate import build_config
from seqkit.criterions.base import Criterion
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import ModelOutput
from seqkit.registry import registry
from tests.parity.loader import Case

_RTOL = 1e-6
"""Closer than the tolerance recorded with the cases: what the project promises."""
_READ = {
    "what", "area", "criterion", "settings", "pad", "eos", "vocab", "arrays", "array_shapes", "loss", "sample_size",
    "logging_output", "reduce", "reduce_metrics", "tolerance", "versions", "note",
}  # fmt: skip


class _GivenLogits(nn.Module):
    """Answers with the recorded logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, **_net_input: Tensor) -> ModelOutput:
        return ModelOutput(logits=self.logits)


def run(case: Case) -> None:
    """Put the recorded logits through the criterion and compare all that comes out."""
    spec = case.spec
    name = spec["criterion"]
    if name not in registry("criterion").names():
        case.not_built(f"criterion={name}: a later issue")
    arrays = np.load(case.folder / spec["arrays"])
    if not {"logits", "target", "grad_logits"} <= set(arrays.files):
        raise AssertionError(f"criterion={name} is there, but nothing here reads the arrays {sorted(arrays.files)}")
    unknown = set(spec) - _READ
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    unread = set(arrays.files) - {"logits", "target", "grad_logits", "loss_out"}
    assert not unread, f"arrays that no one reads: {sorted(unread)}"
    component = registry("criterion").get(name)
    config = build_config(component.config, {**spec["settings"], "_name": name}, where="criterion")
    criterion: Criterion = component.cls(config, spec["pad"])

    target = torch.from_numpy(arrays["target"]).long()
    logits = torch.from_numpy(arrays["logits"]).requires_grad_()
    logged = spec["logging_output"]
    sample: Any = {
        "id": torch.arange(len(target)),
        "nsentences": logged["nsentences"],
        "ntokens": logged["ntokens"],
        "net_input": {"src_tokens": target},
        "target": target,
    }
    output = criterion(_GivenLogits(logits), sample, reduce=spec["reduce"])
    if spec["reduce"]:
        _close(output.loss.item(), spec["loss"], "loss")
    expected_loss = arrays["loss_out"].reshape(-1)
    np.testing.assert_allclose(output.loss.detach().reshape(-1).numpy(), expected_loss, rtol=_RTOL, err_msg="loss")
    assert output.sample_size == spec["sample_size"]
    assert set(output.logging) == set(logged), f"logs {sorted(output.logging)}, expected {sorted(logged)}"
    for key, value in logged.items():
        found = torch.as_tensor(output.logging[key]).reshape(-1).numpy()
        np.testing.assert_allclose(found, np.array(value).reshape(-1), rtol=_RTOL, err_msg=f"logging {key}")
    output.loss.sum().backward()
    assert logits.grad is not None
    expected_grad = arrays["grad_logits"]
    np.testing.assert_allclose(logits.grad.numpy(), expected_grad, rtol=_RTOL, atol=_RTOL, err_msg="gradient")
    for entry in spec["reduce_metrics"] or []:
        _run_reduce(criterion, entry, output.logging)


def _run_reduce(criterion: Criterion, entry: dict[str, Any], own: dict[str, Any]) -> None:
    assert set(entry) == {"logging_outputs", "result"}
    outputs = entry["logging_outputs"]
    if isinstance(outputs, str):
        assert outputs == "two copies of the logging output", outputs
        outputs = [own, own]
    log = Aggregator()
    criterion.reduce_metrics(outputs, log)
    found = log.smoothed_values()
    assert set(found) == set(entry["result"]), f"figures {sorted(found)}, expected {sorted(entry['result'])}"
    for key, value in entry["result"].items():
        _close(found[key], value, f"figure {key}")


def _close(found: float | None, expected: float, where: str) -> None:
    assert found is not None, where
    assert math.isclose(found, expected, rel_tol=_RTOL), f"{where}: {found!r}, expected {expected!r}"
