"""`seqkit-preprocess`: raw text to a `data-bin`, with fairseq-preprocess's flags.

Parses, calls `seqkit.data.preprocess`, and gives the exit code.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from typing import Any

from seqkit.config.flags import FlagParser, add_flags, config_from_flags
from seqkit.config.sections import CommonConfig
from seqkit.config.validate import options_of
from seqkit.data.preprocess_config import PassedOverConfig, PreprocessConfig
from seqkit.errors import ConfigError, UserError
from seqkit.registry import Component, import_user_dir, registry

_DESCRIPTION = """\
Make a data-bin of raw text: count words, write dictionaries, binarize. Takes fairseq-preprocess's flags and writes the
same files, byte for byte; besides, it trains and applies subword models."""

_EXAMPLES = """\
examples:
  seqkit-preprocess -s de -t en --trainpref train --validpref valid --testpref test --joined-dictionary
  seqkit-preprocess -s de -t en --trainpref train --validpref valid --train-sentencepiece 8000 --destdir spm
  seqkit-preprocess --only-source --trainpref wiki.train.tokens --validpref wiki.valid.tokens --workers 4

tokenizers: {tokenizers}
subword encoders: {encoders}
fairseq's common flags (--seed, --cpu, --log-format, …) are accepted and make no difference here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        _run(arguments)
    except UserError as error:
        print(f"seqkit-preprocess: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("seqkit-preprocess: interrupted; nothing was written", file=sys.stderr)
        return 1
    return 0


def _run(arguments: list[str]) -> None:
    components = _chosen_components(arguments)
    values = _parser(components).parse_flags(arguments)
    problems: list[str] = []
    config = config_from_flags(PreprocessConfig, values, problems)
    config_from_flags(CommonConfig, values, problems)
    encoders = {kind: config_from_flags(component.config, values, problems) for kind, component in components.items()}
    if config.bpe_codes is not None and not hasattr(encoders["bpe"], "bpe_codes"):
        problems.append(f"--bpe-codes does not belong to --bpe {config.bpe}")
    if problems:
        raise ConfigError(problems)
    for kind, component in components.items():
        encoders[kind]._name = component.name

    from seqkit.data.preprocess import preprocess

    preprocess(config, log=_log, tokenizer=encoders.get("tokenizer"), bpe=encoders.get("bpe"))


def _log(line: str) -> str:
    stamped = f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S} | INFO | seqkit_cli.preprocess | {line}"
    print(stamped, flush=True)
    return stamped


def _chosen_components(arguments: list[str]) -> dict[str, Component[Any]]:
    """The tokenizer and the subword encoder asked for, whose options become flags."""
    parser = FlagParser(add_help=False)
    everything = set(options_of(PreprocessConfig))
    add_flags(parser, PreprocessConfig, skip=everything - {"tokenizer", "bpe", "bpe_codes", "user_dir"})
    values = vars(parser.parse_known_args(arguments)[0])
    if "user_dir" in values:
        import_user_dir(values["user_dir"])
    names = {"tokenizer": values.get("tokenizer"), "bpe": values.get("bpe")}
    if names["bpe"] is None and "bpe_codes" in values:
        names["bpe"] = "subword_nmt"
    return {kind: registry(kind).get(name) for kind, name in names.items() if name is not None}


def _parser(components: dict[str, Component[Any]]) -> FlagParser:
    parser = FlagParser(
        prog="seqkit-preprocess",
        usage="seqkit-preprocess [flags]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES.format(
            tokenizers=", ".join(registry("tokenizer").names()), encoders=", ".join(registry("bpe").names())
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, PreprocessConfig)
    taken = {*options_of(PreprocessConfig)}
    for kind, component in components.items():
        group = parser.add_argument_group(f"{kind} {component.name}")
        add_flags(group, component.config, skip=taken)
        taken |= set(options_of(component.config))
    add_flags(parser, PassedOverConfig, hidden=True)
    add_flags(parser, CommonConfig, skip=taken, hidden=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
