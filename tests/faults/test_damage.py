"""The newest checkpoint truncated, or with bytes that are not what was written."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest


def _truncate(path: Path, rng: random.Random) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: rng.randrange(len(whole))])


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _copy(source: Path, target: Path) -> None:
    """Copy a folder; names of one file stay names of one file, so that damage to one is damage to all."""
    target.mkdir()
    copies: dict[int, Path] = {}
    for path in sorted(source.iterdir()):
        number = path.stat().st_ino
        if number in copies:
            os.link(copies[number], target / path.name)
        else:
            copies[number] = target / path.name
            copies[number].write_bytes(path.read_bytes())


@pytest.mark.parametrize(("damage", "name"), [(_truncate, "truncated"), (_flip, "one bit flipped")])
def test_newest_checkpoint(
    training: Any, goes_on_the_same: Any, survived: Any, rounds: int, damage: Any, name: str
) -> None:
    stopped = training("stopped", "checkpoint.keep_interval_updates=-1")
    stopped.start()
    stopped.wait_for_update(10)
    assert stopped.kill()
    for number in range(rounds):
        damaged = training(f"damaged-{number}", "checkpoint.keep_interval_updates=-1")
        _copy(stopped.save_dir, damaged.save_dir)
        last = damaged.save_dir / "checkpoint_last.pt"
        damage(last, random.Random(3000 + number))
        bytes_before = last.read_bytes()
        goes_on_the_same(damaged, intact=False)
        assert "GOING ON FROM AN EARLIER CHECKPOINT" in damaged.said()
        assert (damaged.save_dir / "checkpoint_last.pt.damaged").read_bytes() == bytes_before
        survived(f"newest checkpoint {name}")


def test_nothing_intact(training: Any, survived: Any) -> None:
    """Training does not begin anew behind one's back."""
    damaged = training("damaged", "optimization.max_update=1")
    assert damaged.run() == 0, damaged.said()
    for path in damaged.files():
        path.write_bytes(path.read_bytes()[:500])
    before = {path: path.read_bytes() for path in damaged.save_dir.iterdir()}
    assert damaged.run() == 2
    assert "no other checkpoint that is intact. Nothing was changed" in damaged.said()
    assert {path: path.read_bytes() for path in damaged.save_dir.iterdir()} == before
