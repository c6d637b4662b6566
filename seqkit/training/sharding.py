"""Training with weights spread over processes: what is sharded, its precision, its checkpoints.

Puts `distributed.fully_sharded` together with the other parts of training. Knows nothing of updates.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from seqkit.checkpoint.policy import CheckpointPolicy, SaveEvent
from seqkit.checkpoint.shard_folders import remove_unused_shards, write_sharded
from seqkit.checkpoint.staging import Staging
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.root import RootConfig
from seqkit.config.validate import to_dict
from seqkit.distributed.communication import Communication
from seqkit.distributed.data_parallel import own_part
from seqkit.distributed.fully_sharded import FullySharded, can_leave_out, spread_like, whole_on_cpu
from seqkit.errors import ConfigError
from seqkit.modules.layer_drop import LayerDropList
from seqkit.optim.base import works_on_cpu
from seqkit.training.precision import Precision, model_dtype
from seqkit.training.saving import CheckpointSaver, Saved

logger = logging.getLogger(__name__)

_NEEDS_WHOLE_MATRICES = "adafactor"
_LAYERS = "layers"
"""The name of the lists whose members may be units."""


def shard(config: RootConfig, loss: nn.Module, device: torch.device, communication: Communication) -> FullySharded:
    """Spread a training's loss module over the processes, as the config says; its weights are the same in all.

    Raises:
        ConfigError: options that do not go together with it.
    """
    _check(config, device)
    settings, common = config.distributed_training, config.common
    dtype = model_dtype(common, device)
    memory_efficient = common.memory_efficient_fp16 or common.memory_efficient_bf16
    if dtype is not None:
        if memory_efficient:
            loss.to(dtype=dtype)
        else:
            _convert_buffers(loss, dtype)
    # A model that may be sharded layer by layer says from which size on.
    smallest = vars(config.model).get("min_params_to_wrap")
    units = [] if smallest is None else find_units(loss, smallest)
    count = sum(param.numel() for param in loss.parameters())
    parallel = FullySharded(
        loss,
        communication,
        units,
        device=device,
        reshard_after_forward=not (settings.no_reshard_after_forward or settings.zero_sharding == "os"),
        param_dtype=None if memory_efficient else dtype,
        reduce_dtype=torch.float32 if settings.fp32_reduce_scatter else None,
        cpu_offload=settings.cpu_offload,
        broadcast_buffers=settings.broadcast_buffers,
    )
    held = sum(own_part(param).numel() for param in loss.parameters())
    logger.info(
        "fully sharded: %d of %d parameters in this process; %d layers are gathered one by one (min_params_to_wrap=%s)",
        held,
        count,
        len(units),
        smallest,
    )
    return parallel


def find_units(module: nn.Module, smallest: int) -> list[nn.Module]:
    """The layers (members of lists called `layers`) that have at least `smallest` parameters, and share none.

    Layers that may be dropped are not among them: processes would gather different ones.
    """
    found: dict[int, nn.Module] = {}
    for name, part in module.named_modules():
        if name.rsplit(".", 1)[-1] != _LAYERS or not isinstance(part, nn.ModuleList):
            continue
        if isinstance(part, LayerDropList) and part.p > 0:
            continue
        for layer in part:
            found.setdefault(id(layer), layer)
    owners: dict[int, set[int]] = {}
    for part in module.modules():
        for param in part.parameters(recurse=False):
            owners.setdefault(id(param), set()).add(id(part))
    units = []
    for layer in found.values():
        params, inside = list(layer.parameters()), {id(part) for part in layer.modules()}
        if sum(param.numel() for param in params) >= smallest and all(owners[id(param)] <= inside for param in params):
            units.append(layer)
    return units


class ShardedPrecision(Precision):
    """The optimizer updates this process's parts of the parameters."""

    def gradients(self) -> list[Tensor]:
        return [own_part(param.grad) for param in self.params if param.grad is not None]


def gather_state(state: CheckpointState, *, keep: bool = True) -> CheckpointState | None:
    """A copy of the state on the CPU, with whole tensors. All processes call this.

    Args:
        keep: whether this process wants it; None otherwise.
    """
    gathered: dict[int, Tensor | None] = {}

    def whole(tensor: Tensor) -> Any:
        if id(tensor) not in gathered:
            gathered[id(tensor)] = whole_on_cpu(tensor, keep=keep)
        return gathered[id(tensor)]

    copied = {item.name: _mapped(getattr(state, item.name), whole) for item in fields(state)}
    return CheckpointState(**copied) if keep else None


def spread_state(
    state: CheckpointState, model: nn.Module, criterion: nn.Module, named: Sequence[tuple[str, Tensor]]
) -> CheckpointState:
    """A whole state, which all processes have, with its tensors spread as the parts of this training are.

    What has another shape stays whole, for the one who loads it to refuse.

    Args:
        named: the trained parameters with their names, in the order of the optimizer.
    """

    def like(references: dict[str, Any], weights: dict[str, Any]) -> dict[str, Any]:
        return {name: _spread(references.get(name), tensor) for name, tensor in weights.items()}

    own = model.state_dict()
    extra = dict(state.extra)
    if "ema" in extra:
        extra["ema"] = like(own, extra["ema"])
    optimizer = state.optimizer
    if optimizer is not None:
        by_name = dict(named)
        groups = optimizer["param_groups"]
        order = [name for name, _ in named]
        names = {
            index: name
            for group in groups
            for index, name in zip(
                group["params"],
                group.get("param_names", [order[index] for index in group["params"] if index < len(order)]),
                strict=False,
            )
        }
        entries = {
            index: {key: _spread(by_name.get(names.get(index, "")), value) for key, value in entry.items()}
            for index, entry in optimizer["state"].items()
        }
        optimizer = optimizer | {"state": entries}
    return replace(
        state,
        model=like(own, state.model),
        criterion=like(criterion.state_dict(), state.criterion),
        optimizer=optimizer,
        extra=extra,
    )


class ShardedSaver(CheckpointSaver):
    """Saves what is spread over processes, each of which calls its methods.

    Args:
        policy: in the main process, says which files; in the others nothing is asked of it.
        asynchronous: files are written while training goes on. (Gathering is not: all processes take part in it.)
        by_parts: each process writes its own part; else the main one gathers and writes all.
    """

    def __init__(
        self,
        policy: CheckpointPolicy,
        folder: str | Path,
        communication: Communication,
        *,
        asynchronous: bool = False,
        by_parts: bool = False,
    ) -> None:
        super().__init__(policy, folder, asynchronous=asynchronous, writing=communication.saving)
        self._communication = communication
        self._by_parts = by_parts
        if by_parts:
            # Training's own exchanges go on meanwhile.
            self._writers = communication.aside() if asynchronous else communication
        else:
            self._staging = _AlreadyCopied()

    def save(self, event: SaveEvent, state: Callable[[], CheckpointState]) -> Saved | None:
        begin = time.perf_counter() - self._waited
        names: list[str] = self._communication.from_main(self.policy.files_to_write(event, self._names()))
        if names and self._by_parts:
            self._waited = 0.0
            return self._save_parts(event, names, state(), begin)
        if names and not self._communication.is_main:
            self._gather(state())
        return super().save(event, lambda: _kept(self._gather(state())))

    def _save_parts(self, event: SaveEvent, names: Sequence[str], state: CheckpointState, begin: float) -> Saved | None:
        if not self._asynchronous or self._communication.any(not self._fits_in_memory(state)):
            with self._writing():
                saved = self._write_parts(event, names, state, begin, self._communication)
            return replace(saved, stalled=saved.took)
        copy = self._staging.copy(state)
        stalled = time.perf_counter() - begin

        def write(abandoned: Callable[[], bool]) -> Saved:
            return replace(self._write_parts(event, names, copy, begin, self._writers), stalled=stalled)

        self._write_beside(write)
        return None

    def _write_parts(
        self,
        event: SaveEvent,
        names: Sequence[str],
        state: CheckpointState,
        begin: float,
        communication: Communication,
    ) -> Saved:
        write_sharded(self.folder, names, state, communication)
        deleted = self._delete(event) if communication.is_main else ()
        written = tuple(names) if communication.is_main else ()
        return Saved(event, written, deleted, took=time.perf_counter() - begin)

    def save_last(self, state: Callable[[], CheckpointState]) -> list[str]:
        names: list[str] = self._communication.from_main(self.policy.last_only())
        if not names:
            return []
        if self._by_parts:
            with self._writing():
                write_sharded(self.folder, names, state(), self._communication)
                if self._communication.is_main:
                    remove_unused_shards(self.folder)
            return names
        if self._communication.is_main:
            super().save_last(lambda: _kept(self._gather(state())))
        else:
            self._gather(state())
        return names

    def whole_state(self, state: CheckpointState) -> CheckpointState:
        return _kept(gather_state(state))

    def _gather(self, state: CheckpointState) -> CheckpointState | None:
        with self._communication.waiting("gathering a checkpoint"):
            return gather_state(state, keep=self._communication.is_main)

    def _delete(self, event: SaveEvent) -> tuple[str, ...]:
        deleted = super()._delete(event)
        if self._communication.is_main:
            remove_unused_shards(self.folder)
        return deleted


class _AlreadyCopied(Staging):
    """Gathered states are copies that nobody else changes."""

    def copy(self, state: CheckpointState) -> CheckpointState:
        return state

    def memory_needed(self, state: CheckpointState) -> int:
        return 0


def _kept(state: CheckpointState | None) -> CheckpointState:
    assert state is not None, "only the main process writes"
    return state


def _mapped(value: Any, change: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, change) for item in value)
    return value


def _spread(reference: Any, value: Any) -> Any:
    if isinstance(reference, DTensor) and isinstance(value, Tensor) and value.shape == reference.shape:
        return spread_like(reference, value)
    return value


def _convert_buffers(module: nn.Module, dtype: torch.dtype) -> None:
    """The parameters stay in float32, and are computed with in `dtype`; buffers have to meet them there."""
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            if buffer.is_floating_point():
                part.register_buffer(name, buffer.to(dtype), persistent=name not in part._non_persistent_buffers_set)


def _uses(settings: Any, optimizer: str) -> bool:
    """Whether an optimizer, or one of the groups that it is composed of, is that one."""
    if not isinstance(settings, dict):
        return False
    return settings.get("_name") == optimizer or any(_uses(part, optimizer) for part in settings.values())


def _check(config: RootConfig, device: torch.device) -> None:
    distributed, problems = config.distributed_training, []
    backend = "distributed_training.ddp_backend=fully_sharded"
    assert config.optimizer is not None
    name = config.optimizer._name
    if _uses(to_dict(config.optimizer), _NEEDS_WHOLE_MATRICES):
        problems.append(
            f"optimizer={_NEEDS_WHOLE_MATRICES} keeps statistics of whole matrices, which {backend} spreads over "
            "processes; choose another (adamw, lion, muon), or use pytorch_ddp"
        )
    if works_on_cpu(config.optimizer) and device.type != "cpu" and not distributed.cpu_offload:
        problems.append(
            f"optimizer={name} works on the CPU, and {backend} keeps parameters on the GPU unless "
            "distributed_training.cpu_offload=true; set that, or choose adam"
        )
    if config.common.compile != "none":
        problems.append(
            f"common.compile={config.common.compile} takes layers for whole that {backend} has spread; leave it at none"
        )
    drops = [key for key in ("encoder_layerdrop", "decoder_layerdrop") if vars(config.model).get(key)]
    if drops and not can_leave_out():
        problems.append(
            f"model.{drops[0]}: layers that some processes leave out need a newer PyTorch with {backend} "
            f"(this is {torch.__version__}); leave it at 0, or use legacy_ddp"
        )
    if problems:
        raise ConfigError(problems)
