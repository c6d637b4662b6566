from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.io import write_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError
from seqkit.interop.open_checkpoint import open_checkpoint, open_parts


def _save(path: Path, **weights: torch.Tensor) -> None:
    write_checkpoint(path, CheckpointState(config={"name": path.name}, model=dict(weights)))


def test_suffix(tmp_path: Path) -> None:
    _save(tmp_path / "c-a.pt", a=torch.ones(1))
    assert open_parts(tmp_path / "c.pt", suffix="-a").config == {"name": "c-a.pt"}
    with pytest.raises(CheckpointError, match=r"no such checkpoint: .*c-b\.pt"):
        open_parts(tmp_path / "c.pt", suffix="-b")


def test_parts_are_put_together(tmp_path: Path) -> None:
    _save(tmp_path / "c_part0.pt", a=torch.ones(1), shared=torch.zeros(2))
    _save(tmp_path / "c_part1.pt", b=torch.ones(3), shared=torch.zeros(2))
    state = open_parts(tmp_path / "c.pt", shard_count=2)
    assert set(state.model) == {"a", "b", "shared"}
    assert state.config == {"name": "c_part0.pt"}
    with pytest.raises(CheckpointError, match=r"checkpoint_shard_count=3, but there is no .*c_part2\.pt"):
        open_parts(tmp_path / "c.pt", shard_count=3)
    _save(tmp_path / "c_part1.pt", b=torch.ones(3), shared=torch.ones(2))
    with pytest.raises(CheckpointError, match=r"shared in .*c_part1\.pt is not what it is in an earlier part"):
        open_parts(tmp_path / "c.pt", shard_count=2)


def test_fairscales_shards_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "c-shard0.pt", flat_param_0=torch.ones(1))
    with pytest.raises(CheckpointError, match=r"c-shard0\.pt is a shard of fairseq's FullyShardedDataParallel"):
        open_parts(tmp_path / "c.pt", shard_count=2)


def test_other_files(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="is neither a seqkit nor a fairseq checkpoint"):
        open_checkpoint(tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        open_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        open_checkpoint(tmp_path)
