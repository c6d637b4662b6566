"""A task, model and criterion small enough to train in milliseconds: predict each token of a row from itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqkit.checkpoint.state import CheckpointState
from seqkit.config.base import Config, option
from seqkit.config.root import RootConfig, root_from_dict
from seqkit.criterions.base import Criterion, Logging, LossOutput
from seqkit.data.dictionary import Dictionary
from seqkit.data.sequence_dataset import SequenceDataset
from seqkit.errors import DataError
from seqkit.metrics.aggregator import Aggregator
from seqkit.models.base import Model, ModelOutput
from seqkit.registry import registry
from seqkit.tasks.base import Task
from seqkit.training.build import build_trainer
from seqkit.training.interrupt import StopRequest
from seqkit.training.observer import Observer, UpdateRecord
from seqkit.training.trainer import Trainer


class ToyRows(SequenceDataset):
    """Rows of 2 to 6 random tokens."""

    def __init__(self, count: int, vocabulary: int, seed: int) -> None:
        rng = np.random.RandomState(seed)
        self.rows = [torch.from_numpy(rng.randint(4, vocabulary, size=rng.randint(2, 7))) for _ in range(count)]
        self._sizes = np.array([len(row) for row in self.rows])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": index, "row": self.rows[index]}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sizes(self) -> np.ndarray[Any, Any]:
        return self._sizes

    def collater(self, samples: Sequence[Any]) -> Any:
        if not samples:
            return {}
        rows = nn.utils.rnn.pad_sequence([item["row"] for item in samples], batch_first=True, padding_value=1)
        return {
            "id": torch.tensor([item["id"] for item in samples]),
            "nsentences": len(samples),
            "ntokens": sum(len(item["row"]) for item in samples),
            "net_input": {"src_tokens": rows, "src_lengths": torch.tensor([len(item["row"]) for item in samples])},
            "target": rows,
        }


@dataclass
class ToyTaskConfig(Config):
    vocabulary: int = option(12, "symbols")
    rows: int = option(50, "training rows")


class ToyTask(Task):
    """Rows of random tokens."""

    @classmethod
    def build(cls, config: ToyTaskConfig) -> ToyTask:
        return cls(config)

    @property
    def source_dictionary(self) -> None:
        return None

    @property
    def target_dictionary(self) -> Dictionary:
        dictionary = Dictionary()
        for number in range(self.config.vocabulary - 4):
            dictionary.add_symbol(str(number))
        return dictionary

    def load_dataset(self, split: str, *, epoch: int = 1, combine: bool = False) -> ToyRows:
        if split not in ("train", "valid", "valid1"):
            raise DataError(f"there is no split {split!r}")
        count = self.config.rows if split == "train" else 9
        self.datasets[split] = dataset = ToyRows(count, self.config.vocabulary, seed=len(split))
        return dataset


@dataclass
class ToyModelConfig(Config):
    width: int = option(8, "channels")
    dropout: float = option(0.2, "dropout")


class ToyModel(Model):
    """Embedding, dropout, two linear layers."""

    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(width, width)
        self.output_projection = nn.Linear(width, vocabulary, bias=False)
        self.output_projection.weight = self.embed_tokens.weight

    @classmethod
    def build(cls, config: ToyModelConfig, task: Any) -> ToyModel:
        return cls(len(task.target_dictionary), config.width, config.dropout)

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> ModelOutput:
        features = torch.tanh(self.hidden(self.dropout(self.embed_tokens(src_tokens))))
        return ModelOutput(self.output_projection(features))

    def max_positions(self) -> int:
        return 100


@dataclass
class ToyCriterionConfig(Config):
    explode_at: int = option(0, "the call whose loss is NaN; 0: none")


class ToyCriterion(Criterion):
    """Cross-entropy."""

    def __init__(self, config: ToyCriterionConfig, pad: int) -> None:
        super().__init__(config, pad)
        self.calls = 0

    def forward(self, model: Model, sample: Any, *, reduce: bool = True) -> LossOutput:
        logits = model(**sample["net_input"]).logits.float()
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), sample["target"].flatten(), ignore_index=self.pad, reduction="sum"
        )
        self.calls += 1
        if self.calls == self.config.explode_at:
            loss = loss * math.nan
        logging = {"loss": loss.detach(), "ntokens": sample["ntokens"], "nsentences": sample["nsentences"]}
        return LossOutput(loss, sample["ntokens"], logging)

    def reduce_metrics(self, outputs: Sequence[Logging], log: Aggregator) -> None:
        tokens = sum(output["ntokens"] for output in outputs)
        loss = sum(output["loss"] for output in outputs)
        log.log_scalar("loss", loss / tokens / math.log(2), tokens, round=3)


def register() -> None:
    """Make the toys known to the registries (once)."""
    toys: list[tuple[str, str, type[Config], type[Any]]] = [
        ("task", "toy", ToyTaskConfig, ToyTask),
        ("model", "toy", ToyModelConfig, ToyModel),
        ("criterion", "toy", ToyCriterionConfig, ToyCriterion),
    ]
    for kind, name, config, cls in toys:
        if name not in registry(kind).names():
            registry(kind).register(name, config=config)(cls)


def toy_config(folder: Path, **sections: dict[str, Any]) -> RootConfig:
    """A config to train the toy with; `sections` are laid over it."""
    register()
    base: dict[str, Any] = {
        "common": {"cpu": True, "log_format": "none", "seed": 3},
        "dataset": {"max_tokens": 30, "required_batch_size_multiple": 1, "num_workers": 0},
        "optimization": {"lr": [0.05], "max_epoch": 3},
        "checkpoint": {"save_dir": str(folder / "checkpoints")},
        "task": {"_name": "toy"},
        "model": {"_name": "toy"},
        "criterion": {"_name": "toy"},
        "optimizer": {"_name": "adam"},
        "lr_scheduler": {"_name": "inverse_sqrt", "warmup_updates": 4},
    }
    for section, values in sections.items():
        before = base.get(section, {})
        another = values.get("_name", before.get("_name")) != before.get("_name")
        base[section] = values if another else before | values
    return root_from_dict(base)


class Recorder(Observer):
    """Keeps what it is told; asks for a stop after `stop_after` updates."""

    def __init__(self, stop_after: int | None = None, stop: StopRequest | None = None) -> None:
        self.updates: list[UpdateRecord] = []
        self.lines: list[tuple[str, dict[str, Any], int]] = []
        self.saves: list[tuple[Any, list[str], list[str]]] = []
        self._stop_after = stop_after
        self._stop = stop

    def on_update(self, update: UpdateRecord) -> None:
        self.updates.append(update)
        if self._stop is not None and update.num_updates == self._stop_after:
            self._stop.request()

    def on_log(self, stream: str, figures: Any, num_updates: int) -> None:
        self.lines.append((stream, dict(figures), num_updates))

    def on_save(self, event: Any, written: Any, deleted: Any) -> None:
        self.saves.append((event, list(written), list(deleted)))

    @property
    def losses(self) -> list[float]:
        return [update.total("loss") for update in self.updates]

    @property
    def ids(self) -> list[list[list[int]]]:
        return [update.batch_ids for update in self.updates]


def run(config: RootConfig, stop_after: int | None = None) -> tuple[Trainer, Recorder, str]:
    """Build and train; `stop_after` interrupts as a signal would."""
    stop = StopRequest()
    recorder = Recorder(stop_after, stop)
    trainer = build_trainer(config, observers=[recorder], stop=stop)
    reason = trainer.train()
    return trainer, recorder, reason


def assert_same_state(one: CheckpointState, other: CheckpointState) -> None:
    """Bitwise equality of all that makes training go on the same."""
    for part in ("model", "optimizer", "lr_scheduler", "iterator", "criterion", "extra"):
        _assert_equal(getattr(one, part), getattr(other, part), part)
    for key in one.progress:
        if key != "train_time":
            assert one.progress[key] == other.progress[key], key


def _assert_equal(one: Any, other: Any, where: str) -> None:
    assert type(one) is type(other), where
    if isinstance(one, Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _assert_equal(one[key], other[key], f"{where}[{key}]")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for position, (left, right) in enumerate(zip(one, other, strict=True)):
            _assert_equal(left, right, f"{where}[{position}]")
    else:
        assert one == other, where
