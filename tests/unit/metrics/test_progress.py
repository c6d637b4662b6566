import io
import json
import logging
import math
import re
import sys

import pytest
import torch

from seqkit.errors import ConfigError, UserError
from seqkit.metrics.aggregator import Aggregator
from seqkit.metrics.meters import AverageMeter, StopwatchMeter, TimeMeter
from seqkit.metrics.progress import JsonReporter, TqdmReporter, format_figure, make_progress
from seqkit.metrics.run_clock import RunClock
from seqkit.metrics.tensorboard import TensorBoardLog


class Resumed(list):
    """An iterator of five items of which three were taken before."""

    n = 3

    def __len__(self):
        return 5


def figures():
    log = Aggregator()
    log.log_scalar("loss", 6.60844, 10, round=3)
    log.log_scalar("ppl", 96.0, round=2)
    log.log_scalar("wpb", 320)
    log.log_scalar("num_updates", 2)
    log.log_scalar("lr", 0.0001009)
    return log.smoothed_values()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.0, "6"),
        (6.608, "6.608"),
        (0.71, "0.71"),
        (0.0001009, "0.0001009"),
        (1e-05, "1e-05"),
        (1234567, "1.23457e+06"),
        (math.inf, "inf"),
        (torch.tensor(2.5), "2.5"),
        ("word", "word"),
        (None, "None"),
    ],
)
def test_figures_are_formatted_as_fairseq_does(value, text):
    assert format_figure(value) == text


def test_meters_are_formatted():
    average, speed, watch = AverageMeter(), TimeMeter(), StopwatchMeter()
    assert format_figure(average) == "-"
    average.update(1.23456)
    assert format_figure(average) == "1.235"
    assert format_figure(speed) == "0"
    assert format_figure(watch) == "0"


def test_json_lines(caplog, tmp_path):
    caplog.set_level(logging.INFO)
    file = tmp_path / "log.json"
    with make_progress(range(4), log_format="json", log_interval=2, epoch=3, log_file=file) as progress:
        for step, _ in enumerate(progress, start=1):
            progress.log(figures(), tag="train_inner", step=step)
        progress.print(figures(), tag="train", step=4)
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [record.name for record in caplog.records] == ["train_inner", "train_inner", "train"]
    shown = {"loss": "6.608", "ppl": "96", "wpb": "320", "num_updates": "2", "lr": "0.0001009"}
    assert lines[0] == {"epoch": 3, "update": 2.5, **shown}
    assert lines[1] == {"epoch": 3, "update": 3.0, **shown}
    assert lines[2] == {"epoch": 3, **{f"train_{key}": value for key, value in shown.items()}}
    assert list(lines[2])[:2] == ["epoch", "train_loss"]
    assert [json.loads(line) for line in file.read_text().splitlines()] == lines


def test_json_of_a_resumed_epoch_counts_what_was_taken_before(caplog):
    caplog.set_level(logging.INFO)
    progress = make_progress(Resumed("ab"), log_format="json", log_interval=1, epoch=1)
    assert len(progress) == 5
    for _ in progress:
        progress.log({"loss": 1.0}, tag="train_inner", step=10)
    updates = [json.loads(record.getMessage())["update"] for record in caplog.records]
    assert updates == [0.8, 1.0]


def test_simple_lines(caplog):
    caplog.set_level(logging.INFO)
    progress = make_progress(range(35), log_format="simple", log_interval=20, epoch=1)
    for step, _ in enumerate(progress, start=1):
        progress.log({"loss": 6.5, "wpb": 320.0}, tag="train_inner", step=step)
    progress.print({"loss": 6.5}, tag="train")
    assert caplog.messages == ["epoch 001:     20 / 35 loss=6.5, wpb=320", "epoch 001 | loss 6.5"]


def test_prefix_and_unknown_length(caplog):
    caplog.set_level(logging.INFO)
    progress = make_progress(iter("ab"), log_format="simple", log_interval=1, epoch=2, prefix="valid on 'valid' subset")
    for _ in progress:
        progress.log({"loss": 1.0}, step=1)
    assert caplog.messages[0] == "epoch 002 | valid on 'valid' subset:      1 / ? loss=1"
    with pytest.raises(TypeError, match="give total="):
        len(progress)
    assert len(make_progress(iter("ab"), log_format="none", total=2)) == 2


def test_none_is_silent(caplog):
    caplog.set_level(logging.INFO)
    progress = make_progress(range(3), log_format="none", log_interval=1)
    assert list(progress) == [0, 1, 2]
    progress.log({"loss": 1.0}, tag="train", step=1)
    progress.print({"loss": 1.0}, tag="train")
    assert not caplog.messages


def test_no_midway_lines_without_interval(caplog):
    caplog.set_level(logging.INFO)
    progress = make_progress(range(3), log_format="json", log_interval=0, epoch=1)
    progress.log({"loss": 1.0}, step=100)
    assert not caplog.messages


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_only_on_a_terminal(monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(make_progress(range(2))).__name__ == "SimpleReporter"
    assert type(make_progress(range(2), log_format="json")) is JsonReporter
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    file = tmp_path / "log.txt"
    progress = make_progress(Resumed("ab"), epoch=1, log_interval=1, log_file=file)
    assert isinstance(progress, TqdmReporter)
    for _ in progress:
        progress.log({"loss": 6.5}, tag="train_inner", step=1)
    progress.print({"loss": 6.5}, tag="train")
    progress.close()
    assert "epoch 001" in terminal.getvalue()
    assert "3/5" in terminal.getvalue()
    assert caplog.messages == ["epoch 001 | loss 6.5"]
    assert file.read_text().splitlines()[-1] == "epoch 001 | loss 6.5"


FIGURES_OF_TRAINING = {
    "loss": 6.5,
    "nll_loss": 6.2,
    "ppl": 1234.5678,
    "wps": 12345.6,
    "ups": 2.0,
    "wpb": 320.0,
    "num_updates": 500,
    "lr": 0.00044721,
    "gnorm": 1.2345,
    "clip": None,
    "wall": 77,
}


def bar_of(monkeypatch, figures, run=None, columns=100):
    """The last line that a bar draws on a terminal of so many columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = make_progress(range(1000), epoch=12, log_interval=1, run=run)
    for item in progress:
        if item == 499:
            progress._bar.ncols, progress._bar.dynamic_ncols = columns, None
            progress.log(figures, tag="train_inner", step=500)
            progress._bar.refresh()
            drawn = terminal.getvalue().split("\r")[-1]
            break
    progress.close()
    return drawn


def test_bar_shows_the_few_figures_that_a_line_has_room_for(monkeypatch):
    run = RunClock(max_seconds=2 * 86400 + 3600 * 5 + 60)
    drawn = bar_of(monkeypatch, FIGURES_OF_TRAINING, run)
    assert drawn.startswith("epoch 012 |")
    figures = "loss 6.500 ppl 1235 12.3k w/s lr 0.00045 gnorm 1.23"
    assert re.search(rf"\| \d+/1000 {figures} left \S+ / 2d05h$", drawn)
    assert len(drawn) <= 100
    assert "wall" not in drawn


def test_bar_without_what_is_not_known(monkeypatch):
    drawn = bar_of(monkeypatch, {"loss": torch.tensor(2.0), "wer": 7.0}, RunClock())
    assert re.search(r"\| \d+/1000 loss 2.000 left \S+$", drawn)
    hour = bar_of(monkeypatch, {"wps": 900.0}, RunClock(max_seconds=3600))
    assert " 900 w/s left " in hour
    assert hour.endswith((" / 1:00:00", " / 59:59"))


def test_bar_keeps_within_a_narrow_terminal(monkeypatch):
    assert len(bar_of(monkeypatch, FIGURES_OF_TRAINING, RunClock(max_seconds=100), columns=60)) <= 60


def test_wrong_format_is_told():
    with pytest.raises(ConfigError, match=r"log_format=jsonl .*did you mean 'json'"):
        make_progress([], log_format="jsonl")


def test_log_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"common.log_file=.*cannot be written: No such file"):
        make_progress([], log_format="json", log_file=tmp_path / "absent" / "log.json")


def test_tensorboard_folders(tmp_path):
    pytest.importorskip("tensorboardX")
    with TensorBoardLog(tmp_path) as board:
        for epoch in (1, 2):
            progress = make_progress([0], log_format="none", epoch=epoch, tensorboard_logdir=board)
            progress.log(figures(), tag="train_inner")
            progress.print({"loss": AverageMeter()} | figures(), tag="valid", step=5)
            progress.print(figures())
            progress.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train_inner", "valid"]
    assert len(list((tmp_path / "train_inner").iterdir())) == 1, "one event file for all epochs"
    events = next((tmp_path / "valid").iterdir()).read_bytes()
    assert b"loss" in events
    assert b"num_updates" not in events


def test_tensorboard_of_a_folder_is_closed_with_the_reporter(tmp_path):
    pytest.importorskip("tensorboardX")
    with make_progress([0], log_format="none", tensorboard_logdir=tmp_path / "tb") as progress:
        progress.print({"loss": 1.0, "num_updates": 3}, tag="train")
    assert [path.name for path in (tmp_path / "tb").iterdir()] == ["train"]
