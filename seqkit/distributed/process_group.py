"""Communication between the processes of a training by `torch.distributed`.

Numbers of an update travel in one vector on the model's device; everything else is on the CPU, by gloo. Knows nothing
of models, or of how processes are started.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from seqkit.distributed.communication import UpdateSums
from seqkit.distributed.out_of_memory import is_out_of_memory
from seqkit.distributed.watch import Watch
from seqkit.errors import ConfigError, SeqkitError

_TOLERANCE = 1e-5
"""How far gradient norms may lie apart, as a share: different GPUs may add up in another order."""
_RESTS, _REST_SECONDS = 10, 0.01
_TIMEOUT = timedelta(minutes=30)

Logging = Mapping[str, Any]


class InconsistentGradientsError(SeqkitError):
    """Processes that should train one model have different gradients."""


class LostContactError(SeqkitError):
    """An exchange with the other processes broke down."""


def backend_for(name: str, device: torch.device) -> str:
    """torch's name of the backends for a device: tensors on the CPU go by gloo, those on a GPU by `name`.

    Raises:
        ConfigError: this PyTorch has no such backend.
    """
    if device.type == "cpu":
        return "gloo"
    if not dist.is_backend_available(name):
        raise ConfigError(
            f"distributed_training.distributed_backend={name} is not in this PyTorch; use nccl (NVIDIA GPUs) or gloo"
        )
    return "gloo" if name == "gloo" else f"cpu:gloo,{device.type}:{name}"


class ProcessGroup:
    """The processes of a training, connected. See `Communication` for what it offers.

    Args:
        store: torch's key-value store, where the processes find each other; all are there.
        device: where this process's model is.
        backend: `backend_for(...)`.
        watch: is told what this process does.
    """

    def __init__(
        self, store: Any, rank: int, world_size: int, *, device: torch.device, backend: str, watch: Watch
    ) -> None:
        self.rank = rank
        self.world_size = world_size
        self.process_group: Any = None
        self.notice = 0
        self.heard = 0
        self._device = device
        self._watch = watch
        self._keys: list[str] = []
        self._doing = "start"
        self._last: Any = None
        bound = device if device.type == "cuda" else None
        with self._talk("meeting the other processes"):
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=world_size, timeout=_TIMEOUT, device_id=bound
            )

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0

    def share_update(
        self,
        logging: list[dict[str, Any]],
        sample_size: float | Tensor,
        grad_norm: Tensor,
        *,
        exhausted: bool,
        can_be_summed: bool = True,
    ) -> UpdateSums:
        figures = logging if can_be_summed else []
        unknown = {key for output in figures for key in output}.difference(self._keys)
        world, keys = self.world_size, self._keys
        mine = [float(self.rank == rank) for rank in range(world)]
        entries: list[float | Tensor] = [float(exhausted), float(bool(unknown)), sample_size]
        entries += [grad_norm if own else 0.0 for own in mine]
        entries += [float(self.notice) * own for own in mine]
        entries += [_sum(output[key] for output in figures if key in output) for key in keys]
        entries += [float(sum(key in output for output in figures)) for key in keys]
        vector = _vector(entries, self._device)
        with self._talk("the exchange of an update's figures"):
            dist.all_reduce(vector, group=self.process_group)
            # The one moment of an update at which the host waits for the device.
            sums: list[float] = vector.tolist()
        anyone_exhausted, anyone_unknown, size = sums[0] > 0, sums[1] > 0, sums[2]
        norms, notices = sums[3 : 3 + world], sums[3 + world : 3 + 2 * world]
        if anyone_unknown:
            self._learn_keys(unknown)
            return self.share_update(logging, sample_size, grad_norm, exhausted=exhausted, can_be_summed=can_be_summed)
        self.heard = int(max(notices))
        if not anyone_exhausted:
            _require_equal(norms, self._doing)
        if not can_be_summed:
            return UpdateSums(self._gather(_on_cpu(logging)), size, anyone_exhausted)
        totals, counts = sums[3 + 2 * world :][: len(keys)], sums[3 + 2 * world + len(keys) :]
        total = {key: value for key, value, count in zip(keys, totals, counts, strict=True) if count}
        return UpdateSums([total] if total else [], size, anyone_exhausted)

    def share_steps(self, steps: Sequence[Sequence[Logging]], *, can_be_summed: bool = True) -> list[list[Logging]]:
        outputs = [[_on_cpu(output) for output in step] for step in steps]
        if not can_be_summed:
            gathered = self._objects(outputs)
            longest = max(len(rows) for rows in gathered)
            return [[output for rows in gathered if n < len(rows) for output in rows[n]] for n in range(longest)]
        seen = self._objects((len(outputs), sorted({key for step in outputs for output in step for key in output})))
        count, keys = max(number for number, _ in seen), sorted({key for _, names in seen for key in names})
        matrix = torch.zeros(count, 2 * len(keys), dtype=torch.float64)
        for number, step in enumerate(outputs):
            for column, key in enumerate(keys):
                values = [float(output[key]) for output in step if key in output]
                matrix[number, column] = sum(values)
                matrix[number, len(keys) + column] = len(values)
        with self._talk("the exchange of validation's figures"):
            dist.all_reduce(matrix, group=self.process_group)
        result: list[list[Logging]] = []
        for row in matrix.tolist():
            total = {key: value for key, value, has in zip(keys, row, row[len(keys) :], strict=False) if has}
            result.append([total] if total else [])
        return result

    def largest(self, number: int) -> int:
        held = torch.tensor([number], dtype=torch.int64)
        with self._talk("an agreement"):
            dist.all_reduce(held, dist.ReduceOp.MAX, group=self.process_group)
        return int(held)

    def any(self, flag: bool) -> bool:
        return self.largest(int(flag)) > 0

    def gather_texts(self, text: str) -> list[str]:
        return self._objects(text)

    def from_main(self, value: Any) -> Any:
        content = b""
        if self.is_main:
            sink = io.BytesIO()
            torch.save(value, sink)
            content = sink.getvalue()
        length = torch.tensor([len(content)], dtype=torch.int64)
        with self._talk("taking over what rank 0 has read"):
            dist.broadcast(length, 0, group=self.process_group)
            held = torch.frombuffer(bytearray(content), dtype=torch.uint8) if self.is_main else None
            if held is None:
                held = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(held, 0, group=self.process_group)
        if self.is_main:
            return value
        return torch.load(io.BytesIO(held.numpy().tobytes()), weights_only=True)

    def step(self, doing: str) -> None:
        self._doing = doing
        self._watch.step(doing)

    @contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        with self._watch.waiting(doing):
            yield

    def saving(self) -> AbstractContextManager[None]:
        return self._watch.saving()

    def barrier(self, doing: str) -> None:
        with self._talk(doing):
            # A sum on the CPU: torch's own barrier would take the GPU.
            self._last = dist.all_reduce(torch.zeros(1), group=self.process_group, async_op=True)
            self._last.wait()

    def aside(self) -> ProcessGroup:
        return _Aside(self)

    def close(self) -> None:
        """Give the connection up, and let its threads come to rest.

        A thread of Gloo's that is the last to hold a tensor needs the interpreter to give it up; if that were just
        ending, the process would be killed (SIGABRT) after all its work was done.
        """
        if dist.is_initialized():
            dist.destroy_process_group()
        for _ in range(_RESTS):  # several, as a process that was stopped meanwhile has rested at no time
            time.sleep(_REST_SECONDS)

    def _learn_keys(self, unknown: set[str]) -> None:
        """All processes take up the names of figures that one of them has seen for the first time."""
        everyone = self._objects(sorted(unknown))
        self._keys = sorted({*self._keys, *(key for keys in everyone for key in keys)})

    def _gather(self, outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [output for part in self._objects(outputs) for output in part]

    def _objects(self, value: Any) -> list[Any]:
        gathered: list[Any] = [None] * self.world_size
        with self._talk("the exchange of figures"):
            dist.all_gather_object(gathered, value, group=self.process_group)
        return gathered

    @contextmanager
    def _talk(self, doing: str) -> Iterator[None]:
        with self._watch.waiting(doing), _contact(doing):
            yield


class _Aside(ProcessGroup):
    """The processes once more, for a thread beside the main one: what it does is no step of the training.

    Tensors go by gloo. All processes make one, and it is closed with the others.
    """

    def __init__(self, main: ProcessGroup) -> None:
        self.rank = main.rank
        self.world_size = main.world_size
        self.notice = 0
        self.heard = 0
        self._device = torch.device("cpu")
        self._watch = main._watch
        self._keys = []
        self._doing = "start"
        self._last = None
        self.process_group = dist.new_group(backend="gloo", timeout=_TIMEOUT)

    def step(self, doing: str) -> None:
        self._doing = doing

    @contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        yield

    @contextmanager
    def _talk(self, doing: str) -> Iterator[None]:
        with _contact(doing):
            yield


@contextmanager
def _contact(doing: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise LostContactError(f"{doing} broke down: {error}") from error


def _sum(values: Iterator[Any]) -> float | Tensor:
    total: float | Tensor = 0.0
    for value in values:
        if not isinstance(value, int | float | Tensor) or (isinstance(value, Tensor) and value.numel() != 1):
            raise TypeError(
                f"a figure of type {type(value).__name__} cannot be summed over processes; the criterion must say so "
                "(logging_can_be_summed=False)"
            )
        total = total + (value.detach().reshape(()).double() if isinstance(value, Tensor) else value)
    return total


def _vector(entries: Sequence[float | Tensor], device: torch.device) -> Tensor:
    """Numbers and scalar tensors as one float64 vector on the device: one copy, whatever there is."""
    numbers = [0.0 if isinstance(entry, Tensor) else float(entry) for entry in entries]
    vector = torch.tensor(numbers, dtype=torch.float64)
    if device.type == "cuda":
        vector = vector.pin_memory().to(device, non_blocking=True)
    places = [place for place, entry in enumerate(entries) if isinstance(entry, Tensor)]
    if places:
        held = [entry.detach().reshape(()).to(device, torch.float64) for entry in entries if isinstance(entry, Tensor)]
        for place, value in zip(places, held, strict=True):
            vector[place] = value
    return vector


def _require_equal(norms: Sequence[float], doing: str) -> None:
    """Refuse gradients that differ.

    Raises:
        InconsistentGradientsError: they do; the message names the ranks in the minority.
    """
    finite = [math.isfinite(norm) for norm in norms]
    if not any(finite):
        return
    middle = sorted(norm if sound else math.inf for norm, sound in zip(norms, finite, strict=True))[len(norms) // 2]
    if not math.isfinite(middle):
        middle = next(norm for norm, sound in zip(norms, finite, strict=True) if sound)
    odd = [rank for rank, norm in enumerate(norms) if not abs(norm - middle) <= _TOLERANCE * (middle + 1e-6)]
    if not odd:
        return
    shown = ", ".join(f"rank {rank}: {norm:.6g}" for rank, norm in enumerate(norms))
    raise InconsistentGradientsError(
        f"{doing}: inconsistent gradients: rank{'s' if len(odd) > 1 else ''} {', '.join(map(str, odd))} "
        f"differ{'' if len(odd) > 1 else 's'} from the others after the exchange (norms: {shown}). The processes no "
        "longer train the same model: some changed weights or gradients by itself, or parts of the model are used by "
        "some processes only. Set distributed_training.ddp_backend=legacy_ddp, or find_unused_parameters=true"
    )


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value
