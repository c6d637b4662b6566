"""Linear layers with weights of eight bits, for inference on a CPU.

Each output channel's weights are whole numbers of one scale, and so is each row of the input, whose scale is found when
it comes (dynamic quantisation, as in Jacob et al., 2018, without zero points):

    y = (W8 x8) · scale_W · scale_x + b        with x8 = round(127 x / max|x|), scale_x = max|x| / 127

Sums are exact, so that a row's result does not depend on the rows beside it, nor on which kernel computes it.
Knows nothing of models. Axes: N rows, I inputs, O outputs.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from seqkit.modules.attention import MultiheadAttention
from seqkit.modules.linear import is_plain

_QUANTIZED_FROM = 1 << 17
"""Weights from which a layer is quantised: below, few rows pay more for the input's scale than they save."""
_LARGEST = 127
_OFFSET = 128
"""What a kernel for inputs without a sign has added to them."""
_TO_WHOLE = 1.5 * 2.0**23
"""Added to a small float32, it leaves the nearest whole number in the last bits; the last byte is that as an int8."""
_PACKED_FROM = 1 << 19
"""Weights from which `_int_mm` takes longer to rearrange them than the other kernel to be called."""
_PACKED_FOR_ONE_ROW_FROM = 1 << 22
"""The same for a single row, for which it does not rearrange them."""


class QuantizedLinear(nn.Linear):
    """A linear map with int8 weights; float32 in and out, without gradients.

    Args:
        weight: (O, I) int8.
        scale: (O,) float32, what a unit of each row of `weight` is worth.
        bias: (O,) float32, or None.
    """

    weight: Tensor
    scale: Tensor
    _unit: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        nn.Module.__init__(self)  # nn.Linear's own makes float weights
        self.out_features, self.in_features = weight.shape
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)
        # What the sums are multiplied by, the input's 1/127 included.
        self.register_buffer("_unit", scale / _LARGEST, persistent=False)
        self._to_whole = torch.tensor(_TO_WHOLE)
        self._to_whole_with_offset = torch.tensor(_TO_WHOLE + _OFFSET)
        self._packed: tuple[Tensor, Tensor] | None = None
        # `weight` transposed, `_unit` and `bias`: looking a buffer up costs as much as an operator.
        self._at_hand: tuple[Tensor, Tensor, Tensor | None] | None = None

    @classmethod
    def of(cls, layers: Sequence[nn.Linear]) -> QuantizedLinear:
        """One layer that does what several float32 layers of the same input do, their outputs one behind the other."""
        weight = torch.cat([layer.weight.detach() for layer in layers])
        bias = None
        if any(layer.bias is not None for layer in layers):
            biases = [weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias for layer in layers]
            bias = torch.cat([each.detach() for each in biases])
        scale = weight.abs().amax(1).clamp_(min=torch.finfo(torch.float32).tiny) / largest_weight()
        return cls((weight / scale.unsqueeze(1)).round_().to(torch.int8), scale, bias)

    def part(self, start: int, end: int) -> QuantizedLinear:
        """The layer that gives the outputs from `start` up to `end`; it shares the weights."""
        bias: Tensor | None = self.bias
        part = QuantizedLinear(self.weight[start:end], self.scale[start:end], None if bias is None else bias[start:end])
        return part.train(self.training)

    def forward(self, input: Tensor) -> Tensor:
        """(…, I) to (…, O)."""
        if self._at_hand is None:
            self._at_hand = self.weight.t(), self._unit, self.bias
        weight_IO, unit_O, bias_O = self._at_hand
        rows_NI = input if input.dim() == 2 else input.reshape(-1, self.in_features)
        largest_N1 = rows_NI.abs().amax(1, keepdim=True)
        # In a row of zeros, 0/0 is NaN and its last byte any number; that is multiplied by the 0 of `largest_N1`.
        whole_NI = rows_NI / largest_N1
        if self._is_for_packed(rows_NI.size(0)):
            torch.add(self._to_whole_with_offset, whole_NI, alpha=_LARGEST, out=whole_NI)
            result_NO = _packed_product(whole_NI.view(torch.int32).to(torch.uint8), self._pack(), unit_O)
        else:
            torch.add(self._to_whole, whole_NI, alpha=_LARGEST, out=whole_NI)
            sums_NO = torch._int_mm(whole_NI.view(torch.int32).to(torch.int8), weight_IO)
            result_NO = sums_NO.float().mul_(unit_O)  # one product of both types takes up to three times as long
        if bias_O is None:
            result_NO.mul_(largest_N1)
        else:
            torch.addcmul(bias_O, result_NO, largest_N1, out=result_NO)
        return result_NO if input.dim() == 2 else result_NO.view(*input.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, int8"

    def _apply(self, fn: Any, recurse: bool = True) -> QuantizedLinear:
        self._packed = self._at_hand = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _is_for_packed(self, rows: int) -> bool:
        weights = self.in_features * self.out_features
        enough = _PACKED_FROM if rows > 1 else _PACKED_FOR_ONE_ROW_FROM
        return weights >= enough and _has_packed_kernel()

    def _pack(self) -> tuple[Tensor, Tensor]:
        """The weights in the order in which the kernel reads them, and its zero points; made when first needed."""
        if self._packed is None:
            self._packed = _pack(self.weight)
        return self._packed


def quantize_linears(model: nn.Module) -> int:
    """Put a `QuantizedLinear` in the place of each large plain linear layer; returns how many layers were replaced.

    Embeddings stay as they are, also where a layer has had their weights. The model cannot be trained afterwards.
    """
    count = 0
    for module in list(model.modules()):
        if isinstance(module, MultiheadAttention):
            count += _quantize_projections(module)
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and is_plain(child) and child.weight.numel() >= _QUANTIZED_FROM:
                setattr(module, name, QuantizedLinear.of([child]).train(child.training))
                count += 1
    return count


def is_quantized(model: nn.Module) -> bool:
    """Whether `quantize_linears` has been at work."""
    return any(isinstance(module, QuantizedLinear) for module in model.modules())


def _quantize_projections(attention: MultiheadAttention) -> int:
    """Quantise queries', keys' and values' projections of one width together: they share weights, and a scale of x."""
    layers = (attention.q_proj, attention.k_proj, attention.v_proj)
    width = attention.embed_dim
    if not all(is_plain(layer) and layer.in_features == layer.out_features == width for layer in layers):
        return 0
    if len(layers) * width**2 < _QUANTIZED_FROM:
        return 0
    joined = QuantizedLinear.of(layers).train(attention.training)
    attention.q_proj, attention.k_proj, attention.v_proj = (
        joined.part(start, start + width) for start in range(0, len(layers) * width, width)
    )
    attention.joined = joined
    return len(layers)


def _pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(weight, None)
    return packed, torch.zeros(weight.size(0), dtype=torch.int64)


def _packed_product(input: Tensor, packed: tuple[Tensor, Tensor], unit: Tensor) -> Tensor:
    """(N, I) uint8, `_OFFSET` added, to (N, O) float32: oneDNN's kernel for weights that were rearranged before."""
    weight, zeros = packed
    result: Tensor = torch.ops.onednn.qlinear_pointwise.default(
        input, 1.0, _OFFSET, weight, unit, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return result


@functools.cache
def _has_packed_kernel() -> bool:
    """Whether PyTorch has the operator, and in a form that is fast: elsewhere than on these processors it is not."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    try:
        one = _packed_product(torch.full((2, 4), _OFFSET + 1, dtype=torch.uint8), _pack(_ones(4, 4)), torch.ones(4))
    except (AttributeError, RuntimeError):  # it is no part of PyTorch's stable interface
        return False
    return bool(one.eq(4).all())


def _ones(rows: int, columns: int) -> Tensor:
    return torch.ones(rows, columns, dtype=torch.int8)


@functools.cache
def largest_weight() -> int:
    """The largest int8 weight whose products this processor adds up exactly: 127, or 63 where pairs of them saturate.

    Processors without VNNI add two products of eight bits in sixteen.
    """
    weight = torch.full((64, 64), _LARGEST, dtype=torch.int8)
    weight[::2] = -_LARGEST
    row = torch.full((4, 64), _LARGEST, dtype=torch.int8)
    expected = 64 * _LARGEST * weight[:, 0].int()
    exact = bool(torch._int_mm(row, weight.t()).eq(expected).all())
    if exact and _has_packed_kernel():
        unsigned = (row.int() + _OFFSET).to(torch.uint8)
        exact = bool(_packed_product(unsigned, _pack(weight), torch.ones(64)).eq(expected).all())
    return _LARGEST if exact else _LARGEST // 2
