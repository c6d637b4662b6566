"""Starting from checkpoints of which only a part fits, and from damaged ones."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.errors import CheckpointError, DamagedCheckpointError
from tests.unit.training.toy import assert_same_state, run, toy_config


def _trained(folder: Path) -> str:
    run(toy_config(folder, optimization={"max_epoch": 1}))
    return str(folder / "checkpoints/checkpoint_last.pt")


def test_what_does_not_fit_is_listed_with_the_way_to_allow_it(tmp_path: Path) -> None:
    path = _trained(tmp_path / "first")
    for how in ("finetune_from_model", "restore_file"):
        config = toy_config(tmp_path / how, checkpoint={how: path}, task={"vocabulary": 16})
        with pytest.raises(CheckpointError) as error:
            run(config)
        assert "embed_tokens.weight: [12, 8] in the checkpoint, [16, 8] in the model" in str(error.value)
        assert "set checkpoint.allow_partial=true" in str(error.value)


def test_what_fits_is_taken_and_the_rest_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _trained(tmp_path / "first")
    state = read_checkpoint(path)
    state.model["old.weight"] = torch.ones(1)
    del state.model["hidden.bias"]
    write_checkpoint(path, state)
    config = toy_config(
        tmp_path / "second",
        checkpoint={"finetune_from_model": path, "allow_partial": True},
        task={"vocabulary": 16},
        ema={"store_ema": True},
        common={"bf16": True},
    )
    with caplog.at_level(logging.INFO):
        trainer, _, _ = run(config, stop_after=1)  # the first update's rate is 0
    found = trainer.checkpoint_state()
    assert torch.equal(found.model["hidden.weight"], state.model["hidden.weight"])
    assert found.model["embed_tokens.weight"].shape == (16, 8)
    assert "1 of its 4 tensors, 1 of the checkpoint left over" in caplog.text
    assert "only the model has: hidden.bias" in caplog.text
    assert "only the checkpoint has: old.weight" in caplog.text
    assert "embed_tokens.weight: [12, 8] in the checkpoint, [16, 8] in the model" in caplog.text


def test_a_partly_restored_run_has_a_fresh_optimizer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _trained(tmp_path / "first")
    config = toy_config(
        tmp_path / "second", checkpoint={"restore_file": path, "allow_partial": True}, task={"vocabulary": 16}
    )
    with caplog.at_level(logging.WARNING):
        _, recorded, _ = run(config, stop_after=1)
    assert recorded.updates[0].num_updates == 1
    assert "the optimizer, the rate's schedule and the count of updates begin anew" in caplog.text


def test_allowing_it_changes_nothing_where_all_fits(tmp_path: Path) -> None:
    whole, _, _ = run(toy_config(tmp_path / "whole"))
    config = toy_config(tmp_path / "parts", checkpoint={"allow_partial": True})
    run(config, stop_after=7)
    resumed, _, _ = run(config)
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())


def test_nothing_fits(tmp_path: Path) -> None:
    path = _trained(tmp_path / "first")
    config = toy_config(
        tmp_path / "second", checkpoint={"finetune_from_model": path, "allow_partial": True}, model={"width": 4}
    )
    with pytest.raises(CheckpointError, match="do not fit the model"):
        run(config)


def test_a_damaged_last_checkpoint_is_replaced_by_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _, _ = run(toy_config(tmp_path / "whole"))
    config = toy_config(tmp_path / "parts")
    run(config, stop_after=23)
    last = tmp_path / "parts/checkpoints/checkpoint_last.pt"
    damaged = last.read_bytes()[:-200]
    last.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        resumed, recorded, _ = run(config)
    assert "GOING ON FROM AN EARLIER CHECKPOINT" in caplog.text
    assert recorded.updates[0].num_updates == 21
    assert (last.parent / "checkpoint_last.pt.damaged").read_bytes() == damaged
    assert_same_state(resumed.checkpoint_state(), whole.checkpoint_state())


def test_a_damaged_file_that_was_named_is_refused(tmp_path: Path) -> None:
    _trained(tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / "mine.pt").write_bytes((folder / "checkpoint_last.pt").read_bytes()[:-200])
    for options in ({"restore_file": "mine.pt"}, {"finetune_from_model": str(folder / "mine.pt")}):
        save_dir = str(folder) if "restore_file" in options else str(tmp_path / "new")
        with pytest.raises(DamagedCheckpointError, match=r"mine\.pt is not a checkpoint, or is truncated"):
            run(toy_config(tmp_path, checkpoint={"save_dir": save_dir, **options}))
    assert not list(folder.glob("*.damaged"))
