"""`seqkit-plot`: the curves of one or several trainings, drawn from their JSON logs.

Parses, reads, draws, and gives the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from seqkit.errors import UserError
from seqkit_cli._main import guarded

_DESCRIPTION = (
    "Draw the curves of one or several trainings: loss, perplexity, learning rate, gradient norm, or any other figure "
    "of their logs (common.log_format=json; the file of common.log_file or the command's output)."
)
_EXAMPLES = """\
examples:
  seqkit-train ... common.log_format=json common.log_file=run.jsonl;  seqkit-plot run.jsonl --output run.png
  seqkit-plot a/log.jsonl b/log.jsonl --names baseline larger --keys loss,bleu --x wall --output both.png
  seqkit-plot run.jsonl --keys loss,gnorm --smooth 0.9 --skip 1000 --log-scale gnorm --output run.svg
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see seqkit-plot --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 the user's mistake, 1 a failure."""
    return guarded(lambda: _run(_parser().parse_args(argv)), "seqkit-plot")


def _parser() -> _Parser:
    parser = _Parser(
        prog="seqkit-plot",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("logs", nargs="+", metavar="LOG", help="the log of a run")
    parser.add_argument("--output", "-o", required=True, metavar="FILE", help="the picture (.png, .svg, .pdf)")
    parser.add_argument(
        "--keys", type=_words, metavar="KEY,…", help="figures, a panel each (default: loss,ppl,lr,gnorm if there)"
    )
    parser.add_argument(
        "--x",
        choices=("updates", "epoch", "wall"),
        default="updates",
        help="what runs to the right; wall: hours of training (default: updates)",
    )
    parser.add_argument(
        "--smooth",
        type=_share,
        default=0.0,
        metavar="S",
        help="smooth the curves of training, from 0 (not at all, the default) to below 1 (0.9: over ten points)",
    )
    parser.add_argument(
        "--log-scale",
        type=_words,
        default=["loss", "ppl"],
        metavar="KEY,…",
        help="figures with a logarithmic axis; none: no figure (default: loss,ppl)",
    )
    parser.add_argument("--skip", type=float, default=0.0, metavar="X", help="leave out what is left of this place")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the runs (default: of their files)")
    parser.add_argument("--title", help="written above the picture")
    parser.add_argument("--dpi", type=int, default=120, metavar="N", help="dots per inch (default: 120)")
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to below 1")
    return share


def _run(arguments: argparse.Namespace) -> int:
    from seqkit.metrics.curves import read_run
    from seqkit.metrics.plot import plot_runs

    names: list[str] | None = arguments.names
    if names is not None and len(names) != len(arguments.logs):
        raise UserError(f"--names gives {len(names)} names for {len(arguments.logs)} logs")
    runs = [read_run(log, names[number] if names else None) for number, log in enumerate(arguments.logs)]
    log_scale = [] if arguments.log_scale == ["none"] else arguments.log_scale
    picture = plot_runs(
        runs,
        arguments.output,
        keys=arguments.keys,
        axis=arguments.x,
        smooth=arguments.smooth,
        log_scale=log_scale,
        skip=arguments.skip,
        title=arguments.title,
        dpi=arguments.dpi,
    )
    print(f"{picture}: {', '.join(f'{run.name} ({len(run.streams)} streams)' for run in runs)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
