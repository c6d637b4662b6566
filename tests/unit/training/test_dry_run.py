"""A training on trial."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.config.root import RootConfig
from seqkit.distributed.communication import SingleProcess
from seqkit.errors import CheckpointError, ConfigError, MissingExtraError, UserError
from seqkit.training.dry_run import SavedForBackward, dry_run
from seqkit.training.step import DivergedError
from tests.unit.training.toy import run, toy_config


def tried(config: RootConfig) -> str:
    told: list[str] = []
    dry_run(config, SingleProcess(), tell=told.append)
    return "\n".join(told)


def test_the_report(tmp_path: Path) -> None:
    common = {"tensorboard_logdir": str(tmp_path / "tb"), "log_file": str(tmp_path / "log"), "profile": True}
    config = toy_config(tmp_path, common=common, optimization={"update_freq": [2]})
    text = tried(config)
    assert not list(tmp_path.iterdir()), "nothing is written"
    assert config.checkpoint.no_save is False, "the config is left as it is"
    lines = [line.split() for line in text.splitlines()]
    assert ["train", "50", "0", "0"] in [line[:4] for line in lines]
    assert ["valid", "9", "0", "0"] in [line[:4] for line in lines]
    for words in (["weights"], ["gradients"], ["optimizer", "state"], ["activations", "of", "the", "largest", "batch"]):
        assert any(line[: len(words)] == words for line in lines), words
    (first,) = [line for line in lines if line[:1] == ["first"]]
    assert first[2:4] == ["and", "1"], "an update of two batches"
    assert any(line[:2] == ["largest", "batch"] for line in lines)
    assert "one batch of valid: loss " in text
    assert text.endswith("Without --dry-run, training would begin.")


def test_of_a_run_that_was_begun(tmp_path: Path) -> None:
    config = toy_config(tmp_path, optimization={"max_update": 3})
    run(config)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    assert "training would go on after update 3." in tried(toy_config(tmp_path))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.pt")} == before


def test_workers_and_no_validation(tmp_path: Path) -> None:
    text = tried(toy_config(tmp_path, dataset={"num_workers": 1, "disable_validation": True}))
    assert "Validation" not in text


@pytest.mark.parametrize(
    ("sections", "error", "text"),
    [
        ({"dataset": {"max_tokens": None}}, ConfigError, "dataset.max_tokens"),
        ({"checkpoint": {"save_dir": "FILE/x"}}, CheckpointError, "is not a folder"),
        ({"common": {"tensorboard_logdir": "FILE/x"}}, UserError, "common.tensorboard_logdir="),
        ({"common": {"log_file": "FOLDER/none/x"}}, UserError, "common.log_file=.*cannot be written: No such file"),
        ({"checkpoint": {"best_checkpoint_metric": "los"}}, ConfigError, "did you mean 'loss'"),
        ({"checkpoint": {"restore_file": "none.pt"}}, CheckpointError, "none.pt does not exist"),
        ({"criterion": {"explode_at": 1}}, DivergedError, "the loss is nan"),
    ],
)
def test_what_would_stop_a_training_stops_the_trial(
    tmp_path: Path, sections: dict[str, dict[str, Any]], error: type[Exception], text: str
) -> None:
    (tmp_path / "file").write_text("")
    for section in sections.values():
        for name, value in section.items():
            if isinstance(value, str):
                section[name] = value.replace("FILE", str(tmp_path / "file")).replace("FOLDER", str(tmp_path))
    with pytest.raises(error, match=text):
        tried(toy_config(tmp_path, **sections))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match="wandb"):
        tried(toy_config(tmp_path, common={"wandb_project": "p"}))


def test_what_backward_needs_is_counted_once_and_until_it_is_freed() -> None:
    weight = torch.ones(100, 100, requires_grad=True)
    values = torch.ones(50, 100)
    with SavedForBackward([weight]) as kept:
        hidden = values @ weight  # keeps values; weight is a parameter
        out = hidden.sigmoid()  # keeps its result
        double = out * out  # keeps the same result, twice
        double.sum().backward()
        again = (values @ weight).sum()
    assert kept.peak == 2 * 50 * 100 * 4
    again.backward()
    assert weight.grad is not None


def test_a_storage_that_is_given_up_while_autograd_keeps_its_tensor_counts_until_then() -> None:
    with SavedForBackward([]) as kept:
        for _ in range(2):
            gathered = torch.ones(10, 10)
            out = (gathered * torch.ones(10, 10, requires_grad=True)).sum()
            gathered.untyped_storage().resize_(0)  # as `fully_shard` does after a forward pass
            del out
    assert kept.peak == 10 * 10 * 4
