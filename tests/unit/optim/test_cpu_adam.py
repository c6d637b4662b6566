import torch

from seqkit.config.validate import build_config
from seqkit.optim.adam import Adam
from seqkit.optim.base import build_optimizer, works_on_cpu
from seqkit.optim.cpu_adam import CPUAdamConfig
from tests.unit.optim.helpers import parameters, run


def test_is_adam_and_asks_for_master_weights_on_the_cpu():
    settings = {"_name": "cpu_adam", "adam_betas": "(0.9, 0.98)", "weight_decay": 0.1, "lr": [0.02]}
    config = build_config(CPUAdamConfig, settings, where="optimizer")
    ours, plain = parameters(), parameters()
    found = run(build_optimizer(config, ours), ours, 3)
    expected = run(Adam(plain, lr=0.02, betas=(0.9, 0.98), weight_decay=0.1), plain, 3)
    assert all(torch.equal(value, right) for value, right in zip(found, expected, strict=True))
    assert works_on_cpu(config)
