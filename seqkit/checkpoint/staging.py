"""A copy in memory of a training's state, so that training can change the original while the copy is written.

Knows nothing of files, nor of who writes the copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqkit.checkpoint.state import CheckpointState
from seqkit.distributed.data_parallel import own_part

_Place = tuple[Any, ...]
"""Where a tensor is in a state: the keys and positions that lead to it."""


class Staging:
    """Memory that states are copied to; it is used again for the next copy.

    A copy is valid until the next call of `copy`. Tensors that occur several times in a state do so in its copy.
    Tensors of a GPU are copied to page-locked memory, all of them at once. Of tensors that are spread over processes
    (`DTensor`), each process copies its own part, and the copies are spread alike.
    """

    def __init__(self) -> None:
        self._buffers: dict[_Place, Tensor] = {}

    @torch.no_grad()
    def copy(self, state: CheckpointState) -> CheckpointState:
        """The state as it is now, on the CPU, sharing nothing with the original."""
        before, self._buffers = self._buffers, {}
        copier = _Copier(before, self._buffers)
        copied = CheckpointState(
            **{item.name: copier.copy(getattr(state, item.name), (item.name,)) for item in fields(state)}
        )
        copier.wait()
        return copied

    def release(self) -> None:
        """Give the memory back."""
        self._buffers = {}

    def memory_needed(self, state: CheckpointState) -> int:
        """Bytes that copying `state` takes beyond the memory that is already held."""
        distinct = {id(tensor): tensor for _, tensor in tensors_in(state)}
        return max(0, _size(distinct.values()) - _size(self._buffers.values()))


class _Copier:
    """One copy: `buffers` takes up the memory in use, from `before` where it fits."""

    def __init__(self, before: dict[_Place, Tensor], buffers: dict[_Place, Tensor]) -> None:
        self._before = before
        self._buffers = buffers
        self._copies: dict[int, Tensor] = {}
        self._devices: set[torch.device] = set()

    def copy(self, value: Any, place: _Place) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in self._copies:
                self._copies[id(value)] = self._copy_tensor(value.detach(), place)
            return self._copies[id(value)]
        if isinstance(value, dict):
            return {key: self.copy(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.copy(item, (*place, position)) for position, item in enumerate(value)]
        if isinstance(value, tuple):
            return tuple(self.copy(item, (*place, position)) for position, item in enumerate(value))
        return value

    def _copy_tensor(self, tensor: Tensor, place: _Place) -> Tensor:
        part = own_part(tensor)
        is_whole, on_gpu = part is tensor, part.device.type == "cuda"
        buffer = self._before.pop(place, None)
        if buffer is None or not _fits(buffer, tensor, pinned=is_whole and on_gpu):
            # torch has no page-locked memory for tensors that are spread.
            buffer = (
                torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_gpu)
                if is_whole
                else torch.empty_like(tensor, device="cpu")
            )
        self._buffers[place] = buffer
        own_part(buffer).copy_(part, non_blocking=is_whole and on_gpu)
        if on_gpu:
            self._devices.add(part.device)
        return buffer

    def wait(self) -> None:
        """Until what the GPUs were told to copy is there."""
        for device in self._devices:
            torch.cuda.current_stream(device).synchronize()


def _fits(buffer: Tensor, tensor: Tensor, *, pinned: bool) -> bool:
    part = own_part(buffer)
    return (
        type(buffer) is type(tensor.detach())
        and buffer.shape == tensor.shape
        and buffer.dtype == tensor.dtype
        and part.shape == own_part(tensor).shape
        and part.is_pinned() == pinned
    )


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(part.numel() * part.element_size() for part in map(own_part, tensors))


def tensors_in(value: Any, place: _Place = ()) -> list[tuple[_Place, Tensor]]:
    """All tensors in nested containers or in a `CheckpointState`, with their places."""
    if isinstance(value, Tensor):
        return [(place, value)]
    if isinstance(value, CheckpointState):
        value = {item.name: getattr(value, item.name) for item in fields(value)}
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return []
    return [found for key, item in items for found in tensors_in(item, (*place, key))]


def available_memory() -> int | None:
    """Bytes of main memory that can be had without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    return None
