"""One model in several processes: how its gradients become the same in all of them.

A strategy wraps the module that computes a batch's loss. All make gradients the mean over the processes, to be
multiplied by `gradient_factor` for the sum. Knows nothing of what the loss is, of precision, or of optimizers.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from seqkit.config.sections import DistributedTrainingConfig
from seqkit.distributed.communication import Communication

_OVERLAPPED = ("c10d", "pytorch_ddp")
_AFTERWARDS = ("legacy_ddp", "no_c10d")
_MEBIBYTE = 1 << 20


class DataParallel(Protocol):
    """A module in several processes.

    Attributes:
        gradient_factor: what gradients are multiplied by to be the sum over the processes.
        is_broken: an exchange was begun and not finished, so that this process can take part in no other.
    """

    gradient_factor: float
    is_broken: bool

    def __call__(self, sample: Any) -> Any:
        """Forward."""
        ...

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        """Context for forward and backward of a batch; gradients are exchanged with the update's last one."""
        ...

    def exchanging(self, *, last: bool) -> AbstractContextManager[None]:
        """Context for backward, in which the exchange may take place."""
        ...

    def finish(self) -> None:
        """All batches of the update are done: from now on the gradients are the same in all processes."""
        ...

    def whole_norm(self, norm: Tensor) -> Tensor:
        """Norm of the whole model's gradient, from that of the part of it which this process holds."""
        ...


class Alone:
    """One process."""

    gradient_factor = 1.0
    is_broken = False

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, sample: Any) -> Any:
        return self._module(sample)

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def exchanging(self, *, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def finish(self) -> None:
        pass

    def whole_norm(self, norm: Tensor) -> Tensor:
        return norm


class OverlappedExchange:
    """torch's `DistributedDataParallel`: gradients are exchanged while backward goes on (Li et al., 2020)."""

    def __init__(self, module: nn.Module, communication: Communication, config: DistributedTrainingConfig) -> None:
        self.gradient_factor = float(communication.world_size)
        self.is_broken = False
        self._communication = communication
        self._sends_buffers = config.broadcast_buffers and any(True for _ in module.buffers())
        # PyTorch 2.13 has given the option another name.
        renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
        buffers: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": config.broadcast_buffers}
        self._module = DistributedDataParallel(
            module,
            **buffers,
            bucket_cap_mb=config.bucket_cap_mb,
            find_unused_parameters=config.find_unused_parameters,
            gradient_as_bucket_view=config.gradient_as_bucket_view,
        )
        if config.ddp_comm_hook == "fp16":
            self._module.register_comm_hook(None, fp16_compress_hook)

    def __call__(self, sample: Any) -> Any:
        # Forward may begin with an exchange of buffers: who does it again is one exchange ahead of the others.
        self.is_broken = self._sends_buffers
        output = self._module(sample)
        self.is_broken = False
        return output

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        return contextlib.nullcontext() if last else self._module.no_sync()

    @contextmanager
    def exchanging(self, *, last: bool) -> Iterator[None]:
        if not last:
            yield
            return
        self.is_broken = True
        with self._communication.waiting("the exchange of gradients"):
            yield
        self.is_broken = False

    def finish(self) -> None:
        pass

    def whole_norm(self, norm: Tensor) -> Tensor:
        return norm


class ExchangeAfterwards:
    """Gradients are exchanged once backward is done, in flat buckets.

    Slower than `OverlappedExchange`, and without its demands: parameters may be used by some processes only, or several
    times; a process that ran out of memory can still take part. Parameters that no process used get zero gradients.
    Buffers, where they are copied from rank 0, are so once for each update, with the gradients.
    """

    def __init__(self, module: nn.Module, communication: Communication, config: DistributedTrainingConfig) -> None:
        self.gradient_factor = float(communication.world_size)
        self.is_broken = False
        self._module = module
        self._communication = communication
        self._buffers = list(module.buffers()) if config.broadcast_buffers else []
        self._buckets = _buckets(
            [param for param in module.parameters() if param.requires_grad], config.bucket_cap_mb * _MEBIBYTE
        )

    def __call__(self, sample: Any) -> Any:
        return self._module(sample)

    def accumulating(self, *, last: bool) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def exchanging(self, *, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    @torch.no_grad()
    def finish(self) -> None:
        for bucket in self._buckets:
            for param in bucket:
                if param.grad is None:
                    param.grad = torch.zeros_like(param)
        # All memory that it takes is there before the exchange begins: who has none can still send zeros.
        flat = [
            torch.cat([_grad(param).flatten() for param in bucket]).div_(self.gradient_factor)
            for bucket in self._buckets
        ]
        self.is_broken = True
        with self._communication.waiting("the exchange of gradients"):
            # Here, as all processes come here once, whatever batches they had and whether memory sufficed for them.
            for buffer in self._buffers:
                dist.broadcast(buffer, 0)
            sent = [dist.all_reduce(values, async_op=True) for values in flat]
            for bucket, values, work in zip(self._buckets, flat, sent, strict=True):
                work.wait()
                parts = torch.split(values, [param.numel() for param in bucket])
                torch._foreach_copy_(
                    [_grad(param) for param in bucket],
                    [part.view_as(param) for part, param in zip(parts, bucket, strict=True)],
                )
        self.is_broken = False

    def whole_norm(self, norm: Tensor) -> Tensor:
        return norm


def is_fully_sharded(config: DistributedTrainingConfig, communication: Communication) -> bool:
    """Whether weights are to be spread over processes, for which `fully_sharded.FullySharded` is made."""
    return config.ddp_backend == "fully_sharded" and communication.world_size > 1


def build_data_parallel(
    module: nn.Module, communication: Communication, config: DistributedTrainingConfig
) -> DataParallel:
    """Wrap a module as `distributed_training.ddp_backend` says; its weights become those of rank 0."""
    if communication.world_size == 1:
        return Alone(module)
    if config.ddp_backend in _OVERLAPPED:
        return OverlappedExchange(module, communication, config)
    return ExchangeAfterwards(module, communication, config)


@torch.no_grad()
def take_weights_of_main(module: nn.Module, communication: Communication) -> None:
    """Make parameters and buffers those of rank 0."""
    if communication.world_size == 1:
        return
    with communication.waiting("taking over the weights of rank 0"):
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.detach(), 0)


def own_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process has, sharing its memory: all of it where it is not spread over them."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def check_data_parallel(config: DistributedTrainingConfig) -> list[str]:
    """What cannot be done, in words that say what would be right."""
    problems = []
    backend = config.ddp_backend
    if config.ddp_comm_hook != "none" and backend not in _OVERLAPPED:
        problems.append(
            f"distributed_training.ddp_comm_hook={config.ddp_comm_hook} is a hook of torch's DDP; use it with "
            "ddp_backend=pytorch_ddp"
        )
    if config.zero_sharding != "none" and backend != "fully_sharded":
        problems.append(
            f"distributed_training.zero_sharding={config.zero_sharding}: optimizer state is shared over processes only "
            "together with parameters; use ddp_backend=fully_sharded"
        )
    if backend != "fully_sharded":
        sharded = {
            "cpu_offload": config.cpu_offload,
            "use_sharded_state": config.use_sharded_state,
            "no_reshard_after_forward": config.no_reshard_after_forward,
            "fp32_reduce_scatter": config.fp32_reduce_scatter,
        }
        problems += [
            f"distributed_training.{option}=true goes with ddp_backend=fully_sharded; leave it out"
            for option, given in sharded.items()
            if given
        ]
    return problems


def without_effect_alone(config: DistributedTrainingConfig) -> list[str]:
    """What a single process is told to do and has nobody to do it with, in words."""
    given = {
        "ddp_backend=fully_sharded": config.ddp_backend == "fully_sharded",
        f"ddp_comm_hook={config.ddp_comm_hook}": config.ddp_comm_hook != "none",
        f"zero_sharding={config.zero_sharding}": config.zero_sharding != "none",
        "use_sharded_state=true": config.use_sharded_state,
        "no_reshard_after_forward=true": config.no_reshard_after_forward,
        "fp32_reduce_scatter=true": config.fp32_reduce_scatter,
    }
    told = [
        f"distributed_training.{option} has no effect in a single process: there is nothing to share with others"
        for option, is_given in given.items()
        if is_given
    ]
    if config.cpu_offload:
        told.append(
            "distributed_training.cpu_offload=true has no effect in a single process: weights and optimizer stay where "
            "they are; optimizer=cpu_adam keeps the optimizer in main memory"
        )
    return told


def _grad(param: nn.Parameter) -> Tensor:
    assert param.grad is not None
    return param.grad


def _buckets(params: Sequence[nn.Parameter], capacity: int) -> list[list[nn.Parameter]]:
    """Parameters of one device and precision together, up to `capacity` bytes."""
    buckets: list[list[nn.Parameter]] = []
    open_buckets: dict[tuple[torch.device, torch.dtype], tuple[list[nn.Parameter], int]] = {}
    for param in params:
        key, size = (param.device, param.dtype), param.numel() * param.element_size()
        bucket, used = open_buckets.get(key, ([], 0))
        if not bucket or used + size > capacity:
            bucket, used = [], 0
            buckets.append(bucket)
        bucket.append(param)
        open_buckets[key] = (bucket, used + size)
    return buckets
