"""Putting a checkpoint's weights into a model, and saying in full why they do not fit.

Knows names and shapes only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from seqkit.errors import CheckpointError

_MOST_SHOWN = 6


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy `weights` into `model`, whatever the precision of either.

    Args:
        where: the checkpoint's name, for messages.

    Raises:
        CheckpointError: names or shapes differ; the message lists both sides. The model is unchanged then.
    """
    problems = misfits(model, weights)
    if problems:
        raise CheckpointError(f"the weights in {where} do not fit the model:\n" + "\n".join(problems))
    model.load_state_dict(dict(weights), strict=True)


def misfits(model: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """What differs in names and shapes, one line each; empty where the weights fit."""
    own = model.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    shapes = [
        (name, list(weights[name].shape), list(tensor.shape))
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    problems = []
    problems += _listed("only the model has", missing)
    problems += _listed("only the checkpoint has", unknown)
    for name, there, here in shapes[:_MOST_SHOWN]:
        problems.append(f"  - {name}: {there} in the checkpoint, {here} in the model")
    if len(shapes) > _MOST_SHOWN:
        problems.append(f"  - … and {len(shapes) - _MOST_SHOWN} more of other shapes")
    vocabularies = {
        (there[0], here[0]) for name, there, here in shapes if _is_vocabulary(name) and there[1:] == here[1:]
    }
    if vocabularies:
        pairs = " and ".join(f"{there} entries there, {here} here" for there, here in sorted(vocabularies))
        problems.append(
            f"  The vocabulary is another one ({pairs}): use the data folder the checkpoint was trained on."
        )
    elif shapes or missing or unknown:
        problems.append("  The model is another one: give the model options the checkpoint was trained with.")
    return problems


def plain_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's state on the CPU, detached; names that share a tensor go on sharing it."""
    copies: dict[int, Tensor] = {}
    result: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.detach().cpu()
        result[name] = copies[id(tensor)]
    return result


def to_cpu(value: object) -> object:
    """Nested containers with every tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: to_cpu(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_cpu(item) for item in value]
    if isinstance(value, tuple):
        return tuple(to_cpu(item) for item in value)
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
    if len(groups) > 1:
        return dict(state)
    group = {key: value for key, value in groups[0].items() if key != "param_names"}
    return {
        "state": {new: entries[old] for new, old in enumerate(order) if old in entries},
        "param_groups": [group | {"params": list(range(len(order)))}],
    }


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_MOST_SHOWN])
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return [f"  - {what}: {shown}{more}"]


def _is_vocabulary(name: str) -> bool:
    return "embed_tokens" in name or "output_projection" in name or "embed_out" in name
