"""`seqkit-score`: how well a file of hypotheses matches a file of references, with fairseq-score's flags.

Parses, feeds the scorers of `seqkit/scoring/`, prints, and gives the exit code. Needs no torch.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from seqkit.config.base import MISSING, Config, option
from seqkit.config.flags import FlagParser, add_flags, config_from_flags
from seqkit.errors import ConfigError, DataError
from seqkit.registry import registry
from seqkit.scoring.base import Scorer, build_scorer
from seqkit_cli._main import guarded

_DESCRIPTION = "Score hypotheses against references, one sentence on each line."
_EXAMPLES = """\
examples:
  seqkit-score --sys hypotheses.en --ref references.en
  seqkit-score -s hypotheses.en -r references.en --scoring sacrebleu,chrf,ter --sacrebleu-tokenizer 13a
  grep ^D generated.txt | sort -t - -n -k 2 | cut -f 3 | seqkit-score -r references.en --sentence-bleu
"""
_NUMBERS = ("pad", "eos", "unk")
"""Options of scorers that speak of token numbers, which text has none of."""


@dataclass
class ScoreConfig(Config):
    sys: str = option("-", "file of hypotheses; - reads standard input", flags=("-s", "--sys"))
    ref: str = option(MISSING, "file of references", flags=("-r", "--ref"))
    order: int = option(4, "BLEU with n-grams up to this length", low=1, high=4, flags=("-o", "--order"))
    ignore_case: bool = option(False, "lower-case both files first (not for --sacrebleu, as in fairseq)")
    sacrebleu: bool = option(False, "score with sacrebleu instead of fairseq's own BLEU")
    sentence_bleu: bool = option(
        False, "a figure for each sentence instead of one for all", flags=("--sentence-scores", "--sentence-bleu")
    )
    scoring: list[str] | None = option(None, "scorers to use instead of fairseq's BLEU, with commas between")
    json: bool = option(False, "print one JSON object instead of lines of text")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(arguments), "seqkit-score")


def _run(arguments: list[str]) -> int:
    asks_for_help = "-h" in arguments or "--help" in arguments
    names = registry("scoring").names() if asks_for_help else _chosen_scorers(arguments)
    parser = _parser(names)
    values = parser.parse_flags(arguments)
    problems: list[str] = []
    config = config_from_flags(ScoreConfig, values, problems)
    scorer_configs = [config_from_flags(registry("scoring").get(name).config, values, problems) for name in names]
    if problems:
        raise ConfigError(problems)
    for name, scorer_config in zip(names, scorer_configs, strict=True):
        scorer_config._name = name
    scorers = {name: build_scorer(scorer_config) for name, scorer_config in zip(names, scorer_configs, strict=True)}
    if config.ignore_case and config.sacrebleu and not config.scoring:
        print(
            "seqkit-score: note: --ignore-case does not apply to --sacrebleu (as in fairseq-score); "
            "use --sacrebleu-lowercase for that",
            file=sys.stderr,
        )
        config.ignore_case = False
    if config.order != 4 and "bleu" not in names:
        print("seqkit-score: note: --order applies to scoring=bleu alone", file=sys.stderr)

    pairs = _pairs(config)
    if config.sentence_bleu:
        _print_sentences(scorers, pairs, config)
    else:
        _print_corpus(scorers, pairs, config)
    return 0


def _chosen_scorers(arguments: list[str]) -> list[str]:
    """The scorers asked for, in order; the first look at the flags, since each scorer has flags of its own."""
    first = FlagParser(add_help=False)
    add_flags(first, ScoreConfig)
    values = vars(first.parse_known_args(arguments)[0])
    names = [name.strip() for name in str(values.get("scoring", "")).split(",") if name.strip()]
    if values.get("sacrebleu"):
        names.append("sacrebleu")
    names = list(dict.fromkeys(names)) or ["bleu"]
    for name in names:
        registry("scoring").get(name)
    return names


def _parser(names: Iterable[str]) -> FlagParser:
    parser = FlagParser(
        prog="seqkit-score",
        description=_DESCRIPTION,
        epilog=f"{_EXAMPLES}\nscorers: {', '.join(registry('scoring').names())}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, ScoreConfig)
    for name in names:
        group = parser.add_argument_group(f"options of scoring={name}")
        add_flags(group, registry("scoring").get(name).config, skip=_NUMBERS)
    return parser


def _print_corpus(scorers: dict[str, Scorer], pairs: Iterable[tuple[str, str]], config: ScoreConfig) -> None:
    count = 0
    for count, (reference, hypothesis) in enumerate(pairs, start=1):  # noqa: B007 (the count is read after the loop)
        for scorer in scorers.values():
            scorer.add(reference, hypothesis)
    results = {name: _corpus_result(scorer, config.order) for name, scorer in scorers.items()}
    if config.json:
        _print_json({"sentences": count, "scores": results})
    else:
        for result in results.values():
            print(result["text"])


def _print_sentences(scorers: dict[str, Scorer], pairs: Iterable[tuple[str, str]], config: ScoreConfig) -> None:
    sentences: list[dict[str, Any]] = []
    for number, (reference, hypothesis) in enumerate(pairs):
        results = {
            name: _sentence_result(scorer, reference, hypothesis, config.order) for name, scorer in scorers.items()
        }
        if config.json:
            sentences.append({"id": number, "scores": results})
        else:
            for result in results.values():
                print(number, result["text"])
    if config.json:
        _print_json({"sentences": sentences})


def _corpus_result(scorer: Scorer, order: int) -> dict[str, Any]:
    from seqkit.scoring.bleu import Bleu

    if isinstance(scorer, Bleu):
        return {"score": scorer.score(order), "text": scorer.result_string(order)}
    return {"score": scorer.score(), "text": scorer.result_string()}


def _sentence_result(scorer: Scorer, reference: str, hypothesis: str, order: int) -> dict[str, Any]:
    from seqkit.scoring.bleu import Bleu

    if isinstance(scorer, Bleu):
        score, text = scorer.score_sentence(reference, hypothesis, order)
    else:
        score, text = scorer.score_sentence(reference, hypothesis)
    return {"score": score, "text": text}


def _print_json(result: dict[str, Any]) -> None:
    print(json.dumps(result, ensure_ascii=False))


def _pairs(config: ScoreConfig) -> Iterator[tuple[str, str]]:
    """Reference and hypothesis of each sentence.

    Raises:
        DataError: a file is missing, not UTF-8 or empty, or the numbers of lines differ.
    """
    if config.sys == "-" and config.ref == "-":
        raise ConfigError("--sys and --ref cannot both be standard input; give one of them as a file")
    with contextlib.ExitStack() as stack:
        hypotheses, references = (
            list(_lines(stack.enter_context(_opened(path, flag)), path, config.ignore_case))
            for path, flag in ((config.sys, "--sys"), (config.ref, "--ref"))
        )
    if len(hypotheses) != len(references):
        raise DataError(
            f"--sys {config.sys} has {len(hypotheses)} lines and --ref {config.ref} has {len(references)}; "
            "each line of one must belong to the same line of the other"
        )
    if not references:
        raise DataError(f"--sys {config.sys} and --ref {config.ref} are empty; there is nothing to score")
    yield from zip(references, hypotheses, strict=True)


def _opened(path: str, flag: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    if path == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"{flag} {path} cannot be read: {error.strerror}") from error


def _lines(file: IO[bytes], path: str, lower: bool) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number} is not UTF-8 (byte {error.start} of the line)") from error
        yield text.lower() if lower else text


if __name__ == "__main__":
    sys.exit(main())
