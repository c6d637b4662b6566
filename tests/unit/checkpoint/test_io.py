from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.checkpoint import io as checkpoint_io
from seqkit.checkpoint.io import (
    WritingAbandonedError,
    checkpoint_progress,
    copy_checkpoint,
    is_checkpoint,
    read_checkpoint,
    remove_leftovers,
    require_writable,
    write_checkpoint,
)
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError, DamagedCheckpointError
from seqkit.interop.open_checkpoint import open_checkpoint


def _state() -> CheckpointState:
    weight = torch.arange(6.0).reshape(2, 3)
    return CheckpointState(
        config={"task": {"_name": "translation", "data": None}},
        model={"embed.weight": weight, "output.weight": weight},
        optimizer={"state": {0: {"step": 3, "exp_avg": torch.ones(2, dtype=torch.bfloat16)}}, "param_groups": []},
        progress={"num_updates": 3, "best": 1.5},
        extra={"betas": (0.9, 0.98)},
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_last.pt"
    write_checkpoint(path, _state())
    state = read_checkpoint(path)
    assert state.config == _state().config
    assert torch.equal(state.model["embed.weight"], _state().model["embed.weight"])
    assert state.model["embed.weight"].data_ptr() == state.model["output.weight"].data_ptr()
    assert state.optimizer is not None
    assert state.optimizer["state"][0]["exp_avg"].dtype == torch.bfloat16
    assert state.progress == {"num_updates": 3, "best": 1.5}
    assert state.extra == {"betas": (0.9, 0.98)}
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint_last.pt"]


def test_torch_opens_it_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.pt", _state())
    assert torch.load(tmp_path / "c.pt", weights_only=True)["format"] == "seqkit-checkpoint-1"


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint_best.pt", _state())
    with pytest.raises(CheckpointError, match=r"no such checkpoint: .*last\.pt; there are: checkpoint_best\.pt"):
        read_checkpoint(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="no folder"):
        read_checkpoint(tmp_path / "nowhere" / "last.pt")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_checkpoint(tmp_path)


def test_every_flipped_byte_of_a_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, _state())
    whole = path.read_bytes()
    # All of what ends the archive, and the checksum; of the rest a sample.
    for offset in [*range(0, len(whole) - 130, 61), *range(len(whole) - 130, len(whole))]:
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError, match=r"damaged|truncated"):
            read_checkpoint(path)
        with pytest.raises(DamagedCheckpointError):
            open_checkpoint(path)


def test_the_checksum_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, _state())
    whole = path.read_bytes()
    assert whole[-78:] == b"seqkit-sha256:" + hashlib.sha256(whole[:-78]).hexdigest().encode()
    with zipfile.ZipFile(path) as archive:
        assert archive.comment == whole[-78:]
        assert archive.testzip() is None


def test_a_file_without_checksum_is_checked_by_the_archives_own(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    content = {"format": "seqkit-checkpoint-1", "config": {}, "model": {"a": torch.arange(6.0)}}
    torch.save(content, path)
    assert read_checkpoint(path).model["a"].tolist() == [0, 1, 2, 3, 4, 5]
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(torch.arange(6.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedCheckpointError, match=r"the checksum of its record .* is wrong"):
        read_checkpoint(path)


def test_another_programs_file_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "fairseq.pt"
    torch.save({"args": None, "cfg": {}, "model": {"a": torch.arange(6.0)}}, path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(torch.arange(6.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedCheckpointError, match="the checksum of its record"):
        open_checkpoint(path)
    path.write_bytes(whole[:-30])
    with pytest.raises(DamagedCheckpointError, match="truncated or damaged"):
        open_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, _state())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DamagedCheckpointError, match=r"truncated|damaged"):
        read_checkpoint(path)
    with pytest.raises(DamagedCheckpointError, match=r"truncated|damaged"):
        open_checkpoint(path)


def test_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"model": {}, "args": None}, path)
    assert not is_checkpoint(path)
    with pytest.raises(CheckpointError, match="of another program"):
        read_checkpoint(path)
    torch.save({"format": "seqkit-checkpoint-9"}, path)
    assert is_checkpoint(path)
    with pytest.raises(CheckpointError, match="'seqkit-checkpoint-9'; this version of seqkit reads 'seqkit-checkpoint"):
        read_checkpoint(path)
    torch.save({"format": "seqkit-checkpoint-1", "config": {}}, path)
    with pytest.raises(CheckpointError, match="is incomplete: it has no model"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "world")
    assert not is_checkpoint(path)
    with pytest.raises(CheckpointError, match="not a seqkit checkpoint"):
        read_checkpoint(path)


class _Code:
    def __reduce__(self) -> Any:
        return (os.system, ("true",))


def test_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"format": "seqkit-checkpoint-1", "config": {}, "model": {}, "extra": _Code()}, path)
    with pytest.raises(CheckpointError, match="is damaged or not a seqkit checkpoint"):
        read_checkpoint(path)


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    state = _state()
    state.extra["model"] = {"path": Path("x")}
    with pytest.raises(TypeError, match=r"state\['extra'\]\['model'\]\['path'\] is a PosixPath"):
        write_checkpoint(tmp_path / "c.pt", state)
    assert list(tmp_path.iterdir()) == []


class _FullDisk(io.BytesIO):
    """A file on a disk with room for 200 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 200:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint_last.pt"
    write_checkpoint(path, _state())
    before = path.read_bytes()
    real_open = open

    def open_on_full_disk(file: Any, mode: str = "r", **kwargs: Any) -> Any:
        if "w" in mode:
            real_open(file, mode).close()
            return _FullDisk()
        return real_open(file, mode, **kwargs)

    monkeypatch.setattr("builtins.open", open_on_full_disk)
    with pytest.raises(CheckpointError) as error:
        write_checkpoint(path, _state())
    monkeypatch.undo()
    assert str(error.value).startswith(f"no space left on the disk of {tmp_path} while writing checkpoint_last.pt")
    assert error.value.exit_code == 2
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["checkpoint_last.pt"]


def test_copies_are_whole_and_replaceable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "checkpoint1.pt", tmp_path / "checkpoint_last.pt"
    write_checkpoint(first, _state())
    copy_checkpoint(first, second)
    copy_checkpoint(first, second)
    assert read_checkpoint(second).progress == _state().progress
    other = _state()
    other.progress["num_updates"] = 4
    write_checkpoint(second, other)
    assert read_checkpoint(first).progress["num_updates"] == 3

    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(checkpoint_io.os, "link", no_links)
    copy_checkpoint(first, tmp_path / "copy.pt")
    assert (tmp_path / "copy.pt").read_bytes() == first.read_bytes()
    assert len(list(tmp_path.iterdir())) == 3


def test_an_abandoned_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    write_checkpoint(path, _state())
    before = path.read_bytes()
    asked = iter([False, False, True])
    with pytest.raises(WritingAbandonedError):
        write_checkpoint(path, _state(), abandoned=lambda: next(asked))
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["c.pt"]


def test_progress_is_read_without_the_tensors(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.pt", _state())
    assert checkpoint_progress(tmp_path / "c.pt") == {"num_updates": 3, "best": 1.5}


def test_leftovers_of_killed_processes(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", "pass"])
    killed.wait()
    names = [f".checkpoint_last.pt.{process}.tmp" for process in (killed.pid, os.getppid(), "x")]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    assert remove_leftovers(tmp_path) == []  # it may be another machine's
    assert remove_leftovers(tmp_path, older_than=0.0) == [names[0]]
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted(names[1:])


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"checkpoint\.save_dir=.*file/x cannot be written"):
        require_writable(tmp_path / "file" / "x")


@pytest.mark.parametrize("content", [b"", b"\x80", b"hello\n", bytes(range(256)) * 4])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_checkpoint(path)
