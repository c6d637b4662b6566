"""`seqkit-export`: a trained model in the form of another library.

Parses, loads the model and its dictionaries, has it written, and gives the exit code.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from seqkit.errors import UserError
from seqkit_cli._main import guarded

if TYPE_CHECKING:
    from seqkit.checkpoint.state import CheckpointState
    from seqkit.interop.load_model import LoadedEnsemble

FORMATS = ("safetensors", "ctranslate2", "huggingface")

_DESCRIPTION = (
    "Write a trained model for other libraries: its weights and configuration as safetensors; for CTranslate2; or as a "
    "folder of Hugging Face transformers, where that has an architecture that computes the same. A model that does not "
    "fit is refused, with all reasons. docs/export.md says what fits and how to load it."
)
_EXAMPLES = """\
examples:
  seqkit-export checkpoints/checkpoint_best.pt --format safetensors --output exported
  seqkit-export checkpoints/checkpoint_best.pt --format ctranslate2 --output exported --quantization int8
  seqkit-export fairseq/model.pt --data data-bin --format huggingface --output exported
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see seqkit-export --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 the user's mistake, 1 a failure."""
    return guarded(lambda: _run(_parser().parse_args(argv)), "seqkit-export")


def _parser() -> _Parser:
    parser = _Parser(
        prog="seqkit-export",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="the checkpoint to read, of seqkit or of fairseq")
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument("--output", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder of the dictionaries; by default the checkpoint's own folder if it holds any, else the data folder "
        "that the model was trained on",
    )
    parser.add_argument("-s", "--source-lang", metavar="LANG", help="source language, if the checkpoint does not say")
    parser.add_argument("-t", "--target-lang", metavar="LANG", help="target language, if the checkpoint does not say")
    parser.add_argument(
        "--quantization",
        metavar="TYPE",
        help="ctranslate2: type of the weights in the file (float32 by default; int8, float16, bfloat16, …)",
    )
    parser.add_argument("--force", action="store_true", help="write into a folder that holds files already")
    parser.add_argument("--user-dir", metavar="DIR", help="folder of the plugins that the checkpoint's components are")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="also read old checkpoints that hold more than data, which runs the code they name",
    )
    return parser


def _run(args: argparse.Namespace) -> int:
    from seqkit.interop.exports import new_folder
    from seqkit.interop.load_model import build_ensemble, open_to_use
    from seqkit.registry import import_user_dir

    _check(args)
    if args.user_dir is not None:
        import_user_dir(args.user_dir)
    state = open_to_use(args.checkpoint, trust_pickle=args.trust_pickle)
    loaded = build_ensemble([(args.checkpoint, state)], {"task": _task_options(args)})
    with new_folder(args.output, force=args.force) as folder:
        _write(args, state, loaded, folder)
    (model,) = loaded.models
    print(f"wrote {args.output}: {model.config._name} as {args.format}")
    return 0


def _check(args: argparse.Namespace) -> None:
    from seqkit.interop.ctranslate2_export import QUANTIZATIONS

    output = Path(args.output)
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: there is no folder {output.parent}")
    if args.quantization is None:
        return
    if args.format != "ctranslate2":
        raise UserError(f"--quantization is for --format ctranslate2, not {args.format}; leave it out")
    if args.quantization not in QUANTIZATIONS:
        raise UserError(f"--quantization {args.quantization} is not known; there are: {', '.join(QUANTIZATIONS)}")


def _task_options(args: argparse.Namespace) -> dict[str, Any]:
    """What is said of the task, over what the checkpoint says."""
    folder = Path(args.checkpoint).parent
    data = args.data
    if data is None and any(folder.glob("dict.*txt")):
        data = str(folder)
    given = {"data": data, "source_lang": args.source_lang, "target_lang": args.target_lang}
    return {name: value for name, value in given.items() if value is not None}


def _write(args: argparse.Namespace, state: CheckpointState, loaded: LoadedEnsemble, folder: Path) -> None:
    from seqkit.interop.ctranslate2_export import export_ctranslate2
    from seqkit.interop.exports import save_dictionaries, symbols_of
    from seqkit.interop.huggingface_export import export_huggingface

    (model,) = loaded.models
    if args.format == "ctranslate2":
        export_ctranslate2(model, symbols_of(loaded.task), folder, quantization=args.quantization or "float32")
    elif args.format == "huggingface":
        export_huggingface(model, symbols_of(loaded.task), folder)
    else:
        _write_safetensors(state, folder)
        save_dictionaries(loaded.task, folder)


def _write_safetensors(state: CheckpointState, folder: Path) -> None:
    """The checkpoint's weights as they are, and its whole configuration."""
    import json

    from seqkit.interop.safetensors_export import export_safetensors

    export_safetensors(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(state.config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
