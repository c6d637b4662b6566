import math

import pytest
import torch
from torch import nn

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.adafactor import Adafactor, AdafactorConfig
from tests.unit.optim.helpers import parameters, run


def test_state_is_a_row_and_a_column():
    params = parameters()
    optimizer = Adafactor(params)
    run(optimizer, params, 1)
    state = optimizer.state[params[0]]
    assert state["exp_avg_sq_row"].shape == (4,)
    assert state["exp_avg_sq_col"].shape == (3,)
    assert optimizer.state[params[1]]["exp_avg_sq"].shape == (3,)


def test_relative_step_needs_no_rate():
    config = build_config(AdafactorConfig, {"relative_step": True, "warmup_init": True, "lr": [9.0]}, where="optimizer")
    weight = nn.Parameter(torch.ones(4))
    optimizer = Adafactor.build(config, [weight])
    weight.grad = torch.ones(4)
    optimizer.step()
    # The update's root mean square is 1: the step is the rate, 1e-6 at the first update.
    torch.testing.assert_close(
        1 - weight.detach().double(), torch.full((4,), 1e-6, dtype=torch.float64), rtol=0.1, atol=0
    )


def test_scale_parameter_is_of_each_parameter_alone():
    config = {"scale_parameter": True, "lr": [0.1]}
    big, small = nn.Parameter(torch.full((4,), 100.0)), nn.Parameter(torch.full((4,), 2.0))
    optimizer = Adafactor.build(build_config(AdafactorConfig, config, where="optimizer"), [big, small])
    for weight in (big, small):
        weight.grad = torch.ones(4)
    optimizer.step()
    assert math.isclose(100 - big[0].item(), 10.0, rel_tol=1e-4)
    assert math.isclose(2 - small[0].item(), 0.2, rel_tol=1e-4)


def test_compound_scale_is_fairseqs():
    config = {"scale_parameter": True, "compound_scale": True, "lr": [0.1]}
    big, small = nn.Parameter(torch.full((4,), 10.0)), nn.Parameter(torch.full((4,), 2.0))
    optimizer = Adafactor.build(build_config(AdafactorConfig, config, where="optimizer"), [big, small])
    for weight in (big, small):
        weight.grad = torch.ones(4)
    optimizer.step()
    assert math.isclose(2 - small[0].item(), 0.1 * 10 * 2, rel_tol=1e-4)


def test_contradictions():
    with pytest.raises(ConfigError, match="warmup_init=true needs"):
        Adafactor(parameters(), lr=0.1, relative_step=False, warmup_init=True)
    with pytest.raises(ConfigError, match="needs a learning rate"):
        Adafactor(parameters(), relative_step=False)
    with pytest.raises(ConfigError, match="adafactor_eps"):
        Adafactor.build(AdafactorConfig(adafactor_eps=[1e-30]), parameters())
