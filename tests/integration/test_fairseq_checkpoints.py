"""One run's checkpoint in the layouts of fairseq's generations: translations are the same, and training goes on."""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from seqkit.checkpoint.io import read_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit_cli.convert import main as convert
from seqkit_cli.generate import main as generate
from seqkit_cli.preprocess import main as preprocess
from seqkit_cli.train import main as train

Content = dict[str, Any]

TRAIN = (
    "bin --arch transformer --share-all-embeddings --encoder-normalize-before --encoder-embed-dim 16 "
    "--decoder-embed-dim 16 --encoder-ffn-embed-dim 32 --decoder-ffn-embed-dim 32 --encoder-layers 2 "
    "--decoder-layers 1 --encoder-attention-heads 2 --decoder-attention-heads 2 --optimizer adam "
    "--adam-betas '(0.9, 0.98)' --lr 5e-3 --lr-scheduler inverse_sqrt --warmup-updates 4 --dropout 0.1 "
    "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --max-tokens 60 --cpu --num-workers 0 "
    "--no-epoch-checkpoints --no-progress-bar --disable-validation "
)
UPDATES = 12
"""So many updates are the whole run. The checkpoint is from the middle of its second epoch."""
SAVED = 7


def run(main: Callable[[list[str]], int], line: str) -> int:
    return main(shlex.split(line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with `bin/`, the checkpoint `half/checkpoint_last.pt`, and `whole/` of the run to its end."""
    folder = tmp_path_factory.mktemp("work")
    rng = random.Random(2)
    for split, count in (("train", 60), ("valid", 6), ("test", 6)):
        lines = [" ".join(rng.choice("abcdefgh") for _ in range(rng.randint(2, 9))) for _ in range(count)]
        (folder / f"{split}.de").write_text("".join(f"{line}\n" for line in lines))
        (folder / f"{split}.en").write_text("".join(f"{line[::-1]}\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pair = "--source-lang de --target-lang en --trainpref train --validpref valid --testpref test"
        assert run(preprocess, f"{pair} --destdir bin --joined-dictionary --workers 1") == 0
        assert run(train, f"{TRAIN} --max-update {SAVED} --save-dir half") == 0
        line = f"{TRAIN} --max-update {UPDATES} --restore-file half/checkpoint_last.pt --save-dir whole"
        assert run(train, line) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture
def _fairseq_meters() -> Iterator[None]:
    module = ModuleType("fairseq.meters")
    for name in ("AverageMeter", "StopwatchMeter"):
        setattr(module, name, type(name, (), {"__module__": "fairseq.meters"}))
    sys.modules |= {"fairseq": ModuleType("fairseq"), "fairseq.meters": module}
    yield
    del sys.modules["fairseq"], sys.modules["fairseq.meters"]


def distinct(model: dict[str, Tensor]) -> list[str]:
    """Names of parameters, as fairseq's optimizers number them."""
    first: dict[int, str] = {}
    for name, tensor in model.items():
        first.setdefault(tensor.data_ptr(), name)
    return list(first.values())


def as_of_0_12(state: CheckpointState) -> Content:
    """What the last version writes."""
    (group,) = state.optimizer["param_groups"]  # type: ignore[index]
    number_of = dict(zip(group["param_names"], group["params"], strict=True))
    kept = {key: value for key, value in group.items() if key != "param_names"}
    names = distinct(state.model)
    assert set(names) == set(number_of)
    optimizer = {
        "state": {new: state.optimizer["state"][number_of[name]] for new, name in enumerate(names)},  # type: ignore[index]
        "param_groups": [{**kept, "params": list(range(len(names)))}],
    }
    position = {key: state.iterator[key] for key in ("version", "epoch", "iterations_in_epoch", "shuffle")}
    history = {
        "criterion_name": "LabelSmoothedCrossEntropyCriterion",
        "optimizer_name": "FairseqAdam",
        "lr_scheduler_state": state.lr_scheduler,
        "num_updates": state.progress["num_updates"],
    }
    versions = {f"{side}.version": torch.tensor([3.0]) for side in ("encoder", "decoder")}
    tables = {f"{side}.embed_positions._float_tensor": torch.zeros(1) for side in ("encoder", "decoder")}
    return {
        "args": None,
        "cfg": {section: value for section, value in state.config.items() if value is not None},
        "model": versions | tables | state.model,
        "criterion": None,
        "optimizer_history": [history],
        "last_optimizer_state": optimizer,
        "task_state": {},
        "extra_state": {"metrics": {}, "previous_training_time": 1.5, "train_iterator": position, "val_loss": None},
    }


def as_of_0_10(content: Content) -> Content:
    """A config of OmegaConf's; what was tied on the GPU written twice."""
    model = {name: tensor.clone() for name, tensor in content["model"].items()}
    return content | {"cfg": OmegaConf.create(content["cfg"]), "model": model}


def trained_in_fp16(content: Content) -> Content:
    """State of one vector of all parameters, and a loss scale."""
    optimizer = content["last_optimizer_state"]
    states = [optimizer["state"][number] for number in optimizer["param_groups"][0]["params"]]
    vectors = {key: torch.cat([state[key].flatten() for state in states]) for key in ("exp_avg", "exp_avg_sq")}
    groups = [{**optimizer["param_groups"][0], "params": [0]}]
    flat = {"state": {0: {"step": states[0]["step"], **vectors}}, "param_groups": groups, "loss_scale": 8.0}
    return content | {"last_optimizer_state": flat}


def namespace(config: dict[str, Any]) -> argparse.Namespace:
    """All flags in one."""
    flat: dict[str, Any] = {}
    for section, values in config.items():
        if isinstance(values, dict):
            flat |= {key: value for key, value in values.items() if key != "_name" and value is not None}
            if "_name" in values:
                flat["arch" if section == "model" else section] = values["_name"]
    return argparse.Namespace(**flat)


def as_of_0_8(content: Content) -> Content:
    """Packed projections, numbered norms, flags, meters that are objects, no version of the iterator's state."""
    model, optimizer = content["model"], content["last_optimizer_state"]
    states = dict(zip(distinct_parameters(model), optimizer["state"].values(), strict=True))
    old_model: dict[str, Tensor] = {}
    old_states: dict[int, Any] = {}
    packed: dict[str, list[str]] = {}
    for name in model:
        for part in ("q_proj", "k_proj", "v_proj"):
            if f".{part}." in name:
                packed.setdefault(name.replace(f".{part}.", ".in_proj_"), []).append(name)
    norms = {"self_attn_layer_norm": 0, "encoder_attn_layer_norm": 1}

    def old_name(name: str) -> str:
        for new, number in norms.items():
            name = name.replace(f".{new}.", f".layer_norms.{number}.")
        last = 2 if name.startswith("decoder") else 1
        return name.replace(".final_layer_norm.", f".layer_norms.{last}.") if ".layers." in name else name

    def put(name: str, tensor: Tensor, state: Any) -> None:
        old_model[name] = tensor
        if state is not None:
            old_states[len(old_states)] = state

    for name, tensor in model.items():
        whole = next((key for key, parts in packed.items() if name in parts), None)
        if whole is None:
            if name != "decoder.output_projection.weight":
                put(old_name(name), tensor, states.get(name))
        elif whole not in old_model:
            parts = [whole.replace(".in_proj_", f".{part}.") for part in ("q_proj", "k_proj", "v_proj")]
            joined = {
                key: torch.cat([states[part][key] for part in parts])
                if isinstance(value, Tensor) and value.dim()
                else value
                for key, value in states[parts[0]].items()
            }
            put(whole, torch.cat([model[part] for part in parts]), joined)
    wall: Any = sys.modules["fairseq.meters"].StopwatchMeter()
    wall.__dict__.update(sum=3.5, n=7)
    extra = content["extra_state"]
    iterator = {key: extra["train_iterator"][key] for key in ("epoch", "iterations_in_epoch")}
    group = {**optimizer["param_groups"][0], "params": list(range(len(old_states)))}
    return {
        "args": namespace(content["cfg"]),
        "model": old_model,
        "optimizer_history": [
            {**content["optimizer_history"][0], "optimizer": {"state": old_states, "param_groups": [group]}}
        ],
        "extra_state": {"train_iterator": iterator, "train_meters": {"train_wall": wall}, "val_loss": 4.0},
    }


def distinct_parameters(model: dict[str, Tensor]) -> list[str]:
    return distinct({name: tensor for name, tensor in model.items() if not name.endswith(("version", "_float_tensor"))})


LAYOUTS: dict[str, Callable[[CheckpointState], Content]] = {
    "0.12": as_of_0_12,
    "0.10": lambda state: as_of_0_10(as_of_0_12(state)),
    "fp16": lambda state: trained_in_fp16(as_of_0_12(state)),
    "fp16 of 0.10": lambda state: as_of_0_10(trained_in_fp16(as_of_0_12(state))),
    "flags": lambda state: as_of_0_12(state) | {"cfg": None, "args": namespace(as_of_0_12(state)["cfg"])},
    "0.8": lambda state: as_of_0_8(as_of_0_12(state)),
}


@pytest.mark.usefixtures("_fairseq_meters")
@pytest.mark.parametrize(
    ("layout", "converted"), [*((layout, False) for layout in LAYOUTS), ("fp16 of 0.10", True), ("0.8", True)]
)
def test_training_goes_on_with_the_same_batches_and_the_same_weights(layout: str, converted: bool) -> None:
    content = LAYOUTS[layout](read_checkpoint("half/checkpoint_last.pt"))
    torch.save(content, "old.pt", _use_new_zipfile_serialization=layout != "0.8")
    if converted:
        assert run(convert, "--force old.pt new.pt") == 0
    name = f"{layout.replace(' ', '_')}-{converted}"
    start = f"--restore-file {'new' if converted else 'old'}.pt --save-dir {name}"
    assert run(train, f"{TRAIN} --max-update {UPDATES} {start}") == 0
    expected, got = read_checkpoint("whole/checkpoint_last.pt"), read_checkpoint(f"{name}/checkpoint_last.pt")
    assert got.progress["num_updates"] == UPDATES
    assert {key: got.iterator[key] for key in ("epoch", "iterations_in_epoch")} == {
        key: expected.iterator[key] for key in ("epoch", "iterations_in_epoch")
    }
    for key, weight in expected.model.items():
        assert torch.equal(weight, got.model[key]), key


@pytest.mark.usefixtures("_fairseq_meters")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_translations_are_the_same(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(LAYOUTS[layout](read_checkpoint("half/checkpoint_last.pt")), "old.pt")
    outputs = []
    for name in ("half/checkpoint_last.pt", "old.pt"):
        capsys.readouterr()
        assert run(generate, f"bin --path {name} --beam 2 --max-len-b 6 --cpu --num-workers 0") == 0
        outputs.append([line for line in capsys.readouterr().out.splitlines() if line[:2] in ("H-", "P-", "D-")])
    assert outputs[0] == outputs[1]


def test_state_that_cannot_be_carried_over_is_told_with_a_way_on(capsys: pytest.CaptureFixture[str]) -> None:
    content = as_of_0_12(read_checkpoint("half/checkpoint_last.pt"))
    optimizer = content["last_optimizer_state"]
    del optimizer["state"][0]
    optimizer["param_groups"][0]["params"].remove(0)
    torch.save(content, "odd.pt")
    line = f"{TRAIN} --max-update {UPDATES} --restore-file odd.pt --save-dir odd"
    assert run(train, line) == 2
    error = capsys.readouterr().err
    assert "the optimizer state in odd.pt is for other parameters" in error
    assert "checkpoint.reset_optimizer=true" in error
    assert run(train, f"{line} --reset-optimizer") == 0
