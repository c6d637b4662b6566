"""What goes wrong inside an update, told so that one can act on it: the errors, the batch, the module.

Knows nothing of how an update is done, or of what is done about a fault.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from seqkit.distributed.data_parallel import own_part
from seqkit.errors import SeqkitError

_SHOWN = 16


class TrainingFault(SeqkitError):
    """Training cannot go on; the last checkpoint is as it was."""


class DivergedError(TrainingFault):
    """Training has produced numbers that are not finite, or no loss scale is small enough."""


class MemoryExhaustedError(TrainingFault):
    """A batch does not fit into memory."""


def sentence_ids(sample: Any) -> str:
    """The dataset indices of a batch's sentences, `[3, 17, …]`."""
    ids = sample["id"].tolist()
    return f"[{', '.join(str(index) for index in ids[:_SHOWN])}{', …' if len(ids) > _SHOWN else ''}]"


def describe_batch(sample: Any) -> str:
    """A batch's sentences and the shapes of its tensors: `sentences [3, 17] (src_tokens 2x9, target 2x7)`."""
    tensors = {**sample.get("net_input", {}), "target": sample.get("target")}
    shapes = ", ".join(
        f"{name} {'x'.join(str(side) for side in value.shape)}"
        for name, value in tensors.items()
        if isinstance(value, Tensor) and value.dim() > 1
    )
    return f"sentences {sentence_ids(sample)}" + (f" ({shapes})" if shapes else "")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors of a module's input or output: containers and dataclasses are looked into."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from tensors_in(getattr(value, item.name))


class NonFiniteWatch:
    """Context manager that finds where numbers stop being finite while batches are run again.

    Args:
        modules: what is watched, by the name that is put before those of its parts (the model's is empty).

    Attributes:
        batch: set by the caller to the batch that is being run.
        found: what was found first, in words; None so far.
        faulty: the batch in which it was found.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.batch: Any = None
        self.found: str | None = None
        self.faulty: Any = None
        self._modules = modules
        self._handles: list[RemovableHandle] = []
        self._gradient: tuple[str, Any] | None = None

    def __enter__(self) -> NonFiniteWatch:
        for prefix, root in self._modules.items():
            for name, module in root.named_modules(prefix=prefix):
                hook = functools.partial(self._after_forward, name or "the model")
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
            for name, param in root.named_parameters(prefix=prefix):
                if param.requires_grad:
                    self._handles.append(param.register_hook(functools.partial(self._after_backward, name)))  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self.found is None and self._gradient is not None:
            name, self.faulty = self._gradient
            self.found = f"the first gradient that is not finite is that of {name}"

    def _after_forward(self, name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self.found is not None or _finite(output):
            return
        # Masks may hold -inf.
        fault = (
            "the first output that is not finite is that of" if _sound((args, kwargs)) else "numbers not finite enter"
        )
        self.found = f"{fault} {name} ({type(module).__name__}){self._rows(output)}"
        self.faulty = self.batch

    def _after_backward(self, name: str, grad: Tensor) -> None:
        if self._gradient is None and not bool(torch.isfinite(grad).all()):
            self._gradient = (name, self.batch)

    def _rows(self, output: Any) -> str:
        """The sentences concerned, where the output has one row for each and they are not all of them."""
        first = next(tensors_in(output))
        ids = self.batch["id"] if self.batch else None
        if ids is None or first.dim() < 2 or first.size(0) != len(ids):
            return ""
        bad = (~torch.isfinite(first)).flatten(1).any(1).cpu()
        if bool(bad.all()) or not bool(bad.any()):
            return ""
        return f", for sentences {sentence_ids({'id': ids.cpu()[bad]})}"


def non_finite_parameters(modules: Mapping[str, nn.Module]) -> list[str]:
    """The names of the parameters that hold numbers that are not finite."""
    return [
        name
        for prefix, root in modules.items()
        for name, param in root.named_parameters(prefix=prefix)
        if not bool(torch.isfinite(own_part(param)).all())
    ]


def _finite(value: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors_in(value))


def _sound(value: Any) -> bool:
    return not any(bool((torch.isnan(tensor) | torch.isposinf(tensor)).any()) for tensor in tensors_in(value))
