"""Linear layers whose weights are also kept in the order in which a CPU multiplies fastest, for inference.

Decoding multiplies the same weights with few rows at every step. oneDNN does that faster with weights it has rearranged
("packed") once; a single row, with the transposed weight. Knows nothing of models.
Axes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.linear import is_plain

_PACKED_FROM = 1 << 18
"""Weights (I·O) from which packing pays: below, calling oneDNN costs more than it saves."""
_MOST_PACKED = 1 << 28
"""Weights of a model that are packed in all (1 GiB): a larger one would take too much memory a second time."""


class PackedLinear(nn.Linear):
    """A linear map that packs its weight when it is first used on a CPU, in float32 and without gradients.

    The packed copy is made anew when the weight was written into. Everywhere else this is `nn.Linear`, with the same
    parameters.

    Args:
        weight: (O, I), shared.
        bias: (O,), shared, or None.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)  # nn.Linear's own makes new weights
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.bias = bias
        self._forms: dict[str, Tensor] = {}
        self._version = -1

    def forward(self, input: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        weight, bias = self.weight, self.bias
        if weight.numel() < _PACKED_FROM or not _can_be_packed(weight, input):
            return F.linear(input, weight, bias)
        if input.numel() == self.in_features:
            if self.out_features < 2 * self.in_features:
                return F.linear(input, weight, bias)
            transposed = self._form("transposed")
            row_1I = input.view(1, -1)
            result = torch.mm(row_1I, transposed) if bias is None else torch.addmm(bias, row_1I, transposed)
            return result.view(*input.shape[:-1], self.out_features)
        result = torch.ops.mkldnn._linear_pointwise(input, self._form("packed"), bias, "none", [], "")
        return cast(Tensor, result)

    def _form(self, kind: str) -> Tensor:
        """The weight as it is needed: `packed` by oneDNN, or `transposed` (I, O)."""
        version = _version(self.weight)
        if version != self._version:
            self._forms = {}
            self._version = version
        form = self._forms.get(kind)
        if form is None:
            weight = self.weight.detach()
            form = weight.t().contiguous() if kind == "transposed" else torch.ops.mkldnn._reorder_linear_weight(weight)
            self._forms[kind] = form
        return form

    def _apply(self, fn: Any, recurse: bool = True) -> PackedLinear:
        self._forms = {}
        super()._apply(fn, recurse)
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_forms": {}}


class JoinedLinear:
    """What several linear layers of the same input give, one behind the other, by one product.

    It holds a copy of their weights, which is made anew when these have changed or moved.

    Args:
        layers: plain linear layers, all with a bias or all without.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        self._layers = tuple(layers)
        self._known: list[tuple[int, torch.dtype, torch.device]] = []
        self._joined: PackedLinear | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(…, I) to (…, O), O being the sum of the layers' outputs."""
        weights = [layer.weight for layer in self._layers]
        if torch.is_grad_enabled() and (x.requires_grad or any(weight.requires_grad for weight in weights)):
            return torch.cat([layer(x) for layer in self._layers], dim=-1)
        known = [(_version(weight), weight.dtype, weight.device) for weight in weights]
        if self._joined is None or known != self._known:
            weight = nn.Parameter(torch.cat(weights), requires_grad=False)
            bias: nn.Parameter | None = None
            if self._layers[0].bias is not None:
                bias = nn.Parameter(torch.cat([layer.bias for layer in self._layers]), requires_grad=False)
            self._joined, self._known = PackedLinear(weight, bias), known
        result: Tensor = self._joined(x)
        return result


@runtime_checkable
class _JoinsProjections(Protocol):
    """A module several of whose linear layers have the same input."""

    def join_projections(self) -> None:
        """From now on let one product do what they do, where that gives the same."""
        ...


def pack_linears(model: nn.Module) -> None:
    """Put a `PackedLinear` of the same parameters in the place of each large plain linear layer of a model.

    Projections of the same input are joined (`join_projections`). Nothing is done to a model too large to have its
    weights in memory twice, or where oneDNN is missing.
    """
    if not _has_kernels():
        return
    found: list[tuple[nn.Module, str, nn.Linear]] = []
    joins: list[_JoinsProjections] = []
    for module in model.modules():
        if isinstance(module, _JoinsProjections):
            joins.append(module)
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and is_plain(child) and child.weight.numel() >= _PACKED_FROM:
                found.append((module, name, child))
    if sum(layer.weight.numel() for _, _, layer in found) > _MOST_PACKED:
        return
    for module, name, layer in found:
        setattr(module, name, PackedLinear(layer.weight, layer.bias).train(layer.training))
    for module in joins:
        module.join_projections()


def _version(weight: Tensor) -> int:
    """A number that changes when the weight is written into."""
    return 0 if weight.is_inference() else weight._version


def _has_kernels() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _can_be_packed(weight: Tensor, input: Tensor) -> bool:
    if torch.is_grad_enabled() and (weight.requires_grad or input.requires_grad):
        return False
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or input.dtype != torch.float32:
        return False
    return input.numel() > 0 and not torch.is_autocast_enabled("cpu")
