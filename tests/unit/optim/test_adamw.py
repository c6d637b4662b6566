import pytest
import torch

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.adamw import AdamW, AdamWConfig
from tests.unit.optim.helpers import parameters, run


def test_is_that_of_pytorch():
    settings = {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1}
    ours, theirs = parameters(), parameters()
    found = run(AdamW(ours, **settings), ours, 10)
    expected = run(torch.optim.AdamW(theirs, **settings), theirs, 10)
    for value, right in zip(found, expected, strict=True):
        torch.testing.assert_close(value, right, rtol=1e-6, atol=1e-7)


def test_decays_by_default():
    config = build_config(AdamWConfig, {"lr": [0.1]}, where="optimizer")
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.zeros(2)
    AdamW.build(config, [weight]).step()
    torch.testing.assert_close(weight.detach(), torch.full((2,), 0.999))


def test_wrong_betas():
    with pytest.raises(ConfigError, match="adam_betas"):
        AdamW.build(AdamWConfig(adam_betas=[1.0, 0.9]), parameters())
