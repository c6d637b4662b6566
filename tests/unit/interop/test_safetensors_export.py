from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError, DamagedCheckpointError, MissingExtraError
from seqkit.interop.open_checkpoint import open_checkpoint
from seqkit.interop.safetensors_export import export_safetensors, is_safetensors

safetensors = pytest.importorskip("safetensors")


def _state() -> CheckpointState:
    tied = torch.arange(6.0).reshape(2, 3)
    flat = torch.arange(4.0)
    return CheckpointState(
        config={"model": {"_name": "transformer", "dropout": 0.1}},
        model={
            "embed": tied,
            "output": tied,
            "turned": tied.t(),
            "part": flat[:2],
            "other_part": flat[1:],
            "half": torch.ones(3, dtype=torch.bfloat16),
            "steps": torch.tensor(7),
            "none": torch.empty(0),
            "none_too": torch.empty(0),
        },
        optimizer={"state": {}},
        progress={"num_updates": 12},
    )


def test_the_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    export_safetensors(_state(), path, metadata={"licence": "MIT"})
    assert [item.name for item in tmp_path.iterdir()] == ["model.safetensors"]
    with safetensors.safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert metadata["format"] == "pt"
    assert metadata["licence"] == "MIT"
    assert json.loads(metadata["config"]) == _state().config
    assert json.loads(metadata["shared"]) == {"output": "embed"}
    for name, tensor in tensors.items():
        assert tensor.dtype == _state().model[name].dtype
        assert torch.equal(tensor, _state().model[name])
    assert set(tensors) | {"output"} == set(_state().model)


def test_seqkit_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    export_safetensors(_state(), path)
    state = open_checkpoint(path)
    assert state.config == _state().config
    assert state.progress == {"num_updates": 12}
    assert state.optimizer is None
    assert set(state.model) == set(_state().model)
    assert state.model["output"] is state.model["embed"]


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"a": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="was not written by seqkit"):
        open_checkpoint(path)
    export_safetensors(_state(), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DamagedCheckpointError, match="is damaged or no safetensors file"):
        open_checkpoint(path)
    path.write_bytes(b"short")
    assert not is_safetensors(path)
    assert not is_safetensors(tmp_path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'safetensors'.*pip install 'seqkit\[export\]'"):
        export_safetensors(_state(), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write the checkpoint .*No such file"):
        export_safetensors(_state(), tmp_path / "nowhere" / "model.safetensors")
