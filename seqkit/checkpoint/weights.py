"""Putting a checkpoint's weights into a model, and saying in full why they do not fit.

Knows names and shapes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError

_MOST_SHOWN = 6


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's weights fit a model, by name.

    Attributes:
        matched: in both, of one shape.
        missing: only the model has them.
        left_over: only the checkpoint has them.
        other_shape: (name, shape in the checkpoint, shape in the model).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]
    other_shape: tuple[tuple[str, list[int], list[int]], ...]

    @property
    def is_complete(self) -> bool:
        """Whether all of the model is in the checkpoint, and nothing else."""
        return not (self.missing or self.left_over or self.other_shape)

    def summary(self) -> str:
        """How much of the model was found: `"all 12 tensors of the model"`, `"10 of the model's 12 tensors"`."""
        total = len(self.matched) + len(self.missing) + len(self.other_shape)
        found = (
            f"all {total} tensors of the model" if self.is_complete else f"{len(self.matched)} of its {total} tensors"
        )
        return found if not self.left_over else f"{found}, {len(self.left_over)} of the checkpoint left over"

    def problems(self, most_shown: int = _MOST_SHOWN) -> list[str]:
        """What does not fit, one line each, `most_shown` names at most of each kind."""
        lines = _listed("only the model has", self.missing, most_shown)
        lines += _listed("only the checkpoint has", self.left_over, most_shown)
        for name, there, here in self.other_shape[:most_shown]:
            lines.append(f"  - {name}: {there} in the checkpoint, {here} in the model")
        if len(self.other_shape) > most_shown:
            lines.append(f"  - … and {len(self.other_shape) - most_shown} more of other shapes")
        return lines

    def advice(self) -> str:
        """Where the difference comes from, as far as it can be told."""
        vocabularies = {
            (there[0], here[0])
            for name, there, here in self.other_shape
            if _is_vocabulary(name) and there[1:] == here[1:]
        }
        if not vocabularies:
            return "  The model is another one: give the model options the checkpoint was trained with."
        pairs = " and ".join(f"{there} entries there, {here} here" for there, here in sorted(vocabularies))
        return f"  The vocabulary is another one ({pairs}): use the data folder the checkpoint was trained on."


def fit_of(model: nn.Module, weights: Mapping[str, Tensor]) -> Fit:
    """Compare names and shapes of a model's state and a checkpoint's weights."""
    own = model.state_dict()
    both = [name for name in own if name in weights]
    return Fit(
        matched=tuple(name for name in both if weights[name].shape == own[name].shape),
        missing=tuple(name for name in own if name not in weights),
        left_over=tuple(name for name in weights if name not in own),
        other_shape=tuple(
            (name, list(weights[name].shape), list(own[name].shape))
            for name in both
            if weights[name].shape != own[name].shape
        ),
    )


def load_weights(
    model: nn.Module, weights: Mapping[str, Tensor], where: str, *, partial: bool = False, hint: str = ""
) -> Fit:
    """Copy `weights` into `model`, whatever the precision of either.

    Args:
        where: the checkpoint's name, for messages.
        partial: what fits is enough; the rest of the model stays as it is.
        hint: a last line for the message about weights that do not fit.

    Returns:
        what matched and what did not.

    Raises:
        CheckpointError: names or shapes differ (with `partial`: nothing fits); the message lists both sides. The model
            is unchanged then.
    """
    fit = fit_of(model, weights)
    if not fit.is_complete and not (partial and fit.matched):
        lines = [f"the weights in {where} do not fit the model:", *fit.problems(), fit.advice()]
        raise CheckpointError("\n".join([*lines, hint] if hint and fit.matched else lines))
    model.load_state_dict({name: weights[name] for name in fit.matched}, strict=fit.is_complete)
    return fit


def plain_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's state, detached, on the device where it is; names that share a tensor go on sharing it."""
    detached: dict[int, Tensor] = {}
    return {name: detached.setdefault(id(tensor), tensor.detach()) for name, tensor in state.items()}


def state_on_cpu(state: CheckpointState) -> CheckpointState:
    """The same state with every tensor on the CPU (the very same tensors where they are there already)."""
    moved: dict[int, Tensor] = {}
    return CheckpointState(**{item.name: _on_cpu(getattr(state, item.name), moved) for item in fields(state)})


def _on_cpu(value: Any, moved: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if id(value) not in moved:
            moved[id(value)] = value.detach().cpu()
        return moved[id(value)]
    if isinstance(value, dict):
        return {key: _on_cpu(item, moved) for key, item in value.items()}
    if isinstance(value, list):
        return [_on_cpu(item, moved) for item in value]
    if isinstance(value, tuple):
        return tuple(_on_cpu(item, moved) for item in value)
    return value


def reorder_optimizer_state(state: Mapping[str, object], own_names: Sequence[str], where: str) -> dict[str, object]:
    """An optimizer's state dict, its parameters put into this model's order by their names.

    States without names (`param_names` in their groups) are returned as they are.

    Raises:
        CheckpointError: the names are not this model's.
    """
    groups = state["param_groups"]
    assert isinstance(groups, list)
    if not groups or any("param_names" not in group for group in groups):
        return dict(state)
    index_of = {
        name: index for group in groups for name, index in zip(group["param_names"], group["params"], strict=True)
    }
    if set(index_of) != set(own_names):
        differing = sorted(set(index_of) ^ set(own_names))
        shown = ", ".join(differing[:_MOST_SHOWN]) + (", …" if len(differing) > _MOST_SHOWN else "")
        raise CheckpointError(
            f"the optimizer state in {where} is for other parameters ({shown}); "
            "set checkpoint.reset_optimizer=true to start with fresh state"
        )
    entries = state["state"]
    assert isinstance(entries, dict)
    order = [index_of[name] for name in own_names]
    reordered, done = [], 0
    for group in groups:
        numbers = list(range(done, done + len(group["params"])))
        moved = sorted({own_names[number] for number in numbers} - set(group["param_names"]))
        if moved:
            raise CheckpointError(
                f"the groups of parameters in the optimizer state in {where} are other ones ({moved[0]} is not in the "
                "same); set checkpoint.reset_optimizer=true to start with fresh state"
            )
        reordered.append({key: value for key, value in group.items() if key != "param_names"} | {"params": numbers})
        done += len(numbers)
    return {
        "state": {new: entries[old] for new, old in enumerate(order) if old in entries},
        "param_groups": reordered,
    }


def _listed(what: str, names: Sequence[str], most_shown: int) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:most_shown])
    more = f" and {len(names) - most_shown} more" if len(names) > most_shown else ""
    return [f"  - {what}: {shown}{more}"]


def _is_vocabulary(name: str) -> bool:
    return "embed_tokens" in name or "output_projection" in name or "embed_out" in name
