from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from seqkit.modules import quantized_linear
from seqkit.modules.attention import MultiheadAttention
from seqkit.modules.quantized_linear import QuantizedLinear, is_quantized, largest_weight, quantize_linears


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def layer(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(inputs, outputs, bias=bias)


def by_the_formula(quantized: QuantizedLinear, x: Tensor) -> Tensor:
    """The definition, with sums of whole numbers."""
    scale = x.abs().amax(-1, keepdim=True).double() / 127
    rounded = (x / scale).round()
    result = rounded.double() @ quantized.weight.double().T * quantized.scale.double() * scale
    return result if quantized.bias is None else result + quantized.bias.double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 40), (1024, 512)])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 2)])
def test_it_is_nearly_the_layer_and_exactly_the_formula(
    shape: tuple[int, ...], inputs: int, outputs: int, bias: bool
) -> None:
    plain = layer(inputs, outputs, bias=bias)
    quantized = QuantizedLinear.of([plain])
    x = torch.randn(*shape, inputs)
    result = quantized(x)
    assert result.shape == (*shape, outputs)
    assert result.dtype == torch.float32
    error = (result - plain(x)).norm() / plain(x).norm()
    assert error < 0.015
    torch.testing.assert_close(result.double(), by_the_formula(quantized, x), atol=1e-5, rtol=1e-5)
    assert quantized.weight.dtype == torch.int8


def test_a_row_does_not_depend_on_the_rows_beside_it_nor_on_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    quantized = QuantizedLinear.of([layer(1024, 1024)])
    x = torch.randn(40, 1024) * torch.logspace(-3, 3, 40).unsqueeze(1)
    whole = quantized(x)
    for size in (1, 7):
        assert torch.equal(torch.cat([quantized(part) for part in x.split(size)]), whole)
    monkeypatch.setattr(quantized_linear, "_has_packed_kernel", lambda: False)
    assert torch.equal(quantized(x), whole)


@pytest.mark.parametrize("size", [16, 1024])
def test_rows_of_zeros_and_broken_ones(size: int) -> None:
    quantized = QuantizedLinear.of([layer(size, 1024)])
    x = torch.randn(3, size)
    x[1] = 0
    result = quantized(x)
    assert torch.equal(result[1], quantized.bias)
    x[1, 4] = math.nan
    broken = quantized(x)
    assert broken[1].isnan().all()
    assert torch.equal(broken[::2], result[::2])
    assert quantized(x[:0]).shape == (0, 1024)


def test_weights_of_zero_stay_zero() -> None:
    plain = layer(8, 3)
    plain.weight[1] = 0
    assert torch.equal(QuantizedLinear.of([plain])(torch.randn(2, 8))[:, 1], plain.bias[1].expand(2))


def test_layers_become_one_and_parts_of_it_are_the_layers() -> None:
    layers = [layer(16, 8), layer(16, 24, bias=False)]
    joined = QuantizedLinear.of(layers)
    x = torch.randn(4, 16)
    separate = [QuantizedLinear.of([each])(x) for each in layers]
    assert torch.equal(joined(x), torch.cat(separate, dim=1))
    assert torch.equal(joined.part(8, 32)(x), separate[1])
    assert joined.part(8, 32).weight.untyped_storage().data_ptr() == joined.weight.untyped_storage().data_ptr()


def test_where_pairs_of_products_saturate_weights_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    largest_weight.cache_clear()

    def saturating(x: Tensor, weight: Tensor) -> Tensor:
        columns = weight.t().int().unflatten(1, (-1, 2))
        sums = [
            ((row.int().unflatten(0, (-1, 2)) + 128) * columns).sum(-1).clamp(-(2**15), 2**15 - 1).sum(-1) for row in x
        ]
        return (torch.stack(sums) - 128 * weight.sum(0, dtype=torch.int64)).int()

    try:
        monkeypatch.setattr(torch, "_int_mm", saturating)
        assert largest_weight() == 63
        plain = layer(32, 16)
        quantized = QuantizedLinear.of([plain])
        assert quantized.weight.abs().amax(1).eq(63).all()
        x = torch.full((2, 32), 3.0)
        torch.testing.assert_close(quantized(x).double(), by_the_formula(quantized, x), atol=1e-5, rtol=1e-5)
    finally:
        largest_weight.cache_clear()


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(600, 256)
        self.attention = MultiheadAttention(256, 4)
        self.watched = layer(512, 256)
        self.watched.register_forward_hook(lambda module, inputs, output: None)
        self.small = layer(256, 16)
        self.output_projection = nn.Linear(256, 600, bias=False)
        self.output_projection.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.output_projection(self.attention(x)[0])
        return result


def test_large_layers_of_a_model_are_replaced_and_embeddings_stay() -> None:
    model = _Model().eval()
    x = torch.randn(2, 5, 256)
    before = model(x)
    table = model.embed.weight.clone()
    assert not is_quantized(model)
    assert quantize_linears(model) == 4  # queries, keys, values; the output
    assert is_quantized(model)
    assert not model.training
    assert not any(module.training for module in model.modules())
    assert type(model.output_projection) is QuantizedLinear
    assert type(model.watched) is type(model.small) is nn.Linear
    assert torch.equal(model.embed.weight, table)
    assert model.attention.joined is not None
    error = (model(x) - before).norm() / before.norm()
    assert 0 < error < 0.03
    alone, _ = model.attention(x, x)  # by the three projections
    torch.testing.assert_close(alone, model.attention(x)[0])
