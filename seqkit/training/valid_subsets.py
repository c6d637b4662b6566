"""Validation splits on the disk that nobody asked for: a corpus of several is easily validated on one of them only.

Knows file names; nothing of what is in the files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from seqkit.config.sections import DatasetConfig
from seqkit.errors import ConfigError

_NUMBERED = re.compile(r"valid\d+")


def refuse_unused_valid_subsets(config: DatasetConfig, folders: Iterable[Path]) -> None:
    """Make sure that `valid1`, `valid2`, … are used where they are there, or are left out on purpose.

    Args:
        config: the section `dataset`.
        folders: where the task's data are.

    Raises:
        ConfigError: there are such splits, and `valid_subset` does not name them.
    """
    if config.ignore_unused_valid_subsets or config.combine_valid_subsets or config.disable_validation:
        return
    found = {path.name.partition(".")[0] for folder in folders if folder.is_dir() for path in folder.iterdir()} - {
        name.strip() for name in config.valid_subset.split(",")
    }
    unused = sorted((name for name in found if _NUMBERED.fullmatch(name)), key=lambda name: int(name[len("valid") :]))
    if unused:
        raise ConfigError(
            f"the data have validation splits that dataset.valid_subset={config.valid_subset} does not name: "
            f"{', '.join(unused)}; name them ({','.join([config.valid_subset, *unused])}), validate on all of them as "
            "one (dataset.combine_valid_subsets=true), or leave them out (dataset.ignore_unused_valid_subsets=true)"
        )
