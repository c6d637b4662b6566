from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from seqkit.modules import packed_linear
from seqkit.modules.attention import MultiheadAttention
from seqkit.modules.packed_linear import JoinedLinear, PackedLinear, pack_linears, quick

WIDTHS = [(16, 48), (512, 1024), (1024, 512)]
"""Too small for oneDNN; large, and wider; large, and narrower."""


def packed_of(layer: nn.Linear) -> PackedLinear:
    return PackedLinear(layer.weight, layer.bias)


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (5,), (1, 1), (3, 4)])
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
def test_equals_the_plain_layer(inputs: int, outputs: int, shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(inputs, outputs, bias=bias)
    x = torch.randn(*shape, inputs)
    for function in (packed_of(layer), quick(packed_of(layer)), quick(layer)):
        torch.testing.assert_close(function(x), layer(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "outputs"), WIDTHS)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_weight_that_was_written_into_counts(inputs: int, outputs: int, rows: int) -> None:
    layer = nn.Linear(inputs, outputs)
    packed = packed_of(layer)
    joined = JoinedLinear([layer, nn.Linear(inputs, outputs)])
    x = torch.randn(rows, inputs)
    packed(x), joined(x)
    layer.weight.mul_(2.0)
    torch.testing.assert_close(packed(x), layer(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(joined(x)[:, :outputs], layer(x), rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_shared_parameters() -> None:
    layer = nn.Linear(512, 1024)
    x = torch.randn(3, 512, requires_grad=True)
    packed_of(layer)(x).sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is not None
    layer.weight.grad = None
    JoinedLinear([layer, layer])(x).sum().backward()
    assert layer.weight.grad is not None


@torch.no_grad()
def test_other_precisions_are_left_to_pytorch() -> None:
    layer = nn.Linear(512, 1024)
    x = torch.randn(3, 512)
    packed = packed_of(layer)
    packed(x)
    packed.to(torch.bfloat16)
    assert packed(x.bfloat16()).dtype == torch.bfloat16
    packed.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed(x).dtype == torch.bfloat16


@torch.no_grad()
def test_a_copy_has_weights_of_its_own() -> None:
    packed = packed_of(nn.Linear(512, 1024))
    x = torch.randn(3, 512)
    expected = packed(x)
    copied = copy.deepcopy(packed)
    packed.weight.zero_()
    torch.testing.assert_close(copied(x), expected)


@torch.no_grad()
def test_a_model_keeps_its_parameters_and_results() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), MultiheadAttention(1024, 4).eval())
    watched = nn.Linear(1024, 1024)
    watched.register_forward_hook(lambda module, inputs, output: output + 1)
    model.append(nn.Sequential(watched))
    x = torch.randn(2, 3, 512)

    def results() -> torch.Tensor:
        attended, _ = model[2](model[1](model[0](x)))
        result: torch.Tensor = model[3](attended)
        return result

    before, names = results(), list(model.state_dict())
    parameters = list(model.parameters())
    pack_linears(model)
    assert type(model[0]) is PackedLinear
    assert type(model[3][0]) is nn.Linear
    assert list(model.state_dict()) == names
    assert [id(parameter) for parameter in model.parameters()] == [id(parameter) for parameter in parameters]
    torch.testing.assert_close(results(), before, rtol=1e-4, atol=1e-5)


def test_a_model_too_large_to_be_kept_twice_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_linear, "_MOST_WEIGHTS", 512 * 1024 - 1)
    model = nn.Sequential(nn.Linear(512, 1024))
    pack_linears(model)
    assert type(model[0]) is nn.Linear


@torch.no_grad()
def test_a_hooked_module_is_called() -> None:
    norm = nn.LayerNorm(8)
    x = torch.randn(2, 8)
    torch.testing.assert_close(quick(norm)(x), norm(x))
    calls: list[str] = []
    norm.register_forward_hook(lambda *_: calls.append("norm"))
    quick(norm)(x)
    assert calls == ["norm"]
