"""`seqkit-interactive`: decode lines that are typed, piped, or in a file.

Composes, loads the models, reads lines, prints what the hub answers, and gives the exit code.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, NamedTuple

from seqkit.config.root import RootConfig
from seqkit.errors import ConfigError, DataError
from seqkit_cli._main import run

logger = logging.getLogger("seqkit-interactive")

_DESCRIPTION = (
    "Decode lines as they are typed or piped in, or the lines of interactive.input. Prints fairseq's S/W/H/D/P lines "
    "in the order of the input, or JSON lines with common_eval.format=json. Task and model come from the checkpoint. "
    "A line that cannot be decoded is told on standard error and stops no other."
)
_EXAMPLES = (
    "seqkit-interactive common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin bpe=subword_nmt "
    "bpe.bpe_codes=codes",
    "seqkit-interactive common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin interactive.input=text.de "
    "interactive.buffer_size=1024 dataset.max_tokens=4096",
    "seqkit-interactive common_eval.path=checkpoints/checkpoint_best.pt task.data=data-bin "
    "generation.constraints=unordered  (each line: the sentence and, behind tabs, what the output must contain)",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run(interactive, "seqkit-interactive", _DESCRIPTION, argv, from_checkpoint=True, examples=_EXAMPLES)


def interactive(config: RootConfig) -> int:
    """Decode as the config says."""
    buffer_size = max(config.interactive.buffer_size, 1)
    if config.dataset.batch_size is None and config.dataset.max_tokens is None:
        config.given.setdefault("dataset", {})["batch_size"] = 1
    elif config.dataset.batch_size is not None and config.dataset.batch_size > buffer_size:
        raise ConfigError(
            f"dataset.batch_size={config.dataset.batch_size} is more than the "
            f"interactive.buffer_size={buffer_size} lines that are read together; raise the buffer to at least that"
        )
    processes = config.distributed_training.distributed_world_size
    if processes is not None and processes > 1:
        raise ConfigError(
            f"distributed_training.distributed_world_size={processes}: lines are decoded as they come, by one process; "
            "leave it out, or preprocess the text and use seqkit-generate"
        )
    with _lines(config.interactive.input) as lines:
        import torch

        from seqkit.generation.output import SentenceResult, json_line, text_lines
        from seqkit.hub import Hub

        hub = Hub.load(config)
        hub.forks = True
        if not config.generation.no_seed_provided:
            torch.manual_seed(config.common.seed)
        as_json = config.common_eval.format == "json"
        read = 0
        for buffer in _buffers(lines, buffer_size):
            answers = hub.answer([line if isinstance(line, str) else "" for line in buffer], first=read)
            for line, result in zip(buffer, answers, strict=True):
                if isinstance(line, _Unreadable):
                    result = SentenceResult(result.id, line.shown, None, [], error=line.reason)
                if result.error is not None:
                    logger.warning("line %d is left out: %s", result.id + 1, result.error)
                elif isinstance(line, str) and not line.strip():
                    logger.warning("line %d is empty; its output is what the model makes of nothing", result.id + 1)
                print(json_line(result) if as_json else "\n".join(text_lines(result, with_time=True)))
            sys.stdout.flush()
            read += len(buffer)
    return 0


class _Unreadable(NamedTuple):
    """A line that is not UTF-8: what can be shown of it, and what is wrong."""

    shown: str
    reason: str

    @classmethod
    def of(cls, error: UnicodeDecodeError) -> _Unreadable:
        shown = error.object.decode("utf-8", "replace").rstrip("\r\n")
        return cls(shown, f"it is not UTF-8 ({error.reason} at byte {error.start})")


_Line = str | _Unreadable


@contextlib.contextmanager
def _lines(source: str) -> Iterator[Iterator[_Line]]:
    """The lines of a file, of standard input, or of what is typed, without white space around them."""
    if source != "-":
        try:
            file = open(source, "rb")  # noqa: SIM115  # closed below
        except OSError as error:
            raise DataError(f"interactive.input={source} cannot be read: {error.strerror}") from None
        with file:
            yield _decoded(file)
    elif sys.stdin.isatty():
        yield _typed()
    else:
        yield _decoded(sys.stdin.buffer)


def _typed() -> Iterator[_Line]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # line editing and history for input()
    print("Type a sentence and press Enter; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            yield input("> ").strip()
        except UnicodeDecodeError as error:
            yield _Unreadable.of(error)
        except EOFError:
            print(file=sys.stderr)
            return


def _decoded(file: BinaryIO) -> Iterator[_Line]:
    # lines end at "\n" alone, as in the files that the model was trained on
    for line in file:
        try:
            yield line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            yield _Unreadable.of(error)


def _buffers(lines: Iterator[_Line], size: int) -> Iterator[list[_Line]]:
    while buffer := list(islice(lines, size)):
        yield buffer


if __name__ == "__main__":
    sys.exit(main())
