"""`seqkit-convert`: a checkpoint of fairseq as one of seqkit, with everything that training goes on with.

Parses, reads, checks that the configuration is one that seqkit can build, writes, and gives the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from seqkit.errors import CheckpointError, ConfigError, UserError
from seqkit_cli._main import guarded

_DESCRIPTION = (
    "Write a checkpoint of fairseq as one of seqkit: weights, configuration, and the state of optimizer, schedule, "
    "batches and meters. Every command also reads fairseq's checkpoints as they are; a converted one is read faster, "
    "checked against damage, and says in today's names how it was made."
)
_EXAMPLES = """\
examples:
  seqkit-convert fairseq/checkpoint_best.pt checkpoints/checkpoint_best.pt
  seqkit-convert fairseq/checkpoint_best.pt model.safetensors
  seqkit-convert --user-dir my_plugins fairseq/checkpoint_last.pt checkpoints/checkpoint_last.pt
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see seqkit-convert --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 the user's mistake, 1 a failure."""
    return guarded(lambda: _run(_parser().parse_args(argv)), "seqkit-convert")


def _parser() -> _Parser:
    parser = _Parser(
        prog="seqkit-convert",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="OLD", help="the checkpoint to read")
    parser.add_argument(
        "output",
        metavar="NEW",
        help="the checkpoint to write; .safetensors: weights and configuration in that format",
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument("--user-dir", metavar="DIR", help="folder of the plugins that the checkpoint's components are")
    parser.add_argument(
        "--trust-pickle", action="store_true", help="read an old checkpoint that holds more than data (runs its code)"
    )
    return parser


def _run(args: argparse.Namespace) -> int:
    from seqkit.checkpoint.io import write_checkpoint
    from seqkit.interop.open_checkpoint import open_checkpoint
    from seqkit.interop.safetensors_export import export_safetensors
    from seqkit.registry import import_user_dir

    output = Path(args.output)
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}")
    if output.is_dir():
        raise UserError(f"{output} is a folder; give the file to write in it, such as {output / Path(args.input).name}")
    if output.exists() and not args.force:
        raise UserError(f"{output} is there already; give another name, or --force to write over it")
    if args.user_dir is not None:
        import_user_dir(args.user_dir)
    state = open_checkpoint(args.input, trust_pickle=args.trust_pickle)
    _require_buildable(state.config, args.input)
    if output.suffix == ".safetensors":
        export_safetensors(state, output)
    else:
        write_checkpoint(output, state)
    model = state.config["model"]["_name"]
    updates = state.progress.get("num_updates", 0)
    kept = "with" if state.optimizer is not None else "without"
    print(f"wrote {output}: {model}, {updates:,} updates, {kept} optimizer state")
    return 0


def _require_buildable(config: dict[str, object], where: str) -> None:
    """A file that no command could use is not written."""
    from seqkit.config.root import root_from_dict

    try:
        root_from_dict(config, missing_allowed=True, required=("task", "model"))
    except ConfigError as error:
        raise CheckpointError(f"{where} cannot be converted: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
