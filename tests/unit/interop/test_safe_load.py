import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from seqkit.errors import CheckpointError
from seqkit.interop.safe_load import safe_load, trusting_load


class CreatesFile:
    """Unpickled without restrictions, it would create the file it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_refused_named_and_not_run(tmp_path: Path, zipped: bool) -> None:
    made = tmp_path / "made"
    file = tmp_path / "evil.pt"
    torch.save({"args": CreatesFile(made), "model": {}}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"type '\w+\.open'.*nothing in the file was run"):
        safe_load(file)
    assert not made.exists()


def test_namespaces_tensors_and_numpy_scalars_load(tmp_path: Path) -> None:
    file = tmp_path / "old.pt"
    torch.save({"args": argparse.Namespace(arch="transformer"), "best": np.float64(2.5), "w": torch.ones(2)}, file)
    content = safe_load(file)
    assert content["args"].arch == "transformer"
    assert content["best"] == 2.5
    assert content["w"].tolist() == [1, 1]


def test_damaged_missing_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt"
    torch.save({"model": {"w": torch.zeros(1000)}}, whole)
    (tmp_path / "half.pt").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").touch()
    for name in ("half.pt", "text.pt", "empty.pt"):
        with pytest.raises(CheckpointError, match="not a checkpoint, or is damaged"):
            safe_load(tmp_path / name)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        safe_load(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        safe_load(tmp_path)


def test_trusting_load_warns(tmp_path: Path) -> None:
    file = tmp_path / "old.pt"
    torch.save({"model": {}}, file)
    with pytest.warns(UserWarning, match="without restrictions"):
        assert trusting_load(file) == {"model": {}}


def test_trusting_load_tells_a_missing_file_as_well(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        trusting_load(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        trusting_load(tmp_path)
