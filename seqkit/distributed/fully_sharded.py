"""One model spread over processes: each keeps a part of every weight, of its gradient and of the optimizer's state.

Built on torch's `fully_shard` (ZeRO: Rajbhandari et al., 2020; FSDP: Zhao et al., 2023). A unit's weights are gathered
before its forward and backward pass and given up afterwards. Knows nothing of losses, optimizers or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, Shard

from seqkit.distributed.communication import Communication
from seqkit.distributed.data_parallel import own_part
from seqkit.errors import ConfigError


class FullySharded:
    """A module whose weights are spread over the processes. See `DataParallel` for what it offers.

    The parameters of `module` become `DTensor`s, which an optimizer is made over afterwards. With an update's last
    batch, each process gets its part of the gradient's mean over the processes (`gradient_factor` makes it the sum).

    Args:
        module: on its device, with the same weights in all processes.
        units: parts of it that are gathered and given up each by itself; what belongs to none of them is gathered for
            the whole forward and backward pass. Parameters must not be shared between units.
        reshard_after_forward: give up a unit's weights between its forward and its backward pass.
        param_dtype: weights are gathered, and the module computes, in this precision; None: in their own.
        reduce_dtype: gradients are averaged in this precision; None: in that of the computation.
        cpu_offload: keep weights, gradients and optimizer state in main memory.
        broadcast_buffers: copy buffers from rank 0 at every forward pass in training.

    Raises:
        ConfigError: this PyTorch cannot do it, or the module has parameters that cannot be spread.
    """

    def __init__(
        self,
        module: nn.Module,
        communication: Communication,
        units: Sequence[nn.Module] = (),
        *,
        device: torch.device,
        reshard_after_forward: bool = True,
        param_dtype: torch.dtype | None = None,
        reduce_dtype: torch.dtype | None = None,
        cpu_offload: bool = False,
        broadcast_buffers: bool = False,
    ) -> None:
        _require_spreadable(module)
        self.gradient_factor = float(communication.world_size)
        self.is_broken = False
        self._communication = communication
        self._buffers = list(module.buffers()) if broadcast_buffers else []
        self._reshard = reshard_after_forward
        offload: OffloadPolicy = OffloadPolicy()
        if cpu_offload and device.type != "cpu":
            offload = CPUOffloadPolicy()
        settings: dict[str, Any] = {
            "mesh": init_device_mesh(device.type, (communication.world_size,)),
            "mp_policy": MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype),
            "offload_policy": offload,
        }
        for unit in units:
            fully_shard(unit, reshard_after_forward=reshard_after_forward, **settings)
        self._root = _Root(module)
        # What the root holds is needed until the end of forward, and at once in backward.
        fully_shard(self._root, reshard_after_forward=False, **settings)
        self._units = [part for part in self._root.modules() if isinstance(part, FSDPModule)]
        if can_leave_out():
            for part in self._units:
                part.set_reduce_scatter_unused_params(True)

    def __call__(self, sample: Any) -> Any:
        return self._root(sample)

    @contextmanager
    def accumulating(self, *, last: bool) -> Iterator[None]:
        self._root.set_requires_gradient_sync(last)  # type: ignore[operator]
        # Forward, too, is made of exchanges: who leaves it half-done can take part in no other.
        self.is_broken = True
        with self._communication.waiting("the exchange of weights and gradients"):
            for buffer in self._buffers:
                dist.broadcast(buffer, 0)
            yield
        self.is_broken = False

    def exchanging(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def finish(self) -> None:
        pass

    def whole_norm(self, norm: Tensor) -> Tensor:
        squares = norm.float().square()
        with self._communication.waiting("the exchange of the gradient's norm"):
            dist.all_reduce(squares)
        return squares.sqrt()

    @contextmanager
    def whole_weights(self) -> Iterator[None]:
        """Context in which every process has all weights, and may compute as much or as little as it wants to."""
        with self._communication.waiting("gathering the weights"), torch.no_grad():
            self._root(None)
            self._root.set_reshard_after_forward(False)  # type: ignore[operator]
            for unit in self._units:
                unit.unshard()
        try:
            yield
        finally:
            for unit in self._units:
                unit.set_reshard_after_forward(self._reshard, recurse=False)
                unit.reshard()
            self._root.set_reshard_after_forward(False, recurse=False)  # type: ignore[operator]


class _Root(nn.Module):
    """What is sharded last. Called with None it does nothing, which makes torch know it as the outermost module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, sample: Any) -> Any:
        return None if sample is None else self.module(sample)


def can_leave_out() -> bool:
    """Whether a process may leave out parts of the model that others use; older versions of PyTorch would hang."""
    return hasattr(FSDPModule, "set_reduce_scatter_unused_params")


def whole_on_cpu(tensor: Tensor, *, keep: bool = True) -> Tensor | None:
    """A copy of all of a tensor on the CPU. Where it is spread, all processes must call this.

    Args:
        keep: whether this process wants it; None otherwise.
    """
    whole: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    whole = whole.detach()
    return whole.to("cpu", copy=True) if keep else None


@torch.no_grad()
def spread_like(reference: DTensor, whole: Tensor) -> Tensor:
    """A tensor that every process has, spread as `reference` is, which has its shape; nothing is sent.

    It is in the memory of `reference`, in the precision of `whole`.
    """
    spread = torch.empty_like(reference, dtype=whole.dtype)
    mesh = reference.device_mesh
    part = whole
    for axis, placement in enumerate(reference.placements):
        if isinstance(placement, Shard):
            parts = part.chunk(mesh.size(axis), placement.dim)
            place = mesh.get_local_rank(axis)
            part = parts[place] if place < len(parts) else part.narrow(placement.dim, 0, 0)
    own_part(spread).copy_(part)
    return spread


def _require_spreadable(module: nn.Module) -> None:
    if not hasattr(FSDPModule, "set_reshard_after_forward"):
        raise ConfigError(
            f"distributed_training.ddp_backend=fully_sharded needs a newer PyTorch than {torch.__version__}; "
            "or use pytorch_ddp"
        )
    scalars = [name for name, param in module.named_parameters() if param.dim() == 0]
    if scalars:
        raise ConfigError(
            f"distributed_training.ddp_backend=fully_sharded cannot spread a parameter that is a single number "
            f"({scalars[0]}); make it a vector of one, or use pytorch_ddp"
        )
