"""A disk that fills up, and a folder that cannot be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqkit.checkpoint.io import read_checkpoint


def _mount(*arguments: str) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory with room for a few checkpoints."""
    place = tmp_path / "disk"
    place.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)):
        pytest.skip("a small disk cannot be mounted here (that needs root)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_full_disk(small_disk: Path, training: Any, goes_on_the_same: Any, survived: Any, rounds: int) -> None:
    everything = ("checkpoint.keep_interval_updates=-1",)
    for number in range(max(1, rounds // 10)):
        full = training("full", *everything, folder=small_disk / str(number))
        # Room for two or three saves, and another time for a little more or less.
        taken = small_disk / "taken"
        size = os.statvfs(small_disk)
        with open(taken, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size.f_bavail * size.f_frsize - 7_000_000 - 700_000 * (number % 4))
        assert full.run() == 2, full.said()
        assert "no space left on the disk of" in full.said()
        assert "Traceback" not in full.said()
        assert full.half_written() == []
        assert full.files()
        for path in full.files():
            read_checkpoint(path)
        taken.unlink()
        goes_on_the_same(full)
        survived("disk full")
        shutil.rmtree(full.folder)


def test_read_only_folder(tmp_path: Path, training: Any) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=1m,ro", "tmpfs", str(place)):
        pytest.skip("a read-only file system cannot be mounted here (that needs root)")
    try:
        refused = training("refused", f"checkpoint.save_dir={place / 'checkpoints'}")
        assert refused.run() == 2
        assert "cannot be written (Read-only file system)" in refused.said()
        assert "Traceback" not in refused.said()
        assert refused.updates_logged() == 0  # told before training, not after hours of it
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
