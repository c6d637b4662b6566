import math

import pytest
import torch

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.adam import Adam, AdamConfig
from tests.unit.optim.helpers import give_gradients, parameters, run


def by_hand(params, steps, lr, betas, eps, decay):
    values = [param.detach().double() for param in params]
    means = [torch.zeros_like(value) for value in values]
    squares = [torch.zeros_like(value) for value in values]
    for step in range(1, steps + 1):
        give_gradients(params, step - 1)
        for i, param in enumerate(params):
            grad = param.grad.double()
            means[i] = betas[0] * means[i] + (1 - betas[0]) * grad
            squares[i] = betas[1] * squares[i] + (1 - betas[1]) * grad**2
            size = lr * math.sqrt(1 - betas[1] ** step) / (1 - betas[0] ** step)
            values[i] = values[i] - decay * lr * values[i]
            values[i] = values[i] - size * means[i] / (squares[i].sqrt() + eps)
    return values


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
def test_eps_is_added_before_the_bias_is_corrected(eps):
    settings = {"lr": 0.02, "betas": (0.9, 0.98), "eps": eps}
    params = parameters()
    expected = by_hand(parameters(), 20, decay=0.1, **settings)
    found = run(Adam(params, weight_decay=0.1, **settings), params, 20)
    for value, right in zip(found, expected, strict=True):
        torch.testing.assert_close(value.double(), right, rtol=1e-6, atol=1e-7)


def test_state_has_fairseqs_names_and_takes_fairseqs():
    params = parameters()
    optimizer = Adam(params)
    run(optimizer, params, 2)
    assert set(optimizer.state[params[0]]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[params[0]]["step"] == 2
    state = optimizer.state_dict()
    state["param_groups"][0]["amsgrad"] = False  # as fairseq writes it
    state["state"][0]["step"] = torch.tensor(2.0)  # as torch writes it
    other = Adam(parameters())
    other.load_state_dict(state)
    assert other.state[other.param_groups[0]["params"][0]]["step"] == 2


def test_parameters_may_join_later():
    late, alone = parameters()[:2], parameters()[1]
    optimizer = Adam(late, lr=0.1)
    give_gradients(late, 0)
    late[1].grad = None
    optimizer.step()
    give_gradients(late, 1)
    alone.grad = late[1].grad.clone()
    optimizer.step()
    Adam([alone], lr=0.1).step()
    assert torch.equal(late[1].detach(), alone.detach())
    assert [optimizer.state[param]["step"] for param in late] == [2, 1]


@pytest.mark.parametrize("betas", [[0.9], [0.9, 1.0], [0.9, 0.98, 0.99]])
def test_wrong_betas(betas):
    with pytest.raises(ConfigError, match="adam_betas"):
        Adam.build(AdamConfig(adam_betas=betas), parameters())


def test_what_cannot_be_had_is_refused():
    with pytest.raises(ConfigError, match=r"optimizer\.tpu"):
        build_config(AdamConfig, {"tpu": True}, where="optimizer")


def test_means_in_float16_are_scaled():
    exact, rounded = parameters(), parameters()
    tiny = [parameters() for _ in range(2)]
    expected = run(Adam(exact, lr=0.01), exact, 10)
    optimizer = Adam(rounded, lr=0.01, fp16_stats=True)
    found = run(optimizer, rounded, 10)
    for value, right in zip(found, expected, strict=True):
        torch.testing.assert_close(value, right, rtol=0, atol=2e-4)
    state = optimizer.state[rounded[0]]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.float16
    assert set(state) == {"step", "exp_avg", "exp_avg_scale", "exp_avg_sq", "exp_avg_sq_scale"}
    # Gradients far below float16's range, and a wide one within a parameter.
    for params, stats in zip(tiny, (False, True), strict=True):
        adam = Adam(params, lr=0.01, fp16_stats=stats)
        for param in params:
            param.grad = torch.full_like(param, 1e-7)
            param.grad.view(-1)[0] = 1.0
        adam.step()
        assert (params[0].detach() - parameters()[0]).abs().max() < 0.0101


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
def test_means_in_float16_are_carried_over(before, after):
    params = parameters()
    optimizer = Adam(params, lr=0.01, fp16_stats=before)
    run(optimizer, params, 3)
    others = [torch.nn.Parameter(param.detach().clone()) for param in params]
    other = Adam(others, lr=0.01, fp16_stats=after)
    other.load_state_dict(optimizer.state_dict())
    assert other.state[others[0]]["exp_avg"].dtype == (torch.float16 if after else torch.float32)
    tolerance = {"rtol": 0, "atol": 0} if before and after else {"rtol": 0, "atol": 1e-4}
    for one, two in zip(run(optimizer, params, 2, first=3), run(other, others, 2, first=3), strict=True):
        torch.testing.assert_close(one, two, **tolerance)
