from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from seqkit.config.sections import DistributedTrainingConfig
from seqkit.distributed.communication import SingleProcess
from seqkit.distributed.data_parallel import (
    Alone,
    ExchangeAfterwards,
    OverlappedExchange,
    _buckets,
    build_data_parallel,
    check_data_parallel,
)


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


class WithBuffer(nn.Module):
    """A layer with a buffer, for whose batches called "large" memory does not suffice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, sample: Any) -> Any:
        if sample == "large":
            raise torch.OutOfMemoryError("no memory")
        return self.layer(torch.ones(1, 2) - self.mean).sum()


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_buffers_are_exchanged_once_however_many_batches_were_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.Tensor] = []
    monkeypatch.setattr(dist, "broadcast", lambda tensor, source: sent.append(tensor))
    module = WithBuffer()
    options = DistributedTrainingConfig(ddp_backend="legacy_ddp", broadcast_buffers=True)
    parallel = ExchangeAfterwards(module, SingleProcess(), options)
    with pytest.raises(torch.OutOfMemoryError), parallel.accumulating(last=False):
        parallel("large")
    assert not parallel.is_broken
    with parallel.accumulating(last=True):
        parallel("small").backward()
    assert sent == []
    parallel.finish()
    assert len(sent) == 1
    assert sent[0] is module.mean


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("broadcast_buffers", [False, True])
def test_a_forward_that_exchanges_buffers_cannot_be_done_again(broadcast_buffers: bool) -> None:
    options = DistributedTrainingConfig(ddp_backend="pytorch_ddp", broadcast_buffers=broadcast_buffers)
    parallel = OverlappedExchange(WithBuffer(), SingleProcess(), options)
    with parallel.accumulating(last=True), parallel.exchanging(last=True):
        parallel("small").backward()
    assert not parallel.is_broken
    with pytest.raises(torch.OutOfMemoryError):
        parallel("large")
    assert parallel.is_broken == broadcast_buffers
