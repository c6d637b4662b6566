"""What all Hydra commands share, as a user meets it: help, errors, exit codes, `--cfg`, sweeps, completion."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tqdm import tqdm

from seqkit import __version__
from seqkit.config.root import RootConfig
from seqkit.config.validate import to_dict
from seqkit.errors import UserError
from seqkit_cli._main import run
from tests.unit.config.fakes import PLAIN, register_toys

COMMANDS = ["train", "generate", "interactive", "validate", "eval_lm"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
HEAVY = ("torch", "hydra", "omegaconf", "numpy")


@pytest.fixture(autouse=True)
def _toys_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield from register_toys()


class Recorder:
    """A command's main function that keeps what it was called with."""

    def __init__(self, code: int = 0) -> None:
        self.configs: list[RootConfig] = []
        self.code = code

    def __call__(self, config: RootConfig) -> int:
        self.configs.append(config)
        logging.getLogger("seqkit.test").info("running")
        return self.code


def call(main: Recorder, *argv: str, **settings: object) -> int:
    return run(main, "seqkit-fake", "Does nothing.", argv, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_imports_nothing_heavy(command: str) -> None:
    code = (
        "import contextlib, io, sys\n"
        f"from seqkit_cli.{command} import main\n"
        "text = io.StringIO()\n"
        "with contextlib.redirect_stdout(text):\n"
        "    assert main(['--help']) == 0\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert 'label_smoothed_cross_entropy' in text.getvalue() and 'optimization' in text.getvalue()\n"
        "assert 'translation/multi30k_de_en' in text.getvalue()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=ENVIRONMENT)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs_as_a_module(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", f"seqkit_cli.{command}", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        env=ENVIRONMENT,
    )
    assert (result.returncode, result.stdout) == (0, f"seqkit-{command.replace('_', '-')} {__version__}\n")


def test_help_on_a_topic(capsys: pytest.CaptureFixture[str]) -> None:
    main = Recorder()
    assert call(main, "--help", "optimizer=toy_optimizer") == 0
    text = capsys.readouterr().out
    assert "optimizer=toy_optimizer: The toy_optimizer." in text
    assert "optimizer.toy_betas  (a list of numbers; at least 0 and at most 1; default: [0.9, 0.999])" in text
    assert "optimizer.lr  (a list of numbers; default: as optimization.lr)" in text
    assert call(main, "--help", "dataset.max_tokens") == 0
    assert capsys.readouterr().out.count("dataset.") == 1
    assert call(main, "--help", "optimizer") == 0
    assert "other_optimizer" in capsys.readouterr().out
    assert call(main, "--help", "datset") == 2
    assert "there is no help on 'datset'; did you mean 'dataset'?" in capsys.readouterr().err
    assert main.configs == []


def test_a_run_hands_over_the_config_and_its_exit_code_and_leaves_nothing_behind(tmp_path: Path) -> None:
    main = Recorder(code=3)
    assert call(main, *PLAIN, "dataset.max_tokens=5", "task=toy_task", "task.data=x") == 3
    assert main.configs[0].dataset.max_tokens == 5
    assert main.configs[0].given["task"] == {"_name": "toy_task", "data": "x"}
    assert list(tmp_path.iterdir()) == []
    assert Path.cwd() == tmp_path


def test_mistakes_are_one_message_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    main = Recorder()
    assert call(main, *PLAIN, "optimizer=toy_optimzer", "dataset.max_tokns=1", "common.seed=x") == 2
    captured = capsys.readouterr()
    assert captured.err == (
        "seqkit-fake: error: 3 problems in the configuration:\n"
        "  - unknown optimizer 'toy_optimzer'; did you mean 'toy_optimizer' or 'other_optimizer'?\n"
        "  - common.seed='x' is not a whole number\n"
        "  - unknown option dataset.max_tokns; did you mean dataset.max_tokens or dataset.max_tokens_valid?\n"
    )
    assert captured.out == ""
    assert main.configs == []


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ["--max-tokens", "4"],
            "unknown argument --max-tokens; write dataset.max_tokens=VALUE; see seqkit-fake --help",
        ),
        (["--arch", "x"], "unknown argument --arch; write model=NAME"),
        (["--cfg", "jb"], "invalid choice: 'jb'"),
        (["data-bin"], "'data-bin' is not an override"),
        (["--config-name", "nothing"], "there is no config 'nothing'"),
        (["--config-dir", "nowhere"], "--config-dir=nowhere is not a folder"),
        (["common.seed=range(1,3)"], "requires --multirun"),
        (["~dataset.batch_size"], "Could not delete from config"),
    ],
)
def test_arguments_that_cannot_be_used(argv: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(Recorder(), *argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("seqkit-fake: error: ")
    assert text in error
    assert "Traceback" not in error


def test_required_components(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(Recorder(), *PLAIN, required=("task", "optimizer")) == 2
    assert "no optimizer is chosen; choose one with optimizer=NAME (" in capsys.readouterr().err


def test_a_command_that_reads_a_checkpoint_needs_no_component() -> None:
    main = Recorder()
    assert call(main, "task.data=y", "criterion.label_smoothing=0.2", from_checkpoint=True) == 0
    assert main.configs[0].task is None
    assert main.configs[0].given == {"task": {"data": "y"}, "criterion": {"label_smoothing": 0.2}}


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (UserError("wrong data"), 2, "seqkit-fake: error: wrong data\n"),
        (KeyboardInterrupt(), 130, "seqkit-fake: interrupted\n"),
        (RuntimeError("a bug"), 1, "RuntimeError: a bug\n"),
    ],
)
def test_what_a_command_raises(raised: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(config: RootConfig) -> int:
        raise raised

    assert run(fail, "seqkit-fake", "Fails.", PLAIN) == code
    error = capsys.readouterr().err
    assert error.endswith(text)
    assert ("Traceback" in error) is (code == 1)


def test_a_reader_that_goes_away_is_no_failure() -> None:
    code = (
        "import sys\nfrom seqkit_cli._main import guarded\n"
        "def work():\n    for _ in range(100000):\n        print('x' * 100)\n    return 0\n"
        "sys.exit(guarded(work, 'seqkit-fake'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (141, b"")


def test_cfg_job_prints_a_config_that_can_be_fed_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*PLAIN, "task=toy_task", "optimizer=toy_optimizer", "optimization.lr=[1e-3]", "common.log_file='1e-4'"]
    assert call(Recorder(), *argv, "task.data=x", "--cfg", "job") == 0
    text = capsys.readouterr().out
    content = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(content, dict)
    assert content["optimizer"] == {
        "_name": "toy_optimizer",
        "toy_betas": [0.9, 0.999],
        "weight_decay": 0.0,
        "lr": [1e-3],
    }
    assert content["generation"]["beam"] == 5
    (tmp_path / "all.yaml").write_text(text)
    main = Recorder()
    assert call(main, "--config-name", "all.yaml") == 0
    assert to_dict(main.configs[0]) == content
    assert call(main, "--config-name", "all", "--config-dir", str(tmp_path), "--cfg", "job", "-p", "optimizer") == 0
    assert OmegaConf.create(capsys.readouterr().out) == {"optimizer": content["optimizer"]}
    assert call(main, *PLAIN, "--cfg", "hydra") == 0
    assert "hydra:" in capsys.readouterr().out


def test_a_sweep_runs_each_job_in_a_folder_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = Recorder()
    argv = [*PLAIN, "optimizer=toy_optimizer,other_optimizer", "optimization.lr=0.1,0.2", "bpe=null"]
    assert call(main, *argv, "checkpoint.save_dir=ck", "hydra.sweep.dir=sweep", "-m") == 0
    folder = tmp_path / "sweep"
    assert [config.checkpoint.save_dir for config in main.configs] == [
        str(folder / str(job) / "ck") for job in range(4)
    ]
    assert [config.optimizer._name for config in main.configs if config.optimizer] == [
        "toy_optimizer",
        "toy_optimizer",
        "other_optimizer",
        "other_optimizer",
    ]
    assert [config.optimization.lr for config in main.configs] == [[0.1], [0.2]] * 2
    assert "Launching 4 jobs locally" in capsys.readouterr().err
    assert Path.cwd() == tmp_path
    assert not logging.getLogger("seqkit.test").disabled


def test_a_sweep_over_an_unknown_component_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    main = Recorder()
    assert call(main, *PLAIN, "optimizer=toy_optimizer,adm", "-m") == 2
    assert "unknown optimizer 'adm'; did you mean 'adam'" in capsys.readouterr().err
    assert main.configs == []


def test_a_failing_job_of_a_sweep_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(Recorder(), *PLAIN, "dataset.batch_size=1,x", "hydra.sweep.dir=sweep", "-m") == 2
    assert "seqkit-fake: error: dataset.batch_size='x' is not a whole number or null" in capsys.readouterr().err


def test_a_run_folder_that_is_asked_for_is_made(tmp_path: Path) -> None:
    main = Recorder(code=4)
    assert call(main, *PLAIN, "hydra.run.dir=runs/${common.seed}", "common_eval.results_path=/abs") == 4
    assert main.configs[0].checkpoint.save_dir == str(tmp_path / "runs" / "1" / "checkpoints")
    assert main.configs[0].common_eval.results_path == "/abs"
    assert (tmp_path / "runs" / "1" / ".hydra" / "config.yaml").is_file()


def test_a_dry_run_is_one_job_and_makes_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main, trial = Recorder(code=3), Recorder(code=4)
    assert call(main, *PLAIN, "--dry-run", "dataset.max_tokens=7", "hydra.run.dir=runs/1", dry_run=trial) == 4
    assert main.configs == []
    assert trial.configs[0].dataset.max_tokens == 7
    assert list(tmp_path.iterdir()) == []
    assert call(main, *PLAIN, dry_run=trial) == 3
    for sweep in (["common.seed=1,2", "-m"], ["hydra.mode=MULTIRUN", "common.seed=1,2"]):
        assert call(main, *PLAIN, "--dry-run", *sweep, dry_run=trial) == 2
        assert "--dry-run is for one job, not for a sweep" in capsys.readouterr().err
    assert call(main, "--help", dry_run=trial) == 0
    assert "--dry-run" in capsys.readouterr().out
    assert call(main, *PLAIN, "--dry-run") == 2
    assert "unknown argument --dry-run" in capsys.readouterr().err
    assert call(main, "--help") == 0
    assert "--dry-run" not in capsys.readouterr().out
    assert len(trial.configs) == 1


def test_log_lines_do_not_run_into_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)

    def main(config: RootConfig) -> int:
        for _ in tqdm([1], file=sys.stderr, desc="bar", leave=False):
            logging.getLogger("seqkit.test").info("a line")
        return 0

    assert run(main, "seqkit-fake", "Does nothing.", PLAIN, log_stream=terminal) == 0
    drawn = terminal.getvalue()
    before, _, after = drawn.partition("2")
    assert before.rpartition("\r")[2].strip() == "", "the bar was wiped before the line"
    assert "a line\n" in after
    assert "bar" in after.partition("a line\n")[2], "and is drawn again below it"


def test_the_log_goes_to_its_stream_and_logging_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    handlers = list(logging.getLogger().handlers)
    assert call(Recorder(), *PLAIN) == 0
    assert call(Recorder(), *PLAIN, log_stream=sys.stdout) == 0
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert text.count(" | INFO | seqkit.test | running\n") == 1
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("optimizer=toy", "optimizer=toy_optimizer"),
        ("optimizer=toy_optimizer optimizer.toy", "optimizer.toy_betas="),
        ("optimizer=toy_optimizer optimizer.toy_betas=", "optimizer.toy_betas=[0.9,0.999]"),
        ("dataset.max_tok", "dataset.max_tokens= dataset.max_tokens_valid="),
        ("optimi", "optimization. optimizer="),
        ("optimizer=nonsense(((", ""),
    ],
)
def test_shell_completion(
    line: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", f"seqkit-fake {line}")
    assert call(Recorder(), "-sc", "query=bash") == 0
    assert capsys.readouterr().out.strip() == expected


def test_completion_of_names_imports_no_component() -> None:
    code = (
        "import sys\nfrom seqkit_cli._main import run\n"
        "run(lambda config: 0, 'seqkit-train', '', ['-sc', 'query=bash'])\n"
        "assert 'torch' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**ENVIRONMENT, "COMP_LINE": "seqkit-train optimizer=ada"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split()[:2] == ["optimizer=adadelta", "optimizer=adafactor"]


def test_completion_can_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(Recorder(), "-sc", "install=bash") == 0
    assert "hydra_bash_completion" in capsys.readouterr().out
    assert call(Recorder(), "-sc", "install=nosuch") == 2
