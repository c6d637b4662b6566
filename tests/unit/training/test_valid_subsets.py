"""`dataset.ignore_unused_valid_subsets`, as in fairseq."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqkit.config.sections import DatasetConfig
from seqkit.errors import ConfigError
from seqkit.training.valid_subsets import refuse_unused_valid_subsets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train", "valid", "valid1", "valid2", "valid10", "valid_other", "test1"):
        for ending in ("idx", "bin"):
            (tmp_path / f"{name}.de-en.de.{ending}").touch()
    (tmp_path / "valid3").touch()
    return tmp_path


def check(folders: list[Path], **options: Any) -> None:
    config = DatasetConfig()
    for name, value in options.items():
        setattr(config, name, value)
    refuse_unused_valid_subsets(config, folders)


def test_splits_that_nobody_named(folder: Path) -> None:
    with pytest.raises(ConfigError) as error:
        check([folder])
    assert str(error.value) == (
        "the data have validation splits that dataset.valid_subset=valid does not name: valid1, valid2, valid3, "
        "valid10; name them (valid,valid1,valid2,valid3,valid10), validate on all of them as one "
        "(dataset.combine_valid_subsets=true), or leave them out (dataset.ignore_unused_valid_subsets=true)"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_unused_valid_subsets": True},
        {"combine_valid_subsets": True},
        {"disable_validation": True},
        {"valid_subset": "valid, valid1,valid2,valid3,valid10"},
    ],
)
def test_splits_left_out_or_used(folder: Path, options: dict[str, Any]) -> None:
    check([folder], **options)


def test_every_folder_is_looked_at(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    check([])
    check([empty, tmp_path / "missing"])
    with pytest.raises(ConfigError, match="valid10"):
        check([empty, folder], valid_subset="valid,valid1,valid2,valid3")
