import json

import numpy as np
import pytest

from seqkit.errors import DataError
from seqkit.metrics.curves import read_run, unknown_key


def inner(updates, update, loss, wall=0, **more):
    row = {"epoch": int(update) + 1, "update": update, "loss": str(loss), "num_updates": str(updates), **more}
    return json.dumps(row | {"wall": str(wall)})


def summary(stream, epoch, updates, loss, **more):
    return json.dumps(
        {"epoch": epoch, f"{stream}_loss": str(loss), f"{stream}_num_updates": str(updates)}
        | {f"{stream}_{key}": value for key, value in more.items()}
    )


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_streams_and_figures(tmp_path):
    log = write(
        tmp_path / "a.jsonl",
        inner(10, 0.5, 9.0, wall=5, lr="1e-05"),
        summary("valid", 1, 20, 7.0, best_loss="7.0"),
        inner(20, 1.0, 8.0, wall=9),
        summary("train", 1, 20, 8.5, train_wall="6", wall="9"),
        summary("valid1", 1, 20, 7.5),
    )
    run = read_run(log)
    assert run.name == "a"
    assert list(run.streams) == ["train_inner", "valid", "train", "valid1"]
    assert run.keys == ["loss", "lr", "best_loss", "train_wall"]
    curve = run.streams["train_inner"]["loss"]
    assert curve.along("updates").tolist() == [10, 20]
    assert curve.along("epoch").tolist() == [0.5, 1.0]
    assert curve.along("wall").tolist() == [5, 9]
    assert curve.values.tolist() == [9.0, 8.0]
    assert run.streams["train_inner"]["lr"].values.tolist() == [1e-5]
    assert list(run.select("loss")) == ["train_inner", "valid", "valid1"], "of training, the finer stream"


def test_lines_of_a_command_and_other_lines(tmp_path):
    log = write(
        tmp_path / "run" / "train.log" if (tmp_path / "run").mkdir() is None else tmp_path,
        "2026-01-01 00:00:00 | INFO | seqkit | {'not': json}",
        "2026-01-01 00:00:00 | INFO | train_inner | " + inner(1, 0.1, 3.0),
        "2026-01-01 00:00:00 | INFO | x | [1, 2]",
        '{"text": "of something else"}',
        '{"loss": "3", "num_upd',
    )
    run = read_run(log)
    assert run.name == "run", "the folder says more than train.log"
    assert run.streams["train_inner"]["loss"].values.tolist() == [3.0]


def test_updates_done_again_after_an_interruption_replace_those_of_before(tmp_path):
    log = write(
        tmp_path / "log.jsonl",
        inner(10, 0.1, 9.0, wall=100),
        inner(20, 0.2, 8.0, wall=200),
        inner(30, 0.3, 7.0, wall=300),
        inner(20, 0.2, 6.0, wall=50),
        inner(30, 0.3, 5.0, wall=150),
    )
    curve = read_run(log, "mine").streams["train_inner"]["loss"]
    assert curve.updates.tolist() == [10, 20, 30]
    assert curve.values.tolist() == [9.0, 6.0, 5.0]
    assert curve.wall.tolist() == [100, 150, 250], "the clock of the second run goes on where the first was kept"


def test_a_validation_amid_an_epoch_is_placed_between_the_lines_of_training(tmp_path):
    log = write(
        tmp_path / "log.jsonl",
        inner(10, 0.25, 9.0, wall=1),
        summary("valid", 1, 15, 7.0),
        inner(20, 0.5, 8.0, wall=2),
        inner(40, 1.0, 8.0, wall=4),
        summary("valid", 1, 40, 6.0),
    )
    curve = read_run(log).streams["valid"]["loss"]
    assert curve.epochs.tolist() == [0.375, 1.0]
    assert curve.wall.tolist() == [1, 4]


def test_smoothing(tmp_path):
    log = write(tmp_path / "a.jsonl", *(inner(n, n / 10, loss) for n, loss in enumerate(("4", "2", "nan", "3"), 1)))
    curve = read_run(log).streams["train_inner"]["loss"]
    np.testing.assert_allclose(curve.smoothed(0.0)[[0, 1, 3]], [4, 2, 3])
    found = curve.smoothed(0.5)
    assert found[0] == 4, "no pull towards zero at the beginning"
    assert found[1] == pytest.approx((0.25 * 4 + 0.5 * 2) / 0.75)
    assert np.isfinite(found).all()


def test_mistakes(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl cannot be read: No such file"):
        read_run(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"holds no JSON lines of training; .*common\.log_format=json"):
        read_run(write(tmp_path / "simple.log", "epoch 001 | loss 3"))
    run = read_run(write(tmp_path / "a.jsonl", inner(1, 0.1, 3.0)))
    assert "no log has a figure 'lost'; did you mean 'loss'?" in str(unknown_key("lost", [run]))
