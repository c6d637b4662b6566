"""Every command of the README, run as it stands on a small corpus: only its length of training is cut."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORTER = ["common.cpu=true", "optimization.max_epoch=1", "dataset.num_workers=0"]


def blocks() -> list[str]:
    """The indented blocks of the README, lines that a backslash continues joined."""
    found = re.findall(r"(?:^    .*\n(?:^\n(?=    ))?)+", README, flags=re.MULTILINE)
    return [textwrap.dedent(block).replace("\\\n", " ") for block in found]


def commands() -> list[list[str]]:
    """Every `seqkit-…` command line of the README, in blocks and in running text, in its order."""
    lines = [line for block in blocks() for line in block.splitlines()]
    lines += re.findall(r"`(seqkit-\w+ [^`]*=[^`]*)`", README)
    return [shlex.split(line) for line in lines if line.startswith("seqkit-")]


def python_block() -> str:
    match = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert match is not None
    return match[1]


def write_corpus(folder: Path) -> None:
    """Pairs whose target is the source reversed, in files named as in the README."""
    draw = random.Random(1)
    words = ["ein", "mann", "schläft", ".", "zwei", "kinder", "spielen", "hund"]
    for split, size in (("train", 200), ("valid", 20), ("test", 20)):
        pairs = [[draw.choice(words) for _ in range(draw.randint(2, 6))] for _ in range(size)]
        for side, order in (("de", 1), ("en", -1)):
            text = "".join(" ".join(pair[::order]) + "\n" for pair in pairs)
            (folder / f"{split}.{side}").write_text(text, encoding="utf-8")
    (folder / "hypotheses.txt").write_text("ein mann schläft .\n", encoding="utf-8")
    (folder / "references.txt").write_text("ein mann schläft .\n", encoding="utf-8")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    write_corpus(folder)
    return folder


def run(command: list[str], folder: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=folder, env=environment, input=text, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, f"{shlex.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result


def test_the_readme_has_the_commands_this_test_runs() -> None:
    names = {command[0] for command in commands()}
    assert {"seqkit-preprocess", "seqkit-train", "seqkit-generate", "seqkit-interactive", "seqkit-validate"} <= names


def test_commands_and_python_work_in_order(workplace: Path) -> None:
    for command in commands():
        name, arguments = command[0].removeprefix("seqkit-"), command[1:]
        if name == "train" and "--config-name" in arguments:
            # A model of another size: beside the checkpoints that the commands after it use, not in their place.
            arguments = [*arguments, *SHORTER, "checkpoint.save_dir=recipe"]
        elif name == "train" and any("=" in argument for argument in arguments):
            arguments = [*arguments, *SHORTER]
        module = [sys.executable, "-m", f"seqkit_cli.{name}", *arguments]
        result = run(module, workplace, text="ein mann schläft .\n" if name == "interactive" else None)
        assert result.stdout.strip(), shlex.join(command)
    assert (workplace / "checkpoints" / "checkpoint_best.pt").is_file()
    run([sys.executable, "-c", python_block()], workplace)


def test_the_two_make_targets_exist() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for target in re.findall(r"^    make (\w+)", README, flags=re.MULTILINE):
        planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert planned.returncode == 0, planned.stderr


def test_every_linked_file_exists() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link
