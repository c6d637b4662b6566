"""Muon: momentum made orthogonal, for the hidden layers' matrices (Jordan et al., 2024; Liu et al., 2025).

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. The scale of a step that lets it
share AdamW's learning rate is that of J. Liu et al., "Muon is scalable for LLM training", 2025.

Sees named parameters and gradients. Knows nothing of models or schedules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.optim._fused import BulkOptimizer, State, advance, column, first_rate, fused_adamw, two_decays
from seqkit.optim.base import Parameters, register_optimizer

NOT_HIDDEN = (
    "*embed*",
    "*output_projection*",
    "*lm_head*",
    "*fc_out*",
    "*adaptive_softmax*",
    "*classification_heads*",
    "*final_proj*",
    "criterion.*",
)
"""Names of matrices that are embeddings or output layers."""


@dataclass
class MuonConfig(Config):
    """Options of `Muon`."""

    muon_momentum: float = option(0.95, "decay of the momentum per step", low=0.0, high=1.0)
    muon_nesterov: bool = option(True, "look one step ahead of the momentum")
    muon_ns_steps: int = option(5, "Newton-Schulz iterations that make a step's matrix orthogonal", low=1)
    muon_ns_dtype: str = option(
        "auto",
        "precision of these iterations; auto: bfloat16 on a GPU, float32 on a CPU",
        choices=("auto", "bfloat16", "float32"),
    )
    muon_scale: str = option(
        "match_rms_adamw",
        "size of a step for a matrix of A rows and B columns: 0.2*sqrt(max(A, B)), so that AdamW's learning rate and "
        "weight decay serve (match_rms_adamw), or sqrt(max(1, A/B)), as first published, with a rate near 0.02 "
        "(original)",
        choices=("match_rms_adamw", "original"),
    )
    muon_exclude: list[str] = option(
        list(NOT_HIDDEN),
        "patterns of names: these matrices, embeddings and output layers, are updated by AdamW, as are all vectors",
    )
    adam_lr_scale: float = option(
        1.0, "AdamW's learning rate is this times Muon's (about 0.015 goes with muon_scale=original)", low=0.0
    )
    adam_betas: list[float] = option(
        [0.9, 0.95], "AdamW: decay per step of the gradient's mean and of its square's mean", low=0.0, high=1.0
    )
    adam_eps: float = option(1e-8, "AdamW: added to the root of the squares' mean", low=0.0)
    weight_decay: float = option(0.0, "share of a parameter taken away at each step, times the learning rate", low=0.0)
    lr: list[float] = option([0.25], "learning rate at construction; the schedule sets it", follows="optimization.lr")


@register_optimizer("muon", config=MuonConfig)
class Muon(BulkOptimizer):
    """Matrices of hidden layers by Muon, everything else by AdamW.

        b <- mu * b + (1 - mu) * g;  d = mu * b + (1 - mu) * g  (with `nesterov`; else b)
        p <- p - lr * weight_decay * p - lr * scale * orthogonal(d)

    where orthogonal(d) is near to U V^T of d's singular value decomposition U S V^T. Kernels of convolutions are
    matrices of one row for each output channel.

    Args:
        params: named parameters. Those with fewer than two dimensions, and those whose names match `exclude`, go
            to AdamW; without names, all matrices are hidden ones.
        lr: learning rate of both.
        momentum, nesterov, ns_steps: of Muon.
        ns_dtype: `"auto"`, `"bfloat16"` or `"float32"`.
        scale: `"match_rms_adamw"` (0.2 * sqrt(max(rows, columns))) or `"original"` (sqrt(max(1, rows / columns))).
        exclude: patterns of names of matrices that go to AdamW.
        adam_lr_scale: AdamW's rate is this times `lr`.
        betas, eps: of AdamW.
        weight_decay: decoupled, of both.
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        ns_dtype: str = "auto",
        scale: str = "match_rms_adamw",
        exclude: tuple[str, ...] = NOT_HIDDEN,
        adam_lr_scale: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        muon = {
            "orthogonal": True,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "ns_dtype": ns_dtype,
            "scale": scale,
        }
        adam = {"orthogonal": False, "betas": betas, "eps": eps, "lr_scale": adam_lr_scale, "lr": lr * adam_lr_scale}
        groups: list[dict[str, Any]] = []
        for settings, entries in _given_groups(params):
            hidden = [entry for entry in entries if _is_hidden(*entry, exclude)]
            others = [entry for entry in entries if not _is_hidden(*entry, exclude)]
            groups += [
                {**own, **settings, "params": _as_given(part)} for own, part in ((muon, hidden), (adam, others)) if part
            ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @classmethod
    def build(cls, config: MuonConfig, params: Parameters) -> Muon:
        """Make the optimizer from its config."""
        return cls(
            params,
            lr=first_rate(config.lr),
            momentum=config.muon_momentum,
            nesterov=config.muon_nesterov,
            ns_steps=config.muon_ns_steps,
            ns_dtype=config.muon_ns_dtype,
            scale=config.muon_scale,
            exclude=tuple(config.muon_exclude),
            adam_lr_scale=config.adam_lr_scale,
            betas=two_decays(config.adam_betas, "adam_betas"),
            eps=config.adam_eps,
            weight_decay=config.weight_decay,
        )

    def new_state(self, param: Tensor, group: dict[str, Any]) -> State:
        if group["orthogonal"]:
            return {"momentum_buffer": torch.zeros_like(param, memory_format=torch.preserve_format)}
        return {
            "step": 0,
            "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(param, memory_format=torch.preserve_format),
        }

    def update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
        if group["orthogonal"]:
            _muon(group, params, grads, column(states, "momentum_buffer"))
            return
        step = advance(states)
        fused_adamw(
            params,
            grads,
            column(states, "exp_avg"),
            column(states, "exp_avg_sq"),
            step,
            lr=float(group["lr"]),
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )


def _muon(group: dict[str, Any], params: list[Tensor], grads: list[Tensor], buffers: list[Tensor]) -> None:
    lr, momentum = float(group["lr"]), group["momentum"]
    torch._foreach_lerp_(buffers, grads, 1 - momentum)
    directions = torch._foreach_lerp(buffers, grads, 1 - momentum) if group["nesterov"] else tuple(buffers)
    if group["weight_decay"] != 0:
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
    dtype = group["ns_dtype"]
    if dtype == "auto":
        dtype = "bfloat16" if params[0].device.type == "cuda" else "float32"
    # Matrices of one shape are iterated on together.
    same_shape: dict[tuple[int, int], list[int]] = {}
    for index, param in enumerate(params):
        same_shape.setdefault((param.shape[0], math.prod(param.shape[1:])), []).append(index)
    for (rows, columns), indices in same_shape.items():
        stacked_NAB = torch.stack([_whole(directions[index]).reshape(rows, columns) for index in indices])
        steps_NAB = newton_schulz(stacked_NAB.to(getattr(torch, dtype)), group["ns_steps"])
        size = _step_size(group["scale"], rows, columns)
        for index, step_AB in zip(indices, steps_NAB, strict=True):
            param = params[index]
            param.add_(_spread_like(param, step_AB.reshape(param.shape).to(param.dtype)), alpha=-lr * size)


def newton_schulz(matrices_NAB: Tensor, steps: int) -> Tensor:
    """Matrices with their singular values brought near to 1 (between about 0.7 and 1.2).

    x <- a * x + (b * x x^T + c * (x x^T)^2) x, with the coefficients that Jordan et al. (2024) chose for a steep
    slope at 0 rather than for convergence to 1.

    Args:
        matrices_NAB: [N, rows, columns], of the precision that is computed in.
        steps: iterations.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices_NAB.size(-2) > matrices_NAB.size(-1)
    x = matrices_NAB.mT if tall else matrices_NAB
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _whole(tensor: Tensor) -> Tensor:
    """A tensor that FSDP has spread over processes, gathered: only a whole matrix can be made orthogonal."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _spread_like(param: Tensor, whole: Tensor) -> Tensor:
    """`whole`, which every process has, spread over processes as `param` is."""
    if not hasattr(param, "full_tensor"):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(param, DTensor)
    replicated = DTensor.from_local(whole, param.device_mesh, [Replicate()] * param.device_mesh.ndim)
    return replicated.redistribute(placements=param.placements)


def _step_size(scale: str, rows: int, columns: int) -> float:
    return 0.2 * math.sqrt(max(rows, columns)) if scale == "match_rms_adamw" else math.sqrt(max(1.0, rows / columns))


def _is_hidden(name: str, param: Tensor, exclude: tuple[str, ...]) -> bool:
    return param.dim() >= 2 and not any(fnmatchcase(name, pattern) for pattern in exclude)


def _given_groups(params: Parameters) -> Iterator[tuple[dict[str, Any], list[tuple[str, nn.Parameter]]]]:
    """The groups that were given (or all parameters as one), each as its settings and its parameters with names."""
    given: list[Any] = list(params)
    if not given:
        raise ConfigError("there are no parameters to train")
    for group in given if isinstance(given[0], dict) else [{"params": given}]:
        entries = [entry if isinstance(entry, tuple) else ("", entry) for entry in group["params"]]
        yield {key: value for key, value in group.items() if key != "params"}, entries


def _as_given(entries: list[tuple[str, nn.Parameter]]) -> list[Any]:
    return [(name, param) if name else param for name, param in entries]
