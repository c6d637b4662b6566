"""The one family of errors, and the words in which they are told.

A `UserError` is a mistake of the person at the keyboard: commands print its text alone and exit with 2.
Anything else is a fault of seqkit or of the machine: it keeps its traceback and exits with 1.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class SeqkitError(Exception):
    """Base of all errors that seqkit raises on purpose."""

    exit_code = 1


class UserError(SeqkitError):
    """The user's mistake: what is wrong, the value given, what would be right."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot be used. Carries every problem found, not just the first."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        if len(self.problems) == 1:
            text = self.problems[0]
        else:
            lines = "\n".join(f"  - {problem}" for problem in self.problems)
            text = f"{len(self.problems)} problems in the configuration:\n{lines}"
        super().__init__(text)


class DataError(UserError):
    """Input data that is missing, damaged, or does not fit."""


class CheckpointError(UserError):
    """A checkpoint that cannot be read, or does not fit the model, data or command it is used with."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint file whose bytes are not those that were written: cut off, or changed."""


class UnknownNameError(UserError):
    """A component name that no registry holds."""


class DuplicateNameError(SeqkitError):
    """One name registered from two places."""


class MissingExtraError(UserError):
    """An optional dependency that is not installed."""


def near_matches(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names in `known` that look most like `name`, best first."""
    by_folded = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    folded = name.lower().replace("-", "_")
    return [by_folded[match] for match in difflib.get_close_matches(folded, by_folded, n=most, cutoff=0.6)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'adam'?"`, or the empty string where nothing is near."""
    matches = near_matches(name, known)
    if not matches:
        return ""
    return "; did you mean " + " or ".join(repr(match) for match in matches) + "?"


def require_extra(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: name to import.
        extra: the extra of `setup.py` that brings it.
        purpose: what needs it, as the user knows it (`"tokenizer=moses"`).

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs the package {module.split('.')[0]!r}, which is not installed; "
            f"install it with: pip install 'seqkit[{extra}]'"
        ) from error
