"""`seqkit-average`: one checkpoint whose weights are the mean of several, with the flags of fairseq's script.

Parses, reads, averages, writes (a checkpoint, or a `.safetensors` file), and gives the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from seqkit.errors import UserError

_DESCRIPTION = "Average the weights of several checkpoints of one training into one checkpoint."
_EXAMPLES = """\
examples:
  seqkit-average --inputs checkpoints/checkpoint8.pt checkpoints/checkpoint9.pt --output checkpoints/average.pt
  seqkit-average --inputs checkpoints --num-epoch-checkpoints 5 --output checkpoints/average.pt
  seqkit-average --inputs checkpoints --num-best-checkpoints 3 --output model.safetensors
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see seqkit-average --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 the user's mistake, 1 a failure."""
    try:
        return _run(_parser().parse_args(argv))
    except UserError as error:
        print(f"seqkit-average: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("seqkit-average: interrupted", file=sys.stderr)
        return 130


def _parser() -> _Parser:
    parser = _Parser(
        prog="seqkit-average",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--inputs", nargs="+", required=True, metavar="PATH", help="checkpoints, or their folder")
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the checkpoint to write; .safetensors: weights and configuration in that format",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--num-epoch-checkpoints", type=_count, metavar="N", help="the last N epoch checkpoints")
    which.add_argument("--num-update-checkpoints", type=_count, metavar="N", help="the last N update checkpoints")
    which.add_argument(
        "--num-best-checkpoints",
        type=_count,
        metavar="N",
        help="the N best of those that keep_best_checkpoints keeps, or of the files that --inputs names",
    )
    parser.add_argument(
        "--checkpoint-upper-bound", type=int, metavar="N", help="leave out checkpoints of a later epoch or update"
    )
    parser.add_argument(
        "--trust-pickle", action="store_true", help="read old checkpoints that hold more than data (runs their code)"
    )
    return parser


def _run(args: argparse.Namespace) -> int:
    from seqkit.checkpoint.average import average_checkpoints
    from seqkit.checkpoint.io import write_checkpoint
    from seqkit.interop.open_checkpoint import open_checkpoint
    from seqkit.interop.safetensors_export import export_safetensors

    output = Path(args.output)
    if not output.parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    paths = _inputs(args)
    state = average_checkpoints((str(path), open_checkpoint(path, trust_pickle=args.trust_pickle)) for path in paths)
    if output.suffix == ".safetensors":
        export_safetensors(state, output)
    else:
        write_checkpoint(output, state)
    print(f"averaged {len(paths)} checkpoints into {output}: {', '.join(path.name for path in paths)}")
    return 0


def _inputs(args: argparse.Namespace) -> list[Path]:
    from seqkit.checkpoint.average import best_of_files, best_of_folder, last_checkpoints

    counts = {
        "epoch": args.num_epoch_checkpoints,
        "update": args.num_update_checkpoints,
        "best": args.num_best_checkpoints,
    }
    kind = next((kind for kind, count in counts.items() if count is not None), None)
    if kind in (None, "best") and args.checkpoint_upper_bound is not None:
        raise UserError("--checkpoint-upper-bound needs --num-epoch-checkpoints or --num-update-checkpoints")
    if kind is None:
        return [Path(path) for path in args.inputs]
    if kind == "best" and not (len(args.inputs) == 1 and Path(args.inputs[0]).is_dir()):
        return best_of_files(args.inputs, counts[kind], maximize=lambda path: _maximizes(path, args.trust_pickle))
    if len(args.inputs) != 1:
        raise UserError(f"--num-{kind}-checkpoints looks into one folder; --inputs names {len(args.inputs)}")
    if kind == "best":
        return best_of_folder(args.inputs[0], counts[kind], maximize=lambda path: _maximizes(path, args.trust_pickle))
    return last_checkpoints(args.inputs[0], counts[kind], kind=kind, upper_bound=args.checkpoint_upper_bound)


def _maximizes(path: Path, trust_pickle: bool) -> bool:
    """Whether the training that saved a checkpoint took the largest validation figure for the best."""
    from seqkit.interop.open_checkpoint import open_checkpoint

    section = open_checkpoint(path, trust_pickle=trust_pickle).config.get("checkpoint") or {}
    return bool(section.get("maximize_best_checkpoint_metric", False))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
