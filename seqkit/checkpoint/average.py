"""The average of several checkpoints' weights (as in Vaswani et al., 2017, section 6.1).

Sees states, not files. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from seqkit.checkpoint.policy import best_checkpoints, checkpoint_number, epoch_checkpoints, update_checkpoints
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError


def average_checkpoints(states: Iterable[tuple[str, CheckpointState]]) -> CheckpointState:
    """The first checkpoint with every weight replaced by the mean over all.

    Floating-point weights are summed in float64 and come out in float32 (those that were wider as they were), integer
    buffers are divided with the remainder dropped, as fairseq does. The optimizer's state is left out: it belongs to
    none of the averages.

    Args:
        states: (name for messages, checkpoint); taken one at a time, so that two are in memory at most.

    Raises:
        CheckpointError: there are none, or their weights differ in names or shapes.
    """
    first: CheckpointState | None = None
    first_name = ""
    sums: dict[str, Tensor] = {}
    formats: dict[str, torch.dtype] = {}
    count = 0
    for name, state in states:
        if first is None:
            first, first_name = state, name
            formats = {key: _format_of_mean(tensor) for key, tensor in state.model.items()}
            sums = {key: _summand(tensor).clone() for key, tensor in state.model.items()}
        else:
            _require_same(first_name, sums, name, state.model)
            for key, tensor in state.model.items():
                sums[key] += _summand(tensor)
        count += 1
    if first is None:
        raise CheckpointError("no checkpoints to average; name at least one")
    model = {
        key: (total / count).to(formats[key])
        if total.is_floating_point()
        else torch.div(total, count, rounding_mode="floor")
        for key, total in sums.items()
    }
    return CheckpointState(
        config=first.config,
        model=model,
        criterion=first.criterion,
        task=first.task,
        progress=first.progress,
    )


def last_checkpoints(
    folder: str | Path,
    count: int,
    *,
    kind: str,
    upper_bound: int | None = None,
) -> list[Path]:
    """The `count` newest checkpoints of a folder.

    Args:
        kind: `"epoch"` (`checkpoint<n>.pt`) or `"update"` (`checkpoint_<epoch>_<n>.pt`).
        upper_bound: leave out those with a greater number.

    Raises:
        CheckpointError: there are fewer.
    """
    finders = {"epoch": epoch_checkpoints, "update": update_checkpoints}
    place = Path(folder)
    if not place.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the folder that holds the {kind} checkpoints")
    found = [path for path in finders[kind](place) if upper_bound is None or checkpoint_number(path) <= upper_bound]
    if len(found) < count:
        names = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(f"{folder} holds {len(found)} {kind} checkpoints, not the {count} asked for ({names})")
    return found[:count]


def best_of_folder(folder: str | Path, count: int, *, maximize: Callable[[Path], bool]) -> list[Path]:
    """The `count` best of the `checkpoint.best_*` files that `checkpoint.keep_best_checkpoints` keeps.

    Args:
        maximize: tells from one of the files whether the largest figure is the best.

    Raises:
        CheckpointError: there are fewer, or they are of several figures.
    """
    place = Path(folder)
    if not place.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the folder that holds the best checkpoints")
    by_metric = best_checkpoints(place)
    if len(by_metric) > 1:
        raise CheckpointError(
            f"{folder} holds best checkpoints by {' and by '.join(by_metric)}; name the files themselves with --inputs"
        )
    found = next(iter(by_metric.values()), [])
    if len(found) < count:
        names = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(
            f"{folder} holds {len(found)} best checkpoints, not the {count} asked for ({names}); "
            "checkpoint.keep_best_checkpoints says how many training keeps"
        )
    return found[:count] if maximize(found[0]) else found[::-1][:count]


def best_of_files(paths: Iterable[str | Path], count: int, *, maximize: Callable[[Path], bool]) -> list[Path]:
    """The `count` best of some checkpoints, by the figure that ends each file's name.

    Args:
        maximize: tells from one of the files whether the largest figure is the best.

    Raises:
        CheckpointError: there are fewer, or a name ends in no figure.
    """
    figures: dict[Path, float] = {}
    for path in map(Path, paths):
        try:
            figures[path] = float(path.stem.rsplit("_", 1)[-1])
        except ValueError:
            raise CheckpointError(
                f"{path}: the name ends in no figure to choose by; files to choose the best of are named "
                "checkpoint.best_<metric>_<figure>.pt"
            ) from None
    if len(figures) < count:
        raise CheckpointError(f"--inputs names {len(figures)} checkpoints, not the {count} asked for")
    return sorted(figures, key=figures.__getitem__, reverse=maximize(next(iter(figures))))[:count]


def _summand(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _format_of_mean(tensor: Tensor) -> torch.dtype:
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def _require_same(first_name: str, first: dict[str, Tensor], name: str, weights: dict[str, Tensor]) -> None:
    only_here = sorted(set(weights) - set(first))
    only_there = sorted(set(first) - set(weights))
    if only_here or only_there:
        raise CheckpointError(
            f"{first_name} and {name} are of different models: "
            + "; ".join(
                f"only {where} has {', '.join(names[:5])}"
                for where, names in ((name, only_here), (first_name, only_there))
                if names
            )
        )
    for key, tensor in weights.items():
        if tensor.shape != first[key].shape:
            raise CheckpointError(
                f"{key} is {list(first[key].shape)} in {first_name} and {list(tensor.shape)} in {name}: "
                "they are of different models or vocabularies"
            )
