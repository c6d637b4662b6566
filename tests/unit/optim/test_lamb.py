import math

import pytest
import torch

from seqkit.optim.lamb import LAMB
from tests.unit.optim.helpers import give_gradients, parameters, run


def by_hand(steps, lr, decay, max_grad_norm, adapt):
    shadow = parameters()
    values = [param.detach().double() for param in shadow]
    means = [torch.zeros_like(value) for value in values]
    squares = [torch.zeros_like(value) for value in values]
    for step in range(1, steps + 1):
        give_gradients(shadow, step - 1)
        grads = [param.grad.double() for param in shadow]
        norm = math.sqrt(sum(float(grad.square().sum()) for grad in grads))
        factor = min(1.0, max_grad_norm / (norm + 1e-6)) if max_grad_norm else 1.0
        for i, grad in enumerate(grads):
            means[i] = 0.9 * means[i] + 0.1 * grad * factor
            squares[i] = 0.99 * squares[i] + 0.01 * (grad * factor) ** 2
            direction = means[i] / (1 - 0.9**step) / ((squares[i] / (1 - 0.99**step)).sqrt() + 1e-6)
            direction = direction + decay * values[i]
            ratio = values[i].norm() / direction.norm() if adapt else 1.0
            values[i] = values[i] - lr * ratio * direction
    return values


@pytest.mark.parametrize(
    ("decay", "max_grad_norm", "always", "adapt"),
    [(0.1, 0.0, False, True), (0.1, 1.0, False, True), (0.0, 0.5, False, False), (0.0, 0.0, True, True)],
)
def test_steps_are_in_proportion_to_the_parameters_norm(decay, max_grad_norm, always, adapt):
    params = parameters()
    optimizer = LAMB(
        params,
        lr=0.05,
        betas=(0.9, 0.99),
        eps=1e-6,
        weight_decay=decay,
        max_grad_norm=max_grad_norm,
        always_adapt=always,
    )
    expected = by_hand(10, 0.05, decay, max_grad_norm, adapt)
    for found, right in zip(run(optimizer, params, 10), expected, strict=True):
        torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-6)


def test_parameters_of_norm_0_get_away_from_it():
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.ones(3)
    LAMB([weight], lr=0.1, weight_decay=0.1).step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), -0.1))
