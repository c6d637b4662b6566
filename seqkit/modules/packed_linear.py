"""Linear layers whose weights are also kept in the order in which a CPU multiplies fastest, for inference.

Decoding multiplies the same weights with few rows at every step. oneDNN does that faster with large weights it has
rearranged ("packed") once; a single row, and small weights, go faster with the transposed weight. Knows nothing of
models. Axes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.modules.linear import is_plain

_TRANSPOSED_FROM = 1 << 10
"""Weights (I·O) from which a layout of their own pays."""
_PACKED_FROM = 1 << 18
"""Weights from which packing pays: below, calling oneDNN costs more than it saves."""
_MOST_WEIGHTS = 1 << 28
"""Weights of a model that are kept twice (1 GiB each time); a larger model is left as it is."""


class PackedLinear(nn.Linear):
    """A linear map that lays its weight out anew when it is first used on a CPU, in float32 and without gradients.

    That copy is made again when the weight was written into. Everywhere else this is `nn.Linear`, with the same
    parameters.

    Args:
        weight: (O, I), shared.
        bias: (O,), shared, or None.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        nn.Module.__init__(self)  # nn.Linear's own makes new weights
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.register_parameter("bias", bias)
        self._forms: dict[str, Tensor] = {}
        self._version = -1

    def forward(self, input: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        return self.quick(input.dtype, input.requires_grad)(input)

    def quick(self, dtype: torch.dtype = torch.float32, requires_grad: bool = False) -> Callable[[Tensor], Tensor]:
        """`forward`, for inputs of this kind and a weight that stays as it is: what can be asked once is asked now."""
        weight, bias = self.weight, self.bias
        if not self._has_forms_for(dtype, requires_grad):
            return lambda x: F.linear(x, weight, bias)
        if weight.numel() < _PACKED_FROM or not _has_packed_kernel():
            return _transposed_product(self._form("transposed"), bias)
        return self._few_or_one

    def function_for(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        """As `quick`, for a compiler: of tensors and operators that it knows, which packed weights are not."""
        weight, bias = self.weight, self.bias
        if not self._has_forms_for(dtype, False):
            return lambda x: F.linear(x, weight, bias)
        return _transposed_product(self._form("transposed"), bias)

    def _few_or_one(self, input: Tensor) -> Tensor:
        bias = self.bias
        if input.numel() > self.in_features:
            result = torch.ops.mkldnn._linear_pointwise(input, self._form("packed"), bias, "none", [], "")
            return cast(Tensor, result)
        if self.out_features < 2 * self.in_features:
            return F.linear(input, self.weight, bias)
        return _transposed_product(self._form("transposed"), bias)(input)

    def _has_forms_for(self, dtype: torch.dtype, requires_grad: bool) -> bool:
        weight = self.weight
        if weight.device.type != "cpu" or not weight.dtype == dtype == torch.float32:
            return False
        if torch.is_grad_enabled() and (weight.requires_grad or requires_grad):
            return False
        return not torch.is_autocast_enabled("cpu")

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
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
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
        if torch.is_grad_enabled() and (x.requires_grad or any(layer.weight.requires_grad for layer in self._layers)):
            return torch.cat([layer(x) for layer in self._layers], dim=-1)
        result: Tensor = self._current()(x)
        return result

    def quick(self) -> Callable[[Tensor], Tensor]:
        """The same for weights that stay as they are and inputs like those that will come."""
        if torch.is_grad_enabled() and any(layer.weight.requires_grad for layer in self._layers):
            return self
        return self._current().quick()

    def packed(self) -> PackedLinear:
        """The layers as one, for weights that stay as they are."""
        return self._current()

    def _current(self) -> PackedLinear:
        weights = [layer.weight for layer in self._layers]
        known = [(_version(weight), weight.dtype, weight.device) for weight in weights]
        if self._joined is None or known != self._known:
            weight = nn.Parameter(torch.cat(weights), requires_grad=False)
            bias: nn.Parameter | None = None
            if self._layers[0].bias is not None:
                bias = nn.Parameter(torch.cat([layer.bias for layer in self._layers]), requires_grad=False)
            self._joined, self._known = PackedLinear(weight, bias), known
        return self._joined


@runtime_checkable
class _JoinsProjections(Protocol):
    """A module several of whose linear layers have the same input."""

    def join_projections(self) -> None:
        """From now on let one product do what they do, where that gives the same."""
        ...


def pack_linears(model: nn.Module) -> None:
    """Put a `PackedLinear` of the same parameters in the place of each plain linear layer of a model.

    Projections of the same input are joined (`join_projections`). Nothing is done to a model too large to have its
    weights in memory twice.
    """
    found: list[tuple[nn.Module, str, nn.Linear]] = []
    joins: list[_JoinsProjections] = []
    for module in model.modules():
        if isinstance(module, _JoinsProjections):
            joins.append(module)
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and is_plain(child) and child.weight.numel() >= _TRANSPOSED_FROM:
                found.append((module, name, child))
    layers = {layer for _, _, layer in found}
    if sum(layer.weight.numel() for layer in layers) > _MOST_WEIGHTS:
        return
    packed = {layer: PackedLinear(cast(nn.Parameter, layer.weight), layer.bias) for layer in layers}
    for owner, name, layer in found:
        setattr(owner, name, packed[layer].train(layer.training))
    for joining in joins:
        joining.join_projections()


def is_product(layer: nn.Module) -> bool:
    """Whether what a layer does is a product with its float weight, and nothing more."""
    return is_plain(layer) or type(layer) is PackedLinear


def quick(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What calling a module does, at a fraction of the cost of calling a module; for weights that stay as they are.

    A third of the time in which a small model is decoded goes into the looking up of parameters and hooks.
    """
    if isinstance(function, PackedLinear | JoinedLinear):
        return function.quick()
    if not isinstance(function, nn.Module) or _is_watched(function):
        return function
    if type(function) is nn.Linear:
        weight, bias = function.weight, function.bias
        return lambda x: F.linear(x, weight, bias)
    if type(function) is nn.LayerNorm:
        shape, scale, shift, eps = function.normalized_shape, function.weight, function.bias, function.eps
        return lambda x: torch.layer_norm(x, shape, scale, shift, eps)
    return function.forward


def function_for_compiler(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """As `quick`, as a compiler likes it: it sees tensors and operators, and nothing that is looked up."""
    if isinstance(function, JoinedLinear):
        function = function.packed()
    return function.function_for(dtype) if isinstance(function, PackedLinear) else quick(function)


def has_packed(model: nn.Module) -> bool:
    """Whether a model has a layer that multiplies by a packed weight."""
    return _has_packed_kernel() and any(
        isinstance(module, PackedLinear) and module.weight.numel() >= _PACKED_FROM for module in model.modules()
    )


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks want to know when the module is called."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def _transposed_product(weight_IO: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    def product(x: Tensor) -> Tensor:
        rows_NI = x if x.dim() == 2 else x.reshape(-1, weight_IO.size(0))
        rows_NO = torch.mm(rows_NI, weight_IO) if bias is None else torch.addmm(bias, rows_NI, weight_IO)
        return rows_NO if x.dim() == 2 else rows_NO.view(*x.shape[:-1], -1)

    return product


def _version(weight: Tensor) -> int:
    """A number that changes when the weight is written into."""
    return 0 if weight.is_inference() else weight._version


@functools.cache
def _has_packed_kernel() -> bool:
    has_library: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_library and hasattr(torch.ops.mkldnn, "_linear_pointwise")
