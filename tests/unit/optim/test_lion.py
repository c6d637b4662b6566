import pytest
import torch

from seqkit.errors import ConfigError
from seqkit.optim.lion import Lion, LionConfig
from tests.unit.optim.helpers import give_gradients, parameters, run


def test_steps_are_signs_of_the_interpolated_momentum():
    params = parameters()
    values = [param.detach().double() for param in params]
    means = [torch.zeros_like(value) for value in values]
    shadow = parameters()
    for step in range(8):
        give_gradients(shadow, step)
        for i, param in enumerate(shadow):
            grad = param.grad.double()
            values[i] = values[i] * (1 - 0.01 * 0.3) - 0.01 * torch.sign(0.9 * means[i] + 0.1 * grad)
            means[i] = 0.99 * means[i] + 0.01 * grad
    optimizer = Lion(params, lr=0.01, weight_decay=0.3)
    for found, right in zip(run(optimizer, params, 8), values, strict=True):
        torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-6)
    assert set(optimizer.state[params[0]]) == {"exp_avg"}


def test_every_weight_moves_by_the_rate():
    params = parameters()
    before = [param.detach().clone() for param in params]
    for old, new in zip(before, run(Lion(params, lr=0.01), params, 1), strict=True):
        torch.testing.assert_close((new - old).abs(), torch.full_like(old, 0.01))


def test_wrong_betas():
    with pytest.raises(ConfigError, match="lion_betas"):
        Lion.build(LionConfig(lion_betas=[0.9]), parameters())
