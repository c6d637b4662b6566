from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.average import average_checkpoints, best_of_files, best_of_folder, last_checkpoints
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError


def _state(**weights: torch.Tensor) -> CheckpointState:
    return CheckpointState(config={"n": 1}, model=dict(weights), optimizer={"state": {}}, progress={"num_updates": 5})


def test_mean() -> None:
    states = [_state(a=torch.full((2,), float(value)), steps=torch.tensor(value)) for value in (1, 2, 6)]
    averaged = average_checkpoints((str(number), state) for number, state in enumerate(states))
    assert averaged.model["a"].tolist() == [3.0, 3.0]
    assert averaged.model["steps"].tolist() == 3
    assert averaged.optimizer is None
    assert averaged.config == {"n": 1}
    assert states[0].model["a"].tolist() == [1.0, 1.0]


def test_half_precision_is_summed_in_float32() -> None:
    states = [_state(a=torch.tensor([60000.0], dtype=torch.float16)) for _ in range(3)]
    averaged = average_checkpoints((str(number), state) for number, state in enumerate(states))
    assert averaged.model["a"].dtype == torch.float32
    assert averaged.model["a"].item() == 60000.0


def test_the_sum_is_exact_to_float32(tmp_path: Path) -> None:
    values = [16777216.0, 1.0, 1.0, 1.0]  # in float32 the ones would be lost
    averaged = average_checkpoints(("", _state(a=torch.tensor([value]))) for value in values)
    assert averaged.model["a"].dtype == torch.float32
    assert averaged.model["a"].item() == torch.tensor(16777219.0 / 4).item()
    double = average_checkpoints([("", _state(a=torch.tensor([1.0], dtype=torch.float64)))])
    assert double.model["a"].dtype == torch.float64


def test_different_models() -> None:
    one, other = _state(a=torch.zeros(2), b=torch.zeros(1)), _state(a=torch.zeros(2), c=torch.zeros(1))
    with pytest.raises(CheckpointError, match="two has c; only one has b"):
        average_checkpoints([("one", one), ("two", other)])
    with pytest.raises(CheckpointError, match=r"a is \[2\] in one and \[3\] in two"):
        average_checkpoints([("one", _state(a=torch.zeros(2))), ("two", _state(a=torch.zeros(3)))])
    with pytest.raises(CheckpointError, match="no checkpoints"):
        average_checkpoints([])


def test_last_checkpoints(tmp_path: Path) -> None:
    for name in ("checkpoint1.pt", "checkpoint2.pt", "checkpoint11.pt", "checkpoint_1_7.pt"):
        (tmp_path / name).write_bytes(b"")
    names = [path.name for path in last_checkpoints(tmp_path, 2, kind="epoch")]
    assert names == ["checkpoint11.pt", "checkpoint2.pt"]
    assert [path.name for path in last_checkpoints(tmp_path, 1, kind="epoch", upper_bound=10)] == ["checkpoint2.pt"]
    with pytest.raises(
        CheckpointError, match=r"holds 1 update checkpoints, not the 2 asked for \(checkpoint_1_7\.pt\)"
    ):
        last_checkpoints(tmp_path, 2, kind="update")
    with pytest.raises(CheckpointError, match="not a folder"):
        last_checkpoints(tmp_path / "nowhere", 2, kind="epoch")


def test_best_checkpoints(tmp_path: Path) -> None:
    for value in ("9.5000", "10.2501", "3.1000"):
        (tmp_path / f"checkpoint.best_loss_{value}.pt").write_bytes(b"")
    names = [path.name for path in best_of_folder(tmp_path, 2, maximize=lambda path: False)]
    assert names == ["checkpoint.best_loss_3.1000.pt", "checkpoint.best_loss_9.5000.pt"]
    names = [path.name for path in best_of_folder(tmp_path, 1, maximize=lambda path: True)]
    assert names == ["checkpoint.best_loss_10.2501.pt"]
    with pytest.raises(CheckpointError, match=r"holds 3 best checkpoints, not the 4 asked for .*keep_best_checkpoints"):
        best_of_folder(tmp_path, 4, maximize=lambda path: False)
    (tmp_path / "checkpoint.best_bleu_3.1000.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="best checkpoints by bleu and by loss; name the files"):
        best_of_folder(tmp_path, 1, maximize=lambda path: False)


def test_best_of_the_files_that_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"checkpoint.best_bleu_{value}.pt" for value in ("9.5000", "10.2501", "3.1000")]
    assert best_of_files(paths, 2, maximize=lambda path: False) == [paths[2], paths[0]]
    assert best_of_files(map(str, paths), 2, maximize=lambda path: True) == [paths[1], paths[0]]
    with pytest.raises(CheckpointError, match="names 3 checkpoints, not the 4 asked for"):
        best_of_files(paths, 4, maximize=lambda path: False)
    with pytest.raises(CheckpointError, match="ends in no figure to choose by"):
        best_of_files([tmp_path / "checkpoint_best.pt"], 1, maximize=lambda path: False)
