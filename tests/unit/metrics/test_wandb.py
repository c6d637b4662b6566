import sys
from types import ModuleType

import pytest

from seqkit.errors import MissingExtraError
from seqkit.metrics.meters import AverageMeter
from seqkit.metrics.progress import make_progress
from seqkit.metrics.wandb import WandbLog


class Run:
    def __init__(self, settings):
        self.settings = settings
        self.lines = []
        self.finished = 0

    def log(self, numbers, step):
        self.lines.append((step, numbers))

    def finish(self):
        self.finished += 1


@pytest.fixture
def runs(monkeypatch):
    """A package that does as wandb does, without a network."""
    monkeypatch.delenv("WANDB_NAME", raising=False)
    made = []
    fake = ModuleType("wandb")
    fake.init = lambda **settings: made.append(Run(settings)) or made[-1]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return made


def test_streams_of_one_run(runs):
    meter = AverageMeter()
    meter.update(0.5)
    with WandbLog("project", "checkpoints", {"task": {"data": "x"}}) as log:
        log.write({"loss": 2.5, "num_updates": 3, "bleu": None, "clip": meter}, "train_inner", 7)
        log.write({"loss": 2.0, "num_updates": 3}, "valid")
    (run,) = runs
    assert run.settings == {"project": "project", "name": "checkpoints", "config": {"task": {"data": "x"}}}
    assert run.lines == [(7, {"train_inner/loss": 2.5, "train_inner/clip": 0.5}), (3, {"valid/loss": 2.0})]
    assert run.finished == 1


def test_the_environment_names_the_run(runs, monkeypatch):
    monkeypatch.setenv("WANDB_NAME", "mine")
    WandbLog("project", "checkpoints")
    assert runs[0].settings["name"] == "mine"


def test_a_reporter_writes_to_it_and_leaves_it_open(runs):
    log = WandbLog("project", "checkpoints")
    with make_progress([0], log_format="none", log_interval=1, logs=[log]) as progress:
        progress.log({"loss": 2.5}, tag="train_inner", step=1)
        progress.print({"loss": 2.0}, tag="train", step=1)
        progress.print({"loss": 2.0})
    assert runs[0].lines == [(1, {"train_inner/loss": 2.5}), (1, {"train/loss": 2.0})]
    assert runs[0].finished == 0


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"common\.wandb_project needs .*pip install 'seqkit\[wandb\]'"):
        WandbLog("project", "name")
