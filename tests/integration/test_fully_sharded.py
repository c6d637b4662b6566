"""Training with weights spread over two gloo processes: the numbers of one process, and checkpoints of both kinds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqkit.checkpoint.io import read_checkpoint
from seqkit.config.base import Config, option
from seqkit.config.root import RootConfig
from seqkit.distributed.data_parallel import own_part
from seqkit.distributed.fully_sharded import FullySharded
from seqkit.distributed.launch import run_member, start_members, told
from seqkit.distributed.plan import Plan
from seqkit.distributed.process_group import ProcessGroup
from seqkit.errors import DamagedCheckpointError, SeqkitError
from seqkit.models.base import Model, ModelOutput
from seqkit.modules.layer_drop import LayerDropList
from seqkit.registry import registry
from seqkit.training.build import build_trainer
from seqkit.training.interrupt import StopRequest
from tests.unit.training.toy import Recorder, assert_same_state, run, toy_config

TWO = Plan(2, starts=2)
OPTIMIZERS = ("adamw", "lamb", "lion", "muon", "sgd")
KINDS = ("full", "shards")
SHORT = {"max_update": 3}
UNSAVED = {"no_save": True}
UNVALIDATED = {"max_tokens": 30, "required_batch_size_multiple": 1, "num_workers": 0, "disable_validation": True}


@dataclass
class LayeredToyConfig(Config):
    width: int = option(6, "channels")
    dropout: float = option(0.0, "dropout")
    layerdrop: float = option(0.0, "probability of leaving a layer out")
    min_params_to_wrap: int = option(1, "fewest parameters of a unit")


class LayeredToy(Model):
    """Embedding, two layers, a projection that shares the embedding's weight. 5 rows and 1 row do not divide by 2."""

    def __init__(self, vocabulary: int, width: int, dropout: float, layerdrop: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        layers = [nn.Sequential(nn.Linear(width, 5), nn.Linear(5, width), nn.Tanh()) for _ in range(2)]
        self.layers = LayerDropList(layers, layerdrop)
        self.gain = nn.Parameter(torch.ones(1))
        self.register_buffer("shift", torch.full((width,), 0.125))
        self.output_projection = nn.Linear(width, vocabulary, bias=False)
        self.output_projection.weight = self.embed_tokens.weight

    @classmethod
    def build(cls, config: LayeredToyConfig, task: Any) -> LayeredToy:
        return cls(len(task.target_dictionary), config.width, config.dropout, config.layerdrop)

    def forward(self, src_tokens: Tensor, src_lengths: Tensor | None = None) -> ModelOutput:
        features = self.dropout(self.embed_tokens(src_tokens)) * self.gain + self.shift
        for _, layer in self.layers.active():
            features = features + layer(features)
        return ModelOutput(self.output_projection(features))

    def max_positions(self) -> int:
        return 100


def settings(folder: Path, name: str, **sections: dict[str, Any]) -> RootConfig:
    if "layered_toy" not in registry("model").names():
        registry("model").register("layered_toy", config=LayeredToyConfig)(LayeredToy)
    model = {"_name": "layered_toy"} | sections.pop("model", {})
    return toy_config(folder / name, model=model, **sections)


class Member:
    """One of two processes, doing one training after the other."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self.group = group
        self.folder = folder

    def train(
        self,
        name: str,
        *,
        stop_after: int | None = None,
        spread: dict[str, Any] | None = None,
        look: Callable[[Any], Any] | None = None,
        **sections: dict[str, Any],
    ) -> dict[str, Any]:
        stop = StopRequest()
        recorder = Recorder(stop_after, stop)
        distributed = {"ddp_backend": "fully_sharded"} | (spread or {})
        config = settings(self.folder, name, distributed_training=distributed, **sections)
        trainer = build_trainer(config, observers=[recorder], stop=stop, communication=self.group)
        seen = None if look is None else look(trainer)
        reason = trainer.train()
        state = trainer.checkpoint_state()
        return {
            "losses": recorder.losses,
            "norms": [update.grad_norm for update in recorder.updates],
            "valid": [figures["loss"] for stream, figures, _ in recorder.lines if stream == "valid"],
            "reason": reason,
            "saves": [written for _, written, _ in recorder.saves],
            "weights": {key: value.tolist() for key, value in state.model.items()},
            "skipped": trainer.state.skipped_updates,
            "seen": seen,
        }

    def failing(self, name: str, **sections: Any) -> str:
        try:
            self.train(name, **sections)
        except SeqkitError as error:
            return str(error)
        return "none"


def parts(trainer: Any) -> dict[str, Any]:
    """What this process holds, and how it is divided."""
    parallel = trainer.parts.step._parallel
    assert isinstance(parallel, FullySharded)
    params = list(trainer.parts.model.parameters())
    return {
        "whole": sum(param.numel() for param in params),
        "own": sum(own_part(param).numel() for param in params),
        "units": len(parallel._units),
    }


def trainings(plan: Plan, folder: str) -> int:
    """All that the tests look at, in one pair of processes."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]

    def work(group: ProcessGroup) -> int:
        member, place = Member(group, Path(folder)), Path(folder)
        drop, shards = {"dropout": 0.3}, {"use_sharded_state": True}
        ema = {"store_ema": True, "ema_decay": 0.9, "ema_fp32": True}
        two: dict[str, Any] = {"max_epoch": 2}
        results: dict[str, Any] = {"plain": member.train("plain", look=parts)}
        whole = {"no_reshard_after_forward": True} | shards
        results["one unit"] = member.train("one unit", look=parts, model={"min_params_to_wrap": 1000}, spread=whole)
        results["dropping"] = member.train(
            "dropping", look=parts, model={"layerdrop": 0.5}, checkpoint=UNSAVED, optimization=two
        )
        results["accumulating"] = member.train("accumulating", optimization={"update_freq": [2], "clip_norm": 1.0})
        results["bf16"] = member.train("bf16", common={"bf16": True}, spread={"fp32_reduce_scatter": True})
        results["lean"] = member.train(
            "lean", common={"memory_efficient_bf16": True}, optimization=SHORT, checkpoint=UNSAVED
        )
        results["amp"] = member.train("amp", common={"amp": True}, optimization=SHORT, checkpoint=UNSAVED)
        explode = {"explode_at": 3 if group.rank == 1 else 0}
        fp16 = {"fp16": True, "fp16_scale_window": 100}
        results["overflow"] = member.train("overflow", common=fp16, criterion=explode)
        for name in OPTIMIZERS:
            results[name] = member.train(
                name, optimizer={"_name": name}, optimization=SHORT, checkpoint=UNSAVED, dataset=UNVALIDATED
            )
        results["adafactor"] = member.failing("adafactor", optimizer={"_name": "adafactor"})
        results["compile"] = member.failing("compile", common={"compile": "default"})
        results["after one process"] = member.train("begun by one")
        for kind, spread in (("full", {}), ("shards", shards)):
            both: dict[str, Any] = {"model": drop, "ema": ema, "spread": spread, "optimization": two}
            results[f"{kind} first"] = member.train(f"{kind} parts", stop_after=8, **both)
            results[f"{kind} second"] = member.train(f"{kind} parts", **both)
            results[f"{kind} whole"] = member.train(f"{kind} whole", **both)
        kept = {"keep_last_epochs": 1, "no_last_checkpoints": True}
        checkpoint = {"save_dir": f"{place}/keep"} | kept
        results["keeping"] = member.train("keeping", spread=shards, checkpoint=checkpoint, optimization=two)
        results["diverged"] = member.failing("diverged", criterion=explode)
        (place / f"{group.rank}.json").write_text(json.dumps(results))
        return 0

    return run_member(plan, work, device=torch.device("cpu"), backend="nccl", heartbeat_timeout=None, tell=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spread")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    """The results of both processes."""
    _, begun, _ = run(settings(folder, "begun by one", optimization={"update_freq": [2]}), stop_after=7)
    (folder / "begun.json").write_text(json.dumps(begun.losses))
    shown: list[str] = []
    code = start_members(TWO, trainings, (str(folder),), tell=lambda failure, size: shown.append(told(failure, size)))
    assert code == 0, "\n".join(shown)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def alone(folder: Path, **sections: dict[str, Any]) -> tuple[Any, Recorder]:
    """The same training in one process."""
    trainer, recorder, _ = run(settings(folder, "alone", optimization={"update_freq": [2]}, **sections))
    return trainer, recorder


class TestSameNumbers:
    @pytest.mark.parametrize("name", ["plain", "one unit"])
    def test_as_one_process_that_accumulates(self, ranks: list[dict[str, Any]], tmp_path: Path, name: str) -> None:
        trainer, recorder = alone(tmp_path)
        first, second = ranks[0][name], ranks[1][name]
        assert first["losses"] == second["losses"]
        assert first["losses"] == pytest.approx(recorder.losses, rel=1e-5)
        assert first["norms"] == pytest.approx([update.grad_norm for update in recorder.updates], rel=1e-4)
        lines = [figures["loss"] for stream, figures, _ in recorder.lines if stream == "valid"]
        assert first["valid"] == pytest.approx(lines, abs=2e-3)
        weights = trainer.checkpoint_state().model
        assert list(first["weights"]) == list(weights)
        for key, value in first["weights"].items():
            assert torch.allclose(torch.tensor(value), weights[key], atol=1e-5)

    def test_each_process_has_its_part(self, ranks: list[dict[str, Any]]) -> None:
        seen = [results["plain"]["seen"] for results in ranks]
        assert [part["whole"] for part in seen] == [215, 215]
        assert sum(part["own"] for part in seen) == 215
        assert abs(seen[0]["own"] - seen[1]["own"]) < 30
        assert [part["units"] for part in seen] == [3, 3]  # two layers and what is around them
        assert ranks[0]["one unit"]["seen"]["units"] == 1

    def test_layers_may_be_dropped(self, ranks: list[dict[str, Any]]) -> None:
        first, second = (results["dropping"] for results in ranks)
        assert first["seen"]["units"] == 1  # processes drop different layers, so none is gathered by itself
        assert first["weights"] == second["weights"]
        assert len(first["losses"]) == 10

    def test_accumulation_and_clipping(self, ranks: list[dict[str, Any]], tmp_path: Path) -> None:
        _, recorder, _ = run(settings(tmp_path, "alone", optimization={"update_freq": [4], "clip_norm": 1.0}))
        assert ranks[0]["accumulating"]["losses"] == pytest.approx(recorder.losses, rel=1e-5)

    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_optimizers(self, ranks: list[dict[str, Any]], tmp_path: Path, name: str) -> None:
        optimization = {"update_freq": [2]} | SHORT
        config = settings(tmp_path, "alone", optimizer={"_name": name}, optimization=optimization, checkpoint=UNSAVED)
        trainer, recorder, _ = run(config)
        assert ranks[1][name]["losses"] == pytest.approx(recorder.losses, rel=1e-5)
        for key, value in trainer.checkpoint_state().model.items():
            # (Muon orthogonalises in bfloat16, Lion takes signs.)
            assert torch.allclose(torch.tensor(ranks[1][name]["weights"][key]), value, atol=1e-4)

    @pytest.mark.parametrize("name", ["bf16", "lean", "amp"])
    def test_half_precision(self, ranks: list[dict[str, Any]], name: str) -> None:
        losses = ranks[0][name]["losses"]
        assert losses == ranks[1][name]["losses"]
        assert losses == pytest.approx(ranks[0]["plain"]["losses"][: len(losses)], rel=0.05, abs=0.2)

    def test_master_weights_stay_in_float32(self, ranks: list[dict[str, Any]]) -> None:
        weights = torch.tensor(ranks[0]["bf16"]["weights"]["embed_tokens.weight"])
        assert not torch.equal(weights, weights.bfloat16().float())
        weights = torch.tensor(ranks[0]["lean"]["weights"]["embed_tokens.weight"])
        assert torch.equal(weights, weights.bfloat16().float())


class TestTogether:
    def test_overflow_on_one_leaves_the_update_out_on_both(self, ranks: list[dict[str, Any]]) -> None:
        assert [results["overflow"]["skipped"] for results in ranks] == [1, 1]
        assert ranks[0]["overflow"]["weights"] == ranks[1]["overflow"]["weights"]

    def test_nan_on_one_is_told_with_its_rank(self, ranks: list[dict[str, Any]]) -> None:
        for results in ranks:
            assert results["diverged"].startswith("update 3: rank 1: the loss is nan in the batch of sentences [")

    def test_what_cannot_be_done_is_refused(self, ranks: list[dict[str, Any]]) -> None:
        assert "adafactor keeps statistics of whole matrices" in ranks[0]["adafactor"]
        assert "common.compile=default takes layers for whole" in ranks[1]["compile"]


class TestCheckpoints:
    @pytest.mark.parametrize("kind", ["full", "shards"])
    def test_resumed_bit_for_bit(self, ranks: list[dict[str, Any]], folder: Path, kind: str) -> None:
        for results in ranks:
            first, second, whole = (results[f"{kind} {part}"] for part in ("first", "second", "whole"))
            assert first["reason"].startswith("interrupted by SIGTERM")
            assert first["losses"] + second["losses"] == whole["losses"]
            assert first["norms"] + second["norms"] == whole["norms"]
        parts = read_checkpoint(folder / f"{kind} parts/checkpoints/checkpoint_last.pt")
        assert_same_state(parts, read_checkpoint(folder / f"{kind} whole/checkpoints/checkpoint_last.pt"))

    def test_both_kinds_hold_the_same(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        full, shards = (read_checkpoint(folder / f"{kind} whole/checkpoints/checkpoint2.pt") for kind in KINDS)
        assert_same_state(full, shards)
        assert full.extra["ema"].keys() == full.model.keys()
        assert full.model["embed_tokens.weight"].shape == (12, 6)
        assert [len(names) for names in (ranks[0]["full whole"]["saves"][0], ranks[1]["full whole"]["saves"][0])] == [
            3,
            0,
        ]

    @pytest.mark.parametrize("name", ["plain", "one unit"])
    def test_one_process_goes_on(self, ranks: list[dict[str, Any]], folder: Path, tmp_path: Path, name: str) -> None:
        start = folder / name / "checkpoints/checkpoint2.pt"
        _, recorder = alone(tmp_path, checkpoint={"restore_file": str(start)})
        assert recorder.losses == pytest.approx(ranks[0][name]["losses"][10:], rel=1e-5)

    def test_two_go_on_where_one_was_stopped(self, ranks: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
        _, recorder = alone(tmp_path)
        begun = json.loads((folder / "begun.json").read_text())
        assert len(begun) == 7
        assert begun + ranks[0]["after one process"]["losses"] == pytest.approx(recorder.losses, rel=1e-5)

    def test_folders_are_kept_as_long_as_their_names(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        assert ranks[0]["keeping"]["saves"][0] == ["checkpoint1.pt", "checkpoint_best.pt"]
        names = sorted(path.name for path in (folder / "keep").iterdir())
        assert names == ["checkpoint2.pt", "checkpoint_best.pt", "checkpoint_shards_10"]
        assert read_checkpoint(folder / "keep/checkpoint_best.pt").progress["num_updates"] == 10

    def test_damage_to_a_part_is_noticed(self, ranks: list[dict[str, Any]], folder: Path) -> None:
        part = next((folder / "keep/checkpoint_shards_10").glob("__1_*"))
        content = bytearray(part.read_bytes())
        content[len(content) // 2] ^= 1
        part.write_bytes(content)
        with pytest.raises(DamagedCheckpointError, match=r"__1_0.distcp is not what its SHA-256 checksum says"):
            read_checkpoint(folder / "keep/checkpoint2.pt")
        part.unlink()
        with pytest.raises(DamagedCheckpointError, match="is missing"):
            read_checkpoint(folder / "keep/checkpoint2.pt")
