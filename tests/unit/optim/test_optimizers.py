"""What holds for every optimizer."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.base import build_optimizer, get_lr, parameter_names, set_lr
from seqkit.registry import registry
from tests.unit.optim.helpers import give_gradients, parameters, run

NAMES = [
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "nag", "sgd"),
    *("adamw", "cpu_adam", "lamb", "lion", "muon"),
]


def make(name, params, **settings):
    cls = registry("optimizer").get(name).config
    if name in ("sgd", "nag"):
        settings = {"momentum": 0.9, **settings}
    return build_optimizer(build_config(cls, {"_name": name, "lr": [0.05], **settings}, where="optimizer"), params)


def test_helpers_are_not_optimizers():
    assert set(NAMES) <= set(registry("optimizer").names())
    assert not {"clip", "loss_scaler", "base", "lr_scheduler"} & set(registry("optimizer").names())


@pytest.mark.parametrize("name", NAMES)
def test_finds_a_minimum(name):
    torch.manual_seed(0)
    target = torch.tensor([1.0, -2.0, 0.5])
    weight = nn.Parameter(torch.zeros(3))
    optimizer = make(name, [weight], lr=[1.0 if name == "adadelta" else 0.5 if name == "adagrad" else 0.02])
    start = (target**2).sum().item()
    for step in range(400):
        optimizer.zero_grad()
        loss = ((weight - target) ** 2).sum()
        loss.backward()
        set_lr(optimizer, get_lr(optimizer) * (0.99 if step > 200 else 1.0))
        optimizer.step()
    assert ((weight - target) ** 2).sum().item() < (0.7 if name == "adadelta" else 0.02) * start


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_after_loading(name):
    whole = parameters()
    expected = run(make(name, whole), whole, 5)
    params = parameters()
    optimizer = make(name, params)
    run(optimizer, params, 3)
    state = copy.deepcopy(optimizer.state_dict())
    other_params = [nn.Parameter(param.detach().clone()) for param in params]
    other = make(name, other_params)
    other.load_state_dict(state)
    found = run(other, other_params, 2, first=3)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_state_in_float32(name, dtype):
    params = parameters(dtype)
    optimizer = make(name, params)
    run(optimizer, params, 2)
    assert all(param.dtype == dtype for param in params)
    state = optimizer.state_dict()
    clone = make(name, [nn.Parameter(param.detach().clone()) for param in params])
    clone.load_state_dict(state)
    for held in (optimizer, clone):
        tensors = [
            value for entry in held.state.values() for value in entry.values() if isinstance(value, torch.Tensor)
        ]
        assert tensors
        assert all(tensor.dtype == torch.float32 for tensor in tensors)
    for before, after in zip(optimizer.state.values(), clone.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(before[key]), torch.as_tensor(after[key])) for key in before)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_follows_full_precision(name):
    full, half = parameters(torch.bfloat16), parameters(torch.bfloat16)
    full = [nn.Parameter(param.detach().float()) for param in full]
    half_result = run(make(name, half), half, 1)
    give_gradients(half, 0)
    optimizer = make(name, full)
    for param, source in zip(full, half, strict=True):
        param.grad = source.grad.float()
    optimizer.step()
    for param, rounded in zip(full, half_result, strict=True):
        assert torch.equal(param.detach().to(torch.bfloat16), rounded)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_gradient_stay(name):
    params = parameters()
    before = params[1].detach().clone()
    optimizer = make(name, params)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1].detach(), before)
    assert params[1] not in optimizer.state or not optimizer.state[params[1]]


@pytest.mark.parametrize("name", NAMES)
def test_strided_gradients_and_closures(name):
    straight, strided = parameters(), parameters()
    expected = run(make(name, straight), straight, 1)
    optimizer = make(name, strided)

    def closure():
        give_gradients(strided, 0)
        strided[0].grad = strided[0].grad.t().contiguous().t()
        return 7.0

    assert optimizer.step(closure) == 7.0
    for param, value in zip(strided, expected, strict=True):
        assert torch.equal(param.detach(), value)


def test_sparse_gradients_are_refused():
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = make("adam", list(embedding.parameters()))
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ConfigError, match="sparse=False"):
        optimizer.step()


def test_groups_have_their_own_rates():
    params = parameters()
    optimizer = make("adam", [{"params": params[:1]}, {"params": params[1:], "lr_scale": 0.1}])
    set_lr(optimizer, 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]


@pytest.mark.parametrize("name", NAMES)
def test_without_learning_rate(name):
    with pytest.raises(ConfigError, match=r"optimization\.lr is empty"):
        make(name, parameters(), lr=[])


def test_making_one_does_not_bring_the_compiler_along():
    code = (
        "import sys, torch; from seqkit.optim.adam import Adam; p = torch.nn.Parameter(torch.zeros(2)); o = Adam([p]); "
        "p.grad = torch.ones(2); o.step(); o.zero_grad(); o.load_state_dict(o.state_dict()); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_named_parameters_keep_their_names():
    named = list(zip("abc", parameters(), strict=True))
    optimizer = make("adam", named)
    assert parameter_names(optimizer) == ["a", "b", "c"]
    assert parameter_names(make("adam", parameters())) == []
    muon = make("muon", named)
    assert parameter_names(muon) == ["a", "c", "b"]
    assert [group["param_names"] for group in muon.state_dict()["param_groups"]] == [["a", "c"], ["b"]]


def test_options_that_a_saved_group_lacks_have_their_defaults():
    params = parameters()
    optimizer = make("lamb", params)
    run(optimizer, params, 1)
    state = optimizer.state_dict()
    del state["param_groups"][0]["always_adapt"]  # as fairseq writes it
    other = make("lamb", parameters())
    other.load_state_dict(state)
    run(other, other.param_groups[0]["params"], 1)
