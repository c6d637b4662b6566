"""What is told of a training before it begins: the model's parts and their sizes, the data, the batches.

Looks only: changes nothing and decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seqkit.config.root import RootConfig
from seqkit.criterions.base import Criterion
from seqkit.data.iterators import EpochBatchIterator
from seqkit.data.sequence_dataset import Indices, SequenceDataset
from seqkit.distributed.communication import Communication
from seqkit.metrics.text_table import text_table
from seqkit.models.base import Model
from seqkit.training.precision import Precision

logger = logging.getLogger(__name__)


@dataclass
class ModelPart:
    """Parameters of one part of a model.

    Attributes:
        name: its modules' common name (`encoder.layers`).
        modules: how many modules it is a list of; 0 where it is no list.
        parameters: numbers in it that no part before it has.
        trained: how many of these are trained.
        shared: numbers that it shares with a part before it.
        shared_with: the names of those parts.
    """

    name: str
    modules: int = 0
    parameters: int = 0
    trained: int = 0
    shared: int = 0
    shared_with: tuple[str, ...] = ()


def model_parts(model: nn.Module, criterion: nn.Module) -> list[ModelPart]:
    """A model's parts two names deep, in order; the criterion, where it has parameters, is one more."""
    parts: dict[str, ModelPart] = {}
    owners: dict[int, str] = {}
    named = [
        *((".".join(name.split(".")[:-1][:2]) or name, param) for name, param in _all_parameters(model)),
        *(("criterion", param) for _, param in _all_parameters(criterion)),
    ]
    for where, param in named:
        part = parts.setdefault(where, ModelPart(where, modules=_length(model, where)))
        if id(param) not in owners:
            owners[id(param)] = where
            part.parameters += param.numel()
            part.trained += param.numel() if param.requires_grad else 0
        elif owners[id(param)] != where:
            part.shared += param.numel()
            part.shared_with = tuple(dict.fromkeys([*part.shared_with, owners[id(param)]]))
    return list(parts.values())


def _all_parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(module.named_parameters(remove_duplicate=False))


def _length(model: nn.Module, name: str) -> int:
    modules = dict(model.named_modules())
    found = modules.get(name)
    return len(found) if isinstance(found, nn.ModuleList) else 0


def parts_table(parts: Sequence[ModelPart]) -> str:
    """The parts, one a line, and their sum."""
    total = sum(part.parameters for part in parts)
    trained = sum(part.trained for part in parts)
    rows = []
    for part in parts:
        name = f"{part.name} ({part.modules})" if part.modules else part.name
        note = f"{part.shared:,} shared with {', '.join(part.shared_with)}" if part.shared else ""
        share = f"{100 * part.parameters / max(total, 1):.1f}%"
        rows.append([name, f"{part.parameters:,}", f"{part.trained:,}", share, note])
    rows.append(["all", f"{total:,}", f"{trained:,}", "100.0%", ""])
    lines = text_table(["part", "parameters", "trained", "share"], [row[:4] for row in rows]).splitlines()
    notes = ["", *(row[4] for row in rows)]
    return "\n".join(f"{line}  {note}" if note else line for line, note in zip(lines, notes, strict=True))


def report_model(config: RootConfig, model: Model, criterion: Criterion) -> None:
    """Log what is trained; all of its modules only at level DEBUG."""
    logger.debug("%s", model)
    names = ", ".join(
        f"{kind} {section._name}"
        for kind, section in (("task", config.task), ("model", config.model), ("criterion", config.criterion))
        if section is not None
    )
    logger.info("%s\n%s", names, parts_table(model_parts(model, criterion)))


def report_data(subset: str, dataset: SequenceDataset) -> None:
    """Log the size of a split."""
    logger.info("%s: %s sentences", subset, f"{len(dataset):,}")


def report_batches(
    config: RootConfig,
    epochs: EpochBatchIterator,
    device: torch.device,
    precision: Precision,
    communication: Communication,
) -> None:
    """Log how training goes over its data, and on what."""
    where = f"GPU {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "CPU"
    if communication.world_size > 1:
        where = f"{communication.world_size} processes ({config.distributed_training.ddp_backend}), each on {where}"
    used = sum(len(batch) for batch in epochs.frozen_batches)
    logger.info(
        "%s in %s; an epoch is %s batches with %s of %s sentences, %s left out as too long "
        "(max_tokens=%s, batch_size=%s, update_freq=%s)",
        where,
        precision.name,
        f"{len(epochs):,}",
        f"{used:,}",
        f"{len(epochs.dataset):,}",
        f"{len(epochs.ignored):,}",
        config.dataset.max_tokens,
        config.dataset.batch_size,
        config.optimization.update_freq,
    )


@dataclass(frozen=True)
class BatchStatistics:
    """The batches of an epoch, of all processes together.

    Attributes:
        sentences: in all batches.
        batches: how many there are.
        tokens: without padding, for each side (source and target, or one).
        places: with padding, for each side.
        largest: number of the batch with the most places.
    """

    sentences: int
    batches: int
    tokens: tuple[int, ...]
    places: tuple[int, ...]
    largest: int

    @property
    def padding(self) -> float:
        """Share of places that are padding, from 0 to 1."""
        return 1 - sum(self.tokens) / max(sum(self.places), 1)


def batch_statistics(dataset: SequenceDataset, batches: Sequence[Indices]) -> BatchStatistics:
    """Count what is in `batches`, from the lengths alone."""
    ids = np.concatenate(batches)
    counts = np.array([len(batch) for batch in batches])
    starts = np.cumsum(counts) - counts
    tokens, places = [], []
    for lengths in dataset.side_sizes():
        found = lengths[ids]
        tokens.append(int(found.sum(dtype=np.int64)))
        places.append(np.maximum.reduceat(found, starts).astype(np.int64) * counts)
    return BatchStatistics(
        sentences=len(ids),
        batches=len(batches),
        tokens=tuple(tokens),
        places=tuple(int(side.sum()) for side in places),
        largest=int(np.sum(places, axis=0).argmax()),
    )
