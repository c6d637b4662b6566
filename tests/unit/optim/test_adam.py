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
    with pytest.raises(ConfigError, match="fp16_adam_stats"):
        build_config(AdamConfig, {"fp16_adam_stats": True}, where="optimizer")
