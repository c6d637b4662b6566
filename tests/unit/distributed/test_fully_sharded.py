from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.checkpoint.policy import CheckpointPolicy, SaveEvent
from seqkit.checkpoint.shard_folders import remove_unused_shards, write_sharded
from seqkit.checkpoint.sharded import _MetadataReader, together
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.sections import CheckpointConfig, DistributedTrainingConfig
from seqkit.distributed.communication import SingleProcess
from seqkit.distributed.data_parallel import check_data_parallel, is_fully_sharded, own_part
from seqkit.distributed.fully_sharded import FullySharded, spread_like, whole_on_cpu
from seqkit.errors import CheckpointError, ConfigError, DamagedCheckpointError
from seqkit.modules.layer_drop import LayerDropList
from seqkit.training import saving, sharding
from seqkit.training.sharding import ShardedSaver, find_units, gather_state

CPU = torch.device("cpu")


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def saver(folder: Path, *, asynchronous: bool = True, by_parts: bool = False) -> ShardedSaver:
    policy = CheckpointPolicy(CheckpointConfig())
    return ShardedSaver(policy, folder, SingleProcess(), asynchronous=asynchronous, by_parts=by_parts)


def event() -> SaveEvent:
    return SaveEvent(1, 3, end_of_epoch=True, value=None, best=None)


def problems(**options: Any) -> list[str]:
    return check_data_parallel(DistributedTrainingConfig(**options))


class TestOptions:
    def test_what_there_is(self) -> None:
        options = {"cpu_offload": True, "use_sharded_state": True, "fp32_reduce_scatter": True}
        assert problems(ddp_backend="fully_sharded", zero_sharding="os", **options) == []

    @pytest.mark.parametrize(
        "option", ["cpu_offload", "use_sharded_state", "no_reshard_after_forward", "fp32_reduce_scatter"]
    )
    def test_what_goes_with_it_only(self, option: str) -> None:
        assert f"{option}=true goes with ddp_backend=fully_sharded" in problems(**{option: True})[0]

    def test_one_process_has_nothing_to_spread(self) -> None:
        assert not is_fully_sharded(DistributedTrainingConfig(ddp_backend="fully_sharded"), SingleProcess())

    def test_single_numbers_are_refused(self) -> None:
        module = nn.Module()
        module.scale = nn.Parameter(torch.tensor(1.0))
        with pytest.raises(ConfigError, match=r"a parameter that is a single number \(scale\)"):
            FullySharded(module, SingleProcess(), device=CPU)


class TestUnits:
    def model(self, p: float = 0.0) -> nn.Module:
        model = nn.Module()
        model.embed = nn.Embedding(4, 4)
        model.layers = LayerDropList([nn.Linear(4, 4) for _ in range(3)], p)
        model.others = nn.ModuleList([nn.Linear(4, 4)])
        return model

    def test_layers_of_a_size(self) -> None:
        model = self.model()
        assert find_units(model, 20) == list(model.layers)
        assert find_units(model, 21) == []

    def test_not_those_that_may_be_dropped(self) -> None:
        assert find_units(self.model(p=0.1), 1) == []

    def test_not_those_that_share_a_parameter(self) -> None:
        model = self.model()
        model.layers[1].weight = model.embed.weight
        assert find_units(model, 1) == [model.layers[0], model.layers[2]]

    def test_one_layer_used_twice_is_one_unit(self) -> None:
        model = self.model()
        model.layers[2] = model.layers[0]
        assert find_units(model, 1) == [model.layers[0], model.layers[1]]


@pytest.mark.usefixtures("group")
class TestSpread:
    def test_updates_are_those_of_the_module(self) -> None:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
        own = [param.detach().clone().requires_grad_() for param in module.parameters()]
        spread = FullySharded(module, SingleProcess(), [module[0]], device=CPU)
        inputs = torch.arange(6.0).view(2, 3)
        for last in (False, True):
            with spread.accumulating(last=last):
                spread(inputs).sum().backward()
            assert not spread.is_broken
            nn.functional.linear(nn.functional.linear(inputs, own[0], own[1]), own[2], own[3]).sum().backward()
        for param, expected in zip(module.parameters(), own, strict=True):
            assert param.grad is not None
            assert expected.grad is not None
            assert torch.allclose(own_part(param.grad), expected.grad)

    def test_whole_weights_before_and_between_updates(self) -> None:
        module = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
        expected = module[0].weight.detach().clone()
        spread = FullySharded(module, SingleProcess(), [module[0]], device=CPU)
        for _ in range(2):
            with spread.whole_weights(), torch.no_grad():
                assert type(module[0].weight.data) is torch.Tensor
                assert module(torch.ones(1, 3)).shape == (1, 1)
                assert torch.equal(module[0].weight, expected)
            assert hasattr(module[0].weight, "to_local")
            with spread.accumulating(last=True):
                spread(torch.ones(1, 3)).sum().backward()

    def test_an_error_in_the_midst_breaks_it(self) -> None:
        spread = FullySharded(nn.Linear(2, 2), SingleProcess(), device=CPU)
        with pytest.raises(MemoryError), spread.accumulating(last=True):
            raise MemoryError
        assert spread.is_broken

    def test_gathered_and_spread_again(self) -> None:
        module = nn.Linear(3, 5)
        FullySharded(module, SingleProcess(), device=CPU)
        whole = whole_on_cpu(module.weight)
        assert whole is not None
        assert whole.shape == (5, 3)
        assert whole_on_cpu(module.weight, keep=False) is None
        again = spread_like(module.weight, whole.double())  # type: ignore[arg-type]
        assert again.dtype == torch.float64
        assert torch.equal(own_part(again), whole.double())


@pytest.mark.usefixtures("group")
class TestShardedCheckpoint:
    def state(self, updates: int = 3) -> CheckpointState:
        module = nn.Linear(3, 5)
        FullySharded(module, SingleProcess(), device=CPU)
        weight = module.weight.detach()
        optimizer = {"state": {0: {"step": 3, "exp_avg": weight * 2}}, "param_groups": [{"lr": 0.5, "params": [0]}]}
        return CheckpointState(
            config={"common": {"seed": 1}},
            model={"weight": weight, "tied": weight, "buffer": torch.arange(3)},
            optimizer=optimizer,
            progress={"num_updates": updates},
        )

    def test_read_by_a_process_on_its_own(self, tmp_path: Path) -> None:
        state = self.state()
        write_sharded(tmp_path, ["checkpoint1.pt", "checkpoint_last.pt"], state, SingleProcess())
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "checkpoint1.pt",
            "checkpoint_last.pt",
            "checkpoint_shards_3",
        ]
        read, whole = read_checkpoint(tmp_path / "checkpoint_last.pt"), gather_state(state)
        assert whole is not None
        assert read.optimizer is not None
        assert torch.equal(read.model["weight"], whole.model["weight"])
        assert read.model["tied"] is read.model["weight"]
        assert torch.equal(read.model["buffer"], torch.arange(3))
        assert torch.equal(read.optimizer["state"][0]["exp_avg"], whole.model["weight"] * 2)
        assert read.optimizer["param_groups"] == [{"lr": 0.5, "params": [0]}]
        assert (read.config, read.extra) == (state.config, {})

    def test_by_parts_while_training_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gate, original = threading.Event(), sharding.write_sharded

        def write(*arguments: Any) -> None:
            assert gate.wait(30)
            original(*arguments)

        monkeypatch.setattr(sharding, "write_sharded", write)
        state = self.state()
        weight = own_part(state.model["weight"])
        expected = weight.clone()
        with saver(tmp_path, by_parts=True) as parts:
            assert parts.save(event(), lambda: state) is None
            weight.zero_()  # training goes on
            assert parts.finished() is None
            assert list(tmp_path.iterdir()) == []
            gate.set()
            saved = parts.wait()
            assert saved is not None
            assert saved.written == ("checkpoint1.pt", "checkpoint_last.pt")
            assert saved.took > saved.stalled > 0
            read = read_checkpoint(tmp_path / "checkpoint_last.pt")
            assert torch.equal(read.model["weight"], expected)
            assert read.model["tied"] is read.model["weight"]
            assert parts._staging.memory_needed(state) == 0  # the memory is there for the next one
            assert parts.save(event(), lambda: state) is None
            saved = parts.wait()
            assert saved is not None
        assert torch.equal(read_checkpoint(tmp_path / "checkpoint_last.pt").model["weight"], torch.zeros(5, 3))

    def test_by_parts_before_training_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = self.state()
        saved = saver(tmp_path, by_parts=True, asynchronous=False).save(event(), lambda: state)
        assert saved is not None
        assert saved.stalled == saved.took
        monkeypatch.setattr(saving, "available_memory", lambda: 10)
        assert saver(tmp_path, by_parts=True).save(event(), lambda: state) is not None

    def test_gathering_is_time_that_training_waits(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        original = sharding.gather_state

        def slow(*arguments: Any, **more: Any) -> Any:
            time.sleep(0.2)
            return original(*arguments, **more)

        monkeypatch.setattr(sharding, "gather_state", slow)
        with saver(tmp_path) as whole:
            assert whole.save(event(), self.state) is None
            saved = whole.wait()
        assert saved is not None
        assert saved.stalled > 0.2

    def test_a_folder_goes_when_no_file_names_it(self, tmp_path: Path) -> None:
        write_sharded(tmp_path, ["checkpoint_last.pt"], self.state(3), SingleProcess())
        write_sharded(tmp_path, ["checkpoint_last.pt", "checkpoint_best.pt"], self.state(3), SingleProcess())
        (tmp_path / ".checkpoint_shards_9.tmp").mkdir()
        assert remove_unused_shards(tmp_path) == [".checkpoint_shards_9.tmp", "checkpoint_shards_3"]
        (tmp_path / "checkpoint_last.pt").unlink()
        assert remove_unused_shards(tmp_path) == []
        read_checkpoint(tmp_path / "checkpoint_best.pt")

    def test_nothing_goes_while_a_file_cannot_be_read(self, tmp_path: Path) -> None:
        write_sharded(tmp_path, ["checkpoint_last.pt"], self.state(), SingleProcess())
        (tmp_path / "checkpoint_last.pt").write_bytes(b"damaged")
        assert remove_unused_shards(tmp_path) == []

    def test_a_file_without_its_folder(self, tmp_path: Path) -> None:
        write_sharded(tmp_path, ["checkpoint_last.pt"], self.state(), SingleProcess())
        (tmp_path / "checkpoint_shards_3").rename(tmp_path / "elsewhere")
        with pytest.raises(DamagedCheckpointError, match="move or copy both together"):
            read_checkpoint(tmp_path / "checkpoint_last.pt")

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match="cannot write the checkpoint"):
            write_sharded(tmp_path / "file", ["checkpoint_last.pt"], self.state(), SingleProcess())

    def test_pickles_that_run_something_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "metadata"
        path.write_bytes(pickle.dumps(Runs()))
        with pytest.raises(DamagedCheckpointError, match=r"names .*system, which is refused"), open(path, "rb") as file:
            _MetadataReader(file).load()

    def test_ordinary_files_need_no_folder(self, tmp_path: Path) -> None:
        write_checkpoint(tmp_path / "checkpoint_last.pt", CheckpointState(config={}, model={"a": torch.ones(2)}))
        assert remove_unused_shards(tmp_path) == []
        assert torch.equal(read_checkpoint(tmp_path / "checkpoint_last.pt").model["a"], torch.ones(2))


class Runs:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> Any:
        import os

        return os.system, ("exit 1",)


class Gathered(SingleProcess):
    """One process that is told what others have sent."""

    def __init__(self, others: list[str]) -> None:
        super().__init__()
        self.others = others

    def gather_texts(self, text: str) -> list[str]:
        return [text, *self.others]


class TestTogether:
    def test_results_of_all(self) -> None:
        assert together(lambda: {"a": 1}, Gathered(['[{"b": 2}, null]'])) == [{"a": 1}, {"b": 2}]

    def test_what_one_could_not_do_is_an_error_of_all(self) -> None:
        with pytest.raises(OSError, match="No space left") as error:
            together(lambda: 1, Gathered(['[null, [28, "No space left on device"]]']))
        assert error.value.errno == 28
        with pytest.raises(CheckpointError, match="cannot write"):
            together(lambda: 1, Gathered(['[null, [null, "cannot write"]]']))

    def test_the_own_error_is_told(self) -> None:
        sent: list[str] = []

        def refuse() -> int:
            raise PermissionError(13, "Permission denied")

        others = Gathered([])
        others.gather_texts = lambda text: sent.append(text) or [text]  # type: ignore[method-assign,func-returns-value]
        with pytest.raises(PermissionError):
            together(refuse, others)
        assert sent == ['[null, [13, "Permission denied"]]']
