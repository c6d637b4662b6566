"""Finds the recorded cases of the real fairseq and hands each to the adapter of its area.

Knows no case by name and no expected value: both come from each case's `case.json` and arrays.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def parity_folder() -> Path:
    """The folder of recorded results: `SEQKIT_PARITY`, or `../shared/parity` beside the repository."""
    return Path(os.environ.get("SEQKIT_PARITY") or REPOSITORY.parent / "shared" / "parity").resolve()


@dataclass
class Case:
    """One recorded case: its folder, its `case.json`, and a scratch folder."""

    folder: Path
    label: str
    tmp: Path = field(default=Path())

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def area_folder(self) -> Path:
        """The folder that most recorded flags are relative to."""
        return self.folder.parent

    @cached_property
    def spec(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / "case.json").read_text(encoding="utf-8"))
        return loaded

    @property
    def area(self) -> str:
        """The adapter's name: the area, `speech_<area>` for the speech set."""
        area = str(self.spec.get("area", self.area_folder.name))
        return f"speech_{area}" if self.area_folder.parent.name == "speech" else area

    @property
    def informational(self) -> bool:
        """Reported, not asserted."""
        return bool(self.spec.get("informational", False))

    def not_built(self, reason: str) -> NoReturn:
        """Stop: this case is of a later issue. It counts as an expected failure."""
        pytest.xfail(reason)

    def adapter(self) -> Callable[[Case], None] | None:
        """The `run` function of `areas/<area>.py`, None where no adapter is written."""
        module = f"tests.parity.areas.{self.area}"
        if importlib.util.find_spec(module) is None:
            return None
        run: Callable[[Case], None] = importlib.import_module(module).run
        return run


def find_cases(root: Path) -> list[Case]:
    """All cases below `root`, whatever its depth: a set, an area, or the folder that holds the sets."""
    return [Case(path.parent, path.parent.relative_to(root).as_posix()) for path in sorted(root.glob("**/case.json"))]


def separated(flags: list[str]) -> list[str]:
    """Recorded flags with each value behind its flag: `--beam=5` is `--beam 5`."""
    return [part for flag in flags for part in (flag.split("=", 1) if flag.startswith("--") else [flag])]
