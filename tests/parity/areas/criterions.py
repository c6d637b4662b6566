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
from seqkit.modules.adaptive_softmax import AdaptiveSoftmax
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
    if "adaptive_vocab" in spec:
        _run_adaptive(case, arrays)
        return
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


class _GivenFeatures(nn.Module):
    """Answers with the recorded features, and has the recorded adaptive softmax."""

    def __init__(self, features: Tensor, adaptive_softmax: AdaptiveSoftmax) -> None:
        super().__init__()
        self.features = features
        self.adaptive_softmax = adaptive_softmax

    def forward(self, **_net_input: Tensor) -> ModelOutput:
        return ModelOutput(logits=self.features)


def _run_adaptive(case: Case, arrays: Any) -> None:
    """The adaptive loss: recorded features and weights, loss and gradients of both, and all log-probabilities."""
    spec = case.spec
    unknown = set(spec) - _READ - {"adaptive_vocab"}
    assert not unknown, f"parts of the case that no one reads: {sorted(unknown)}"
    settings = dict(spec["settings"])
    softmax = AdaptiveSoftmax(
        spec["adaptive_vocab"], settings.pop("input_dim"), settings.pop("cutoff"), factor=settings.pop("factor")
    )
    weights = {name.removeprefix("weight."): arrays[name] for name in arrays.files if name.startswith("weight.")}
    softmax.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    component = registry("criterion").get(spec["criterion"])
    # Where fairseq is wrong: it drops a word of each cluster. The recorded figures come of that.
    given = {**settings, "skip_pad_offset": True, "_name": spec["criterion"]}
    criterion: Criterion = component.cls(build_config(component.config, given, where="criterion"), spec["pad"])

    features = torch.from_numpy(arrays["features"]).requires_grad_()
    target = torch.from_numpy(arrays["target"]).long()
    sample: Any = {"net_input": {}, "target": target}
    output = criterion(_GivenFeatures(features, softmax), sample, reduce=spec["reduce"])  # type: ignore[arg-type]
    _close(float(output.loss.detach().sum()), spec["loss"], "loss")
    assert output.sample_size == spec["sample_size"]
    logged = spec["logging_output"]
    assert set(output.logging) == set(logged), f"logs {sorted(output.logging)}, expected {sorted(logged)}"
    for key, value in logged.items():
        _close(float(output.logging[key]), value, f"logging {key}")
    output.loss.sum().backward()
    found = {"features": features, **dict(softmax.named_parameters())}
    read = {"features", "target", "full_log_prob", *(f"weight.{name}" for name in weights)}
    for name, parameter in found.items():
        key = f"grad_{name}" if name == "features" else f"grad.{name}"
        read.add(key)
        assert parameter.grad is not None, name
        np.testing.assert_allclose(parameter.grad.numpy(), arrays[key], rtol=_RTOL, atol=_RTOL, err_msg=key)
    unread = set(arrays.files) - read
    assert not unread, f"arrays that no one reads: {sorted(unread)}"
    with torch.no_grad():
        log_prob = softmax.log_prob(features)
        np.testing.assert_allclose(log_prob.numpy(), arrays["full_log_prob"], rtol=_RTOL, atol=_RTOL)
        of_target = softmax.target_log_prob(features, target)
        assert torch.allclose(of_target, log_prob.gather(2, target.unsqueeze(2)).squeeze(2), atol=_RTOL)
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
