"""What all Hydra commands share: arguments, help, errors, exit codes, logging, sweeps.

A command is `run(main, "seqkit-train", "…")`, where `main` takes the composed `RootConfig` and returns an exit code.
Knows nothing of what a command does. Hydra is imported only once a config is needed, torch never.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

import seqkit
from seqkit.config.root import RootConfig
from seqkit.config.validate import to_dict
from seqkit.errors import UserError
from seqkit_cli._help import overview, topic_help, unknown_flag_hint
from seqkit_cli._threads import wait_briefly

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from seqkit.config._hydra import ConfigLoader

Main = Callable[[RootConfig], int]

INTERRUPTED = 130
BROKEN_PIPE = 141

_HYDRAS_RUN_DIR = "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}"
_COMMANDS_OF_FAIRSEQ = ("train", "generate", "interactive", "validate", "eval-lm")
_OUTPUT_PATHS = (
    ("checkpoint", "save_dir"),
    ("common", "profile_dir"),
    ("common", "tensorboard_logdir"),
    ("common", "log_file"),
    ("common_eval", "results_path"),
)
"""Options naming what a job writes: in a job with a folder of its own, relative ones lie in that folder."""


def run(
    main: Main,
    command: str,
    description: str,
    argv: Sequence[str] | None = None,
    *,
    required: Collection[str] = (),
    from_checkpoint: bool = False,
    examples: Sequence[str] = (),
    log_stream: TextIO | None = None,
    dry_run: Main | None = None,
) -> int:
    """Run a command from its command line: Hydra's overrides, or the flags of fairseq's command of that name.

    Args:
        main: what to do with the composed config; returns the exit code.
        command: the command's name, as typed.
        description: one or two sentences for `--help`.
        argv: the arguments; by default those of the process.
        required: kinds of component that must be chosen (`("task", "model", "optimizer")`).
        from_checkpoint: the task and model come from a checkpoint, so options that have no default may be left out;
            `config.given` tells what was given.
        examples: complete command lines for `--help`.
        log_stream: where log lines go; standard error by default.
        dry_run: called in place of `main` where `--dry-run` is given; without it, the command has no such flag.

    Returns:
        0 done, 1 a failure (with its traceback), 2 the user's mistake (one message on standard error),
        130 interrupted, 141 the reader of the output went away.
    """
    wait_briefly()
    arguments = sys.argv[1:] if argv is None else list(argv)
    called = _Command(main, command, description, required, from_checkpoint, examples, log_stream, dry_run)
    return guarded(lambda: called.run(arguments), command)


def guarded(work: Callable[[], int], command: str) -> int:
    """Run `work` and turn what it raises into a message and an exit code (see `run`). Serves every command."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{command}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has nowhere to go; without this, Python complains at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception:
        traceback.print_exc()
        return 1


class _Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose complaints are `UserError`s."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")

    def long_flags(self) -> list[str]:
        """The spellings of all flags that begin with two dashes."""
        return [spelling for spelling in self._option_string_actions if spelling.startswith("--")]

    def values_of(self, spelling: str) -> int | str | None:
        """How many values a flag takes ("?": one that may be left out); None where there is no such flag."""
        action = self._option_string_actions.get(spelling)
        if action is None:
            return None
        return 1 if action.nargs is None else action.nargs


def _parser(command: str, *, dry_run: bool) -> _Parser:
    parser = _Parser(prog=command, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--help", "-h", nargs="?", const="", metavar="TOPIC")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--config-name", "-cn", metavar="NAME")
    parser.add_argument("--config-dir", "-cd", "--config-path", "-cp", action="append", default=[], metavar="DIR")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--run", "-r", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--print-config", action="store_true")
    parser.add_argument("--package", "-p", metavar="SECTION")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("--hydra-help", action="store_true")
    if dry_run:
        parser.add_argument("--dry-run", action="store_true")
    else:
        parser.set_defaults(dry_run=False)
    return parser


class _Command:
    """One call of a command."""

    def __init__(
        self,
        main: Main,
        command: str,
        description: str,
        required: Collection[str],
        from_checkpoint: bool,
        examples: Sequence[str],
        log_stream: TextIO | None,
        dry_run: Main | None,
    ) -> None:
        self.main = main
        self.command = command
        self.description = description
        self.required = required
        self.from_checkpoint = from_checkpoint
        self.examples = examples
        self.log_stream = log_stream
        self.dry_run = dry_run

    def run(self, argv: Sequence[str]) -> int:
        parser = _parser(self.command, dry_run=self.dry_run is not None)
        own, others = _own_words(parser, argv)
        flags = others if _are_flags(others) and self._takes_flags() else []
        arguments, unknown = parser.parse_known_intermixed_args(own if flags else argv)
        if unknown:
            raise UserError(f"unknown argument {unknown[0]}{unknown_flag_hint(unknown[0])}; see {self.command} --help")
        if arguments.version:
            print(f"{self.command} {seqkit.__version__}")
            return 0
        if arguments.help is not None:
            topics = [topic for topic in [arguments.help, *arguments.overrides] if topic]
            text = overview(
                self.command,
                self.description,
                self.examples,
                dry_run=self.dry_run is not None,
                flags=self._takes_flags(),
            )
            print("\n\n".join(topic_help(topic, self.command) for topic in topics) if topics else text)
            return 0
        return self._with_hydra(parser, arguments, flags)

    def _takes_flags(self) -> bool:
        return self.command.removeprefix("seqkit-") in _COMMANDS_OF_FAIRSEQ

    def _with_hydra(self, parser: _Parser, arguments: argparse.Namespace, flags: list[str]) -> int:
        from seqkit.config._hydra import COMPOSITION_ERRORS, CompletionLoader, ConfigLoader
        from seqkit.config.compose import load_user_dir, told

        name, folders = _named_file(arguments.config_name, arguments.config_dir)
        loader = (CompletionLoader if arguments.shell_completion else ConfigLoader)(folders)
        overrides: list[str] = arguments.overrides
        try:
            if arguments.shell_completion:
                return self._complete(loader, name, overrides)
            if flags:
                arguments.overrides = overrides = self._overrides_of(flags, loader, name, parser)
            load_user_dir(loader, name, overrides)
            if arguments.print_config:
                return self._print_given(loader, name, overrides)
            if arguments.cfg == "job":
                return self._print_config(loader, name, overrides, arguments.package)
            if arguments.cfg or arguments.info or arguments.hydra_help:
                return self._ask_hydra(loader, name, parser, arguments)
            if arguments.dry_run:
                return self._run_dry(loader, name, overrides, multirun=arguments.multirun)
            if arguments.multirun:
                return self._run_many(loader, name, overrides)
            return self._run_one(loader, name, overrides)
        except COMPOSITION_ERRORS as error:
            raise UserError(told(error)) from error

    def _overrides_of(self, flags: list[str], loader: ConfigLoader, name: str | None, parser: _Parser) -> list[str]:
        """fairseq's flags as Hydra overrides. A config file or overrides beside them may choose the components."""
        from seqkit.config.compose import load_user_dir
        from seqkit.interop.fairseq.flags import is_override, to_overrides

        overrides = [word for word in flags if is_override(word)]
        load_user_dir(loader, name, overrides)
        chosen = loader.chosen_components(name, overrides)
        return to_overrides(
            self.command.removeprefix("seqkit-"),
            flags,
            chosen=chosen,
            own_flags=parser.long_flags(),
            config_dirs=loader.config_dirs,
        )

    def _run_one(self, loader: ConfigLoader, name: str | None, overrides: list[str]) -> int:
        from hydra._internal.callbacks import Callbacks
        from hydra.core.utils import run_job
        from hydra.types import HydraContext, RunMode

        full = loader.load_configuration(name, overrides, RunMode.RUN)
        if full.hydra.mode == RunMode.MULTIRUN:
            return self._run_many(loader, name, overrides)
        if full.hydra.run._get_node("dir")._value() == _HYDRAS_RUN_DIR:
            # Nobody asked for a folder of the run: none is made.
            return self._run_main(self._composed(loader, name, overrides, full))
        self._composed(loader, name, overrides, full)  # what is wrong with it is told before a folder is made
        context = HydraContext(config_loader=loader, callbacks=Callbacks(full))
        codes: list[int] = []
        result = run_job(
            task_function=self._job(loader, name, codes),
            config=full,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=context,
            configure_logging=False,
        )
        if isinstance(result._return_value, Exception):
            raise result._return_value  # `return_value` would print lines of its own first
        return max(codes)

    def _run_dry(self, loader: ConfigLoader, name: str | None, overrides: list[str], *, multirun: bool) -> int:
        """One job, for which no folder is made even where one is asked for."""
        from hydra.types import RunMode

        full = loader.load_configuration(name, overrides, RunMode.MULTIRUN if multirun else RunMode.RUN)
        if multirun or full.hydra.mode == RunMode.MULTIRUN:
            raise UserError("--dry-run is for one job, not for a sweep; give one value of each option")
        assert self.dry_run is not None
        return self._run_main(self._composed(loader, name, overrides, full), self.dry_run)

    def _run_many(self, loader: ConfigLoader, name: str | None, overrides: list[str]) -> int:
        from hydra._internal.hydra import Hydra

        codes: list[int] = []
        quiet = [
            f"hydra/{group}=none"
            for group in ("job_logging", "hydra_logging")
            if not any(line.startswith(f"hydra/{group}=") for line in overrides)
        ]
        with command_logging(self.log_stream):
            batches = Hydra(task_name=self.command, config_loader=loader).multirun(
                name, self._job(loader, name, codes), [*overrides, *quiet], with_log_configuration=False
            )
        # Jobs of a launcher that runs them elsewhere (SLURM) leave no code here, but return it.
        returned = [job.return_value for batch in batches or () for job in batch]
        return max([*codes, *(code for code in returned if isinstance(code, int))], default=0)

    def _job(self, loader: ConfigLoader, name: str | None, codes: list[int]) -> Callable[[DictConfig], int]:
        """The function that Hydra calls for each job, with the job's own config."""

        def job(full: DictConfig) -> int:
            from hydra.core.hydra_config import HydraConfig

            hydra = HydraConfig.get()
            config = self._composed(loader, name, [str(line) for line in hydra.overrides.task], full)
            _move_outputs(config, Path(hydra.runtime.output_dir))
            code = self._run_main(config)
            codes.append(code)
            return code

        return job

    def _composed(
        self, loader: ConfigLoader, name: str | None, overrides: list[str], full: DictConfig | None
    ) -> RootConfig:
        from seqkit.config.compose import compose_with

        return compose_with(loader, name, overrides, full=full, partial=self.from_checkpoint, required=self.required)

    def _run_main(self, config: RootConfig, main: Main | None = None) -> int:
        from seqkit_cli._memory import keep_freed_memory

        keep_freed_memory()
        with command_logging(self.log_stream):
            return (main or self.main)(config)

    def _print_config(self, loader: ConfigLoader, name: str | None, overrides: list[str], package: str | None) -> int:
        from omegaconf import OmegaConf

        from seqkit.config.compose import compose_with

        content = to_dict(compose_with(loader, name, overrides, missing_allowed=True, partial=self.from_checkpoint))
        if package not in (None, "_global_"):
            if package not in content:
                raise UserError(f"--package={package} is no section; there are: {', '.join(content)}")
            content = {package: content[package]}
        print(OmegaConf.to_yaml(OmegaConf.create(content)), end="")
        return 0

    def _print_given(self, loader: ConfigLoader, name: str | None, overrides: list[str]) -> int:
        """Print what was given as a YAML file that gives the same; what has its default is left out."""
        from omegaconf import OmegaConf

        from seqkit.config.compose import compose_with

        config = compose_with(loader, name, overrides, missing_allowed=True, partial=self.from_checkpoint)
        content = {section: values for section in to_dict(config) if (values := config.given.get(section))}
        print("# @package _global_")
        print(OmegaConf.to_yaml(OmegaConf.create(content)), end="")
        return 0

    def _ask_hydra(self, loader: ConfigLoader, name: str | None, parser: _Parser, arguments: argparse.Namespace) -> int:
        from hydra._internal.hydra import Hydra

        hydra = Hydra(task_name=self.command, config_loader=loader)
        if arguments.hydra_help:
            hydra.hydra_help(config_name=name, args_parser=parser, args=arguments)
        elif arguments.info:
            hydra.show_info(arguments.info, config_name=name, overrides=arguments.overrides)
        else:
            hydra.show_cfg(name, arguments.overrides, arguments.cfg, arguments.package, resolve=arguments.resolve)
        return 0

    def _complete(self, loader: ConfigLoader, name: str | None, overrides: list[str]) -> int:
        from hydra._internal.hydra import Hydra

        words = os.environ.get("COMP_LINE", "").split()
        for flag, value in itertools.pairwise(words):
            if flag in ("--config-name", "-cn"):
                name = value
        try:
            Hydra(task_name=self.command, config_loader=loader).shell_completion(name, overrides)
        except UserError:
            # A line that is wrong so far has no continuation; a message would land in the user's prompt.
            return 0
        except ValueError as error:
            raise UserError(str(error)) from error
        return 0


def _own_words(parser: _Parser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own flags (and Hydra's) with their values, and all other words."""
    own: list[str] = []
    others: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        spelling, equals, _ = word.partition("=")
        values = parser.values_of(spelling)
        if values is None:
            others.append(word)
            continue
        own.append(word)
        if not equals and words and (values == 1 or (values == "?" and not words[0].startswith("-"))):
            own.append(words.pop(0))
    return own, others


def _are_flags(words: Sequence[str]) -> bool:
    """Whether words are fairseq's grammar: flags, or a positional argument that cannot be an override."""
    return any(word == "-" or word.startswith("-") or ("=" not in word and word[:1] != "~") for word in words)


def _named_file(name: str | None, folders: Sequence[str]) -> tuple[str | None, list[str]]:
    """A `--config-name` that is the path of a file means that file's folder and name."""
    if name is not None and name.endswith((".yaml", ".yml")):
        path = Path(name)
        if path.is_file() and not any((Path(folder) / name).is_file() for folder in folders):
            return path.stem, [str(path.parent), *folders]
        return path.with_suffix("").as_posix(), list(folders)
    return name, list(folders)


def _move_outputs(config: RootConfig, folder: Path) -> None:
    for section, option in _OUTPUT_PATHS:
        part = getattr(config, section)
        value = getattr(part, option)
        if value:
            setattr(part, option, str(folder / value))


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # not subscriptable at run time in Python 3.10
    """The one handler of a running command. Its lines do not run into progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        with contextlib.nullcontext() if bars is None else bars.tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@contextlib.contextmanager
def command_logging(stream: TextIO | None) -> Iterator[None]:
    """Log lines of level `LOGLEVEL` (INFO) and above go to `stream`, in fairseq's layout, while a command runs."""
    root = logging.getLogger()
    if any(isinstance(handler, _Handler) for handler in root.handlers):
        yield
        return
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s | %(levelname)s | %(name)s | %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    )
    before = root.level
    level = logging.getLevelName(os.environ.get("LOGLEVEL", "INFO").upper())
    root.addHandler(handler)
    root.setLevel(level if isinstance(level, int) else logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
