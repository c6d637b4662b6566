from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from seqkit.checkpoint import recovery
from seqkit.checkpoint.io import copy_checkpoint, read_checkpoint, write_checkpoint
from seqkit.checkpoint.recovery import read_or_recover
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import CheckpointError


def _save(folder: Path, name: str, num_updates: int) -> Path:
    state = CheckpointState(config={}, model={"a": torch.ones(50)}, progress={"num_updates": num_updates})
    write_checkpoint(folder / name, state)
    return folder / name


def _damage(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[whole.index(torch.ones(50).numpy().tobytes())] ^= 1
    path.write_bytes(whole)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_intact_file_is_read(tmp_path: Path) -> None:
    last = _save(tmp_path, "checkpoint_last.pt", 3)
    _save(tmp_path, "checkpoint_1_9.pt", 9)
    path, state = read_or_recover(last, read_checkpoint)
    assert (path, state.progress["num_updates"]) == (last, 3)


@pytest.mark.parametrize("links", [True, False])
def test_the_newest_intact_file_takes_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        _without_links(monkeypatch)
    _save(tmp_path, "checkpoint2.pt", 20)
    _save(tmp_path, "checkpoint_2_15.pt", 15)
    _save(tmp_path, "checkpoint_average.pt", 99)  # not one of training's own
    newest = _save(tmp_path, "checkpoint3.pt", 30)
    copy_checkpoint(newest, last := tmp_path / "checkpoint_last.pt")
    _damage(newest)
    last.write_bytes(last.read_bytes()[:-1000])
    with caplog.at_level(logging.WARNING):
        path, state = read_or_recover(last, read_checkpoint)
    assert path == tmp_path / "checkpoint2.pt"
    assert state.progress["num_updates"] == 20
    assert read_checkpoint(last).progress["num_updates"] == 20
    assert "GOING ON FROM AN EARLIER CHECKPOINT" in caplog.text
    assert "checkpoint2.pt, which has 20 updates" in caplog.text
    assert f"kept as {tmp_path / 'checkpoint_last.pt.damaged'}" in caplog.text
    assert _names(tmp_path) == [
        "checkpoint2.pt",
        "checkpoint3.pt.damaged",
        "checkpoint_2_15.pt",
        "checkpoint_average.pt",
        "checkpoint_last.pt",
        "checkpoint_last.pt.damaged",
    ]


def _without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("links", [True, False])
def test_killed_amid_it_the_name_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """Without it, the next run would begin from nothing."""
    if not links:
        _without_links(monkeypatch)
    _save(tmp_path, "checkpoint1.pt", 10)
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes(b"damaged")
    original, calls = recovery.copy_checkpoint, 0

    def killed(source: Path, target: Path) -> None:
        nonlocal calls
        assert last.exists()
        if target == last:
            calls += 1
            raise KeyboardInterrupt
        original(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(recovery, "copy_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            read_or_recover(last, read_checkpoint)
    assert calls == 1
    assert last.read_bytes() == b"damaged"
    assert read_or_recover(last, read_checkpoint)[1].progress["num_updates"] == 10


def test_a_damaged_file_for_whose_copy_there_is_no_room_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _save(tmp_path, "checkpoint1.pt", 10)
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes(b"damaged")

    def full(source: Path, target: Path) -> None:
        raise CheckpointError("no space left on the disk")

    monkeypatch.setattr(recovery, "copy_checkpoint", full)
    with caplog.at_level(logging.WARNING):
        assert read_or_recover(last, read_checkpoint)[0].name == "checkpoint1.pt"
    assert "could not be kept under another name: no space left on the disk" in caplog.text
    assert _names(tmp_path) == ["checkpoint1.pt", "checkpoint_last.pt"]
    assert last.read_bytes() == b"damaged"


def test_damaged_twice(tmp_path: Path) -> None:
    _save(tmp_path, "checkpoint1.pt", 10)
    last = tmp_path / "checkpoint_last.pt"
    for _ in range(2):
        last.unlink(missing_ok=True)  # the name alone: its bytes may be those of another checkpoint too
        last.write_bytes(b"")
        read_or_recover(last, read_checkpoint)
    assert _names(tmp_path)[-3:] == ["checkpoint_last.pt", "checkpoint_last.pt.damaged", "checkpoint_last.pt.damaged-2"]


def test_nothing_is_intact(tmp_path: Path) -> None:
    last = _save(tmp_path, "checkpoint_last.pt", 3)
    _damage(last)
    (tmp_path / "checkpoint_best.pt").write_bytes(b"x")
    before = _names(tmp_path)
    with pytest.raises(CheckpointError, match=r"is damaged.*; and .* has no other checkpoint that is intact\. Nothing"):
        read_or_recover(last, read_checkpoint)
    assert _names(tmp_path) == before


def test_a_file_that_is_refused_for_another_reason_is_not_replaced(tmp_path: Path) -> None:
    _save(tmp_path, "checkpoint1.pt", 10)
    last = tmp_path / "checkpoint_last.pt"
    torch.save({"format": "seqkit-checkpoint-9"}, last)
    with pytest.raises(CheckpointError, match="this version of seqkit reads"):
        read_or_recover(last, read_checkpoint)


def test_suffix(tmp_path: Path) -> None:
    _save(tmp_path, "checkpoint2.pt", 20)
    _save(tmp_path, "checkpoint1-a.pt", 10)
    last = tmp_path / "checkpoint_last-a.pt"
    last.write_bytes(b"")
    assert read_or_recover(last, read_checkpoint, "-a")[0].name == "checkpoint1-a.pt"
