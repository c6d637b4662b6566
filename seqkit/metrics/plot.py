"""Drawing the curves of runs: one panel for each figure, one colour for each run.

Knows nothing of where the curves come from. Needs matplotlib, which the extra `plot` brings.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqkit.errors import UserError, require_extra
from seqkit.files import atomic_write
from seqkit.metrics.curves import TRAIN, TRAIN_INNER, RunCurves, unknown_key

DEFAULT_KEYS = ("loss", "ppl", "lr", "gnorm")
_LABELS = {
    "loss": "loss (base 2)",
    "nll_loss": "negative log-likelihood (base 2)",
    "ppl": "perplexity",
    "lr": "learning rate",
    "gnorm": "gradient norm",
    "wps": "words/s",
    "ups": "updates/s",
    "bleu": "BLEU",
}
_EXACT = ("lr", "ema", "clip")
"""Figures that are set, not measured: smoothing would only falsify them."""
_AXIS_LABELS = {"updates": "updates", "epoch": "epochs", "wall": "hours of training"}
_DASHES = ("--", ":", "-.")


def plot_runs(
    runs: Sequence[RunCurves],
    output: str | Path,
    *,
    keys: Sequence[str] | None = None,
    axis: str = "updates",
    smooth: float = 0.0,
    log_scale: Collection[str] = ("loss", "ppl"),
    skip: float = 0.0,
    title: str | None = None,
    width: float = 6.0,
    height: float = 3.6,
    dpi: int = 120,
) -> Path:
    """Draw runs into one picture. Training is a solid line, validation a dashed one with dots.

    Args:
        runs: their curves.
        output: the picture; its ending says the format (png, svg, pdf).
        keys: figures, a panel each; by default those of `DEFAULT_KEYS` that there are.
        axis: what runs to the right: `updates`, `epoch` or `wall`.
        smooth: share of its predecessors in each point of training's curves (0 to below 1); the raw ones stay visible.
        log_scale: figures whose axis is logarithmic.
        skip: leave out what is before this place of the axis (the first steep fall would hide the rest).
        title: above all.
        width, height: of a panel, in inches.
        dpi: dots per inch.

    Raises:
        DataError: no run has one of the figures.
        UserError: the picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    require_extra("matplotlib", extra="plot", purpose="seqkit-plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if keys is None:
        keys = [key for key in DEFAULT_KEYS if any(run.select(key) for run in runs)] or runs[0].keys[:1]
    for key in keys:
        if not any(run.select(key) for run in runs):
            raise unknown_key(key, runs)
    columns = 1 if len(keys) == 1 else 2
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Any] = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for panel, key in zip(panels, keys, strict=False):
        _draw_panel(panel, runs, key, axis=axis, smooth=smooth, log=key in log_scale, skip=skip)
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    _add_legend(figure, panels[: len(keys)])
    if title:
        figure.suptitle(title)
    return _write(figure, Path(output), dpi)


def _draw_panel(
    panel: Any, runs: Sequence[RunCurves], key: str, *, axis: str, smooth: float, log: bool, skip: float
) -> None:
    unit = 3600 if axis == "wall" else 1
    lowest = math.inf
    for number, run in enumerate(runs):
        color = f"C{number % 10}"
        dashes = iter(_DASHES * 4)
        for stream, curve in run.select(key).items():
            places = curve.along(axis) / unit
            shown = (places >= skip) & np.isfinite(curve.values)
            if not shown.any():
                continue
            places, values = places[shown], curve.values[shown]
            lowest = min(lowest, float(values.min()))
            trained = stream in (TRAIN_INNER, TRAIN)
            label = "training" if trained else stream
            label = label if len(runs) == 1 else f"{run.name}: {label}"
            if trained and smooth > 0 and len(values) > 2 and key.partition("_")[0] not in _EXACT:
                panel.plot(places, values, "-", color=color, alpha=0.25, linewidth=0.8)
                values = curve.smoothed(smooth)[shown]
            if trained:
                panel.plot(places, values, "-", color=color, linewidth=1.4, label=label)
            else:
                panel.plot(places, values, next(dashes), color=color, marker="o", markersize=3.5, label=label)
    panel.set_xlabel(_AXIS_LABELS[axis])
    panel.set_ylabel(_LABELS.get(key, key))
    if log and 0 < lowest < math.inf:
        _use_log_scale(panel)
    panel.grid(alpha=0.3, which="both", linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)


def _use_log_scale(panel: Any) -> None:
    """A logarithmic axis whose numbers are written out, also where it spans less than a decade."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    panel.set_yscale("log")
    low, high = panel.get_ylim()
    narrow = high / low < 20
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 6, 8) if narrow else (1, 2, 5), numticks=12))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _add_legend(figure: Any, panels: Sequence[Any]) -> None:
    """One legend for all panels, below them; in the panel where there is only one."""
    lines: dict[str, Any] = {}
    for panel in panels:
        for line, label in zip(*panel.get_legend_handles_labels(), strict=True):
            lines.setdefault(label, line)
    if len(panels) == 1:
        panels[0].legend(lines.values(), lines.keys(), frameon=False)
    else:
        figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(len(lines), 4), frameon=False)


def _write(figure: Any, output: Path, dpi: int) -> Path:
    ending = output.suffix[1:].lower() or "png"
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        raise UserError(f"--output={output}: there is no picture format {ending!r}; there are: {', '.join(known)}")
    picture = io.BytesIO()
    figure.savefig(picture, format=ending, dpi=dpi)
    target = output if output.suffix else output.with_suffix(".png")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(picture.getvalue())
    except OSError as error:
        raise UserError(f"--output={output} cannot be written: {error.strerror}") from error
    return target
