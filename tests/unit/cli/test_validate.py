"""`seqkit-validate` on a tiny language model whose positions are learned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit_cli import validate
from tests.unit.cli.test_eval_lm import LINES, POSITIONS, Letters, expected_loss, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("validate")
    write(place)
    Letters().target_dictionary.save(place / "dict.txt")
    (place / "valid").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return place


def run(folder: Path, *more: str) -> int:
    common = ["common.cpu=true", "common.log_format=simple", "dataset.num_workers=0", "dataset.batch_size=4"]
    return validate.main([f"common_eval.path={folder}/a.pt", *common, *more])


@pytest.mark.parametrize("length", [POSITIONS, 4, 1])
def test_text_may_be_cut_shorter_than_in_training(
    folder: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, f"task.tokens_per_sample={length}") == 0
    found = re.search(r"loss ([\d.]+)", capsys.readouterr().out)
    assert found
    assert float(found[1]) == pytest.approx(expected_loss(length, 0), abs=1e-3)


def test_a_block_longer_than_the_model_takes_is_one_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, f"task.tokens_per_sample={POSITIONS + 1}") == 2
    assert f"task.tokens_per_sample={POSITIONS + 1} is more than the {POSITIONS} positions" in capsys.readouterr().err


def test_another_dictionary_of_the_same_size_is_one_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = read_checkpoint(folder / "a.pt")
    digest = Letters("edcba").target_dictionary.digest()
    state.task = {"dictionaries": {"source": digest, "target": digest}}
    write_checkpoint(tmp_path / "other.pt", state)
    assert run(folder, f"common_eval.path={tmp_path}/other.pt") == 2
    error = capsys.readouterr().err
    assert "other.pt was trained with other words" in error
    assert "the source dictionary (9 symbols) and the target dictionary (9 symbols)" in error
