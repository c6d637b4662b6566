import numpy as np
import pytest

from seqkit.errors import DataError, MissingExtraError, UserError
from seqkit.metrics.curves import Curve, RunCurves
from seqkit.metrics.plot import plot_runs

pytest.importorskip("matplotlib")


def curve(values):
    places = np.arange(1.0, len(values) + 1)
    return Curve(places * 10, places, places * 100, np.array(values, dtype=float))


def run(name, loss):
    return RunCurves(
        name,
        {
            "train_inner": {"loss": curve(loss), "ppl": curve([2**value for value in loss]), "lr": curve([1e-3] * 4)},
            "valid": {"loss": curve(loss[:2]), "bleu": curve([10.0, 20.0])},
        },
    )


def texts(svg):
    """What a picture says: matplotlib keeps each label as a comment beside its outlines."""
    return [
        line[line.find("<!-- ") + 5 : line.find(" -->")] for line in svg.read_text().splitlines() if "<!-- " in line
    ]


def test_panels_labels_and_names(tmp_path):
    runs = [run("small", [9.0, 7.0, 6.0, 5.5]), run("large", [8.0, 6.0, float("nan"), 4.0])]
    picture = plot_runs(runs, tmp_path / "new" / "a.svg", smooth=0.5, title="Two runs")
    assert picture == tmp_path / "new" / "a.svg"
    said = texts(picture)
    for text in ("loss (base 2)", "perplexity", "learning rate", "updates", "Two runs", "small: training"):
        assert text in said
    assert "large: valid" in said
    assert "gradient norm" not in said, "no run has it"


@pytest.mark.parametrize(
    ("axis", "label"), [("updates", "updates"), ("epoch", "epochs"), ("wall", "hours of training")]
)
def test_axes(tmp_path, axis, label):
    picture = plot_runs([run("a", [9.0, 7.0, 6.0, 5.5])], tmp_path / "a.svg", keys=["bleu"], axis=axis)
    said = texts(picture)
    assert label in said
    assert "BLEU" in said
    assert "valid" in said, "one run needs no name"


def test_png(tmp_path):
    picture = plot_runs([run("a", [9.0, 7.0, 6.0, -1.0])], tmp_path / "a", keys=["loss"], skip=15)
    assert picture.name == "a.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_mistakes(tmp_path, monkeypatch):
    runs = [run("a", [9.0, 7.0, 6.0, 5.5])]
    with pytest.raises(DataError, match="no log has a figure 'wer'"):
        plot_runs(runs, tmp_path / "a.png", keys=["loss", "wer"])
    with pytest.raises(UserError, match=r"no picture format 'bmp'; there are: .*png"):
        plot_runs(runs, tmp_path / "a.bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--output=.* cannot be written"):
        plot_runs(runs, tmp_path / "file" / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"seqkit-plot needs .*pip install 'seqkit\[plot\]'"):
        plot_runs(runs, tmp_path / "a.png")
