import pytest
import torch

from seqkit.optim.sgd import SGD
from tests.unit.optim.helpers import parameters, run


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"momentum": 0.8, "weight_decay": 0.1}])
def test_equals_torch(settings):
    ours, theirs = parameters(), parameters()
    found = run(SGD(ours, lr=0.1, **settings), ours, 6)
    expected = run(torch.optim.SGD(theirs, lr=0.1, **settings), theirs, 6)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_no_state_without_momentum():
    params = parameters()
    optimizer = SGD(params, lr=0.1)
    run(optimizer, params, 2)
    assert optimizer.state_dict()["state"] in ({}, {0: {}, 1: {}, 2: {}})
