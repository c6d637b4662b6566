from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from seqkit.config.sections import DistributedTrainingConfig
from seqkit.distributed.communication import SingleProcess
from seqkit.distributed.data_parallel import Alone, _buckets, build_data_parallel, check_data_parallel


def problems(**options: Any) -> list[str]:
    return check_data_parallel(DistributedTrainingConfig(**options))


def test_one_process_needs_no_wrapping() -> None:
    module = nn.Linear(2, 2)
    parallel = build_data_parallel(module, SingleProcess(), DistributedTrainingConfig(ddp_backend="legacy_ddp"))
    assert isinstance(parallel, Alone)
    assert parallel.gradient_factor == 1
    assert torch.equal(parallel(torch.ones(1, 2)), module(torch.ones(1, 2)))


@pytest.mark.parametrize("backend", ["c10d", "pytorch_ddp", "legacy_ddp", "no_c10d"])
def test_what_there_is(backend: str) -> None:
    assert problems(ddp_backend=backend) == []


def test_what_is_refused_says_why() -> None:
    assert "use ddp_backend=fully_sharded" in problems(zero_sharding="os")[0]
    assert "is a hook of torch's DDP" in problems(ddp_backend="legacy_ddp", ddp_comm_hook="fp16")[0]
    assert problems(ddp_comm_hook="fp16") == []


def test_buckets_hold_one_precision_and_so_many_bytes() -> None:
    params = [
        nn.Parameter(torch.zeros(size, dtype=dtype))
        for size, dtype in (
            (4, torch.float32),
            (4, torch.bfloat16),
            (4, torch.float32),
            (100, torch.float32),
            (1, torch.bfloat16),
        )
    ]
    assert [[param.numel() for param in bucket] for bucket in _buckets(params, 32)] == [[4, 4], [4, 1], [100]]
