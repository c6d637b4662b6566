"""The whole way on one page: make a corpus, preprocess, train, generate, score; then it is yours to talk to.

    python examples/inverse_text_normalization/demo.py          (or: make demo)

Runs seqkit's own commands, each printed before it runs, and writes everything below `demo/`. Run again, it starts anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from make_corpus import main as make_corpus
from tqdm import tqdm

from seqkit.config.compose import compose

RECIPE = "examples/inverse_text_normalization"
PIECES = 1600
SHOWN = 5


class DemoError(Exception):
    """A command failed; its own output says why."""


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="demo", help="folder for everything that is made (default: demo)")
    parser.add_argument("--train", type=int, default=20_000, help="sentence pairs to train on (default: 20000)")
    parser.add_argument("--override", action="append", default=[], help="an override of the recipe, for seqkit-train")
    arguments = parser.parse_args(argv)
    folder = Path(arguments.output)
    try:
        run_demo(folder, arguments.train, arguments.override)
    except DemoError as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    return 0


def run_demo(folder: Path, train_size: int, overrides: list[str]) -> None:
    """All steps, in order."""
    corpus, data, checkpoints = folder / "corpus", folder / "data-bin", folder / "checkpoints"
    for made in (data, checkpoints):
        shutil.rmtree(made, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)

    step("1  A corpus of spoken and written English, made with a fixed seed")
    make_corpus(["--output", str(corpus), "--train", str(train_size)])
    for spoken, written in list(zip(lines(corpus / "train.spoken"), lines(corpus / "train.written"), strict=True))[:2]:
        print(f"   {spoken}\n     -> {written}")

    step("2  Preprocess: subword pieces (every digit its own), dictionary, binary data")
    command(
        "preprocess", "--source-lang", "spoken", "--target-lang", "written", "--trainpref", corpus / "train",
        "--validpref", corpus / "valid", "--testpref", corpus / "test", "--joined-dictionary", "--destdir", data,
        "--train-sentencepiece", PIECES, "--sentencepiece-model-type", "bpe", "--sentencepiece-split-digits",
        log=folder / "preprocess.log",
    )  # fmt: skip

    step(f"3  Train the recipe configs/{RECIPE}.yaml")
    log = folder / "train.jsonl"
    log.unlink(missing_ok=True)
    seconds = train(
        [f"task.data={data}", f"checkpoint.save_dir={checkpoints}", f"common.log_file={log}", *overrides],
        folder / "train.log",
    )
    print(f"   trained in {seconds:.0f} s")
    picture = folder / "loss.png"
    command("plot", log, "--output", picture, "--keys", "loss", "--title", "Spoken to written", log=folder / "plot.log")

    step("4  Generate: phrasings and values that the training never saw")
    decoder = [
        f"common_eval.path={checkpoints / 'checkpoint_best.pt'}",
        f"task.data={data}",
        "bpe=sentencepiece",
        f"bpe.sentencepiece_model={data / 'spm.model'}",
    ]
    command("generate", *decoder, "dataset.gen_subset=test", "generation.beam=1", log=folder / "generate.txt")
    hypotheses = best_hypotheses(folder / "generate.txt")
    (folder / "test.hypotheses").write_text("".join(f"{line}\n" for line in hypotheses), encoding="utf-8")

    step("5  Score")
    scored = folder / "score.txt"
    command(
        "score", "--sys", folder / "test.hypotheses", "--ref", corpus / "test.written", "--scoring", "sacrebleu,wer",
        log=scored,
    )  # fmt: skip
    print(scored.read_text(encoding="utf-8"), end="")
    sources, references = lines(corpus / "test.spoken"), lines(corpus / "test.written")
    right = sum(found == wanted for found, wanted in zip(hypotheses, references, strict=True))
    print(f"Exact match: {100 * right / len(references):.1f}% ({right} of {len(references)} sentences)")
    for source, found in list(zip(sources, hypotheses, strict=True))[:SHOWN]:
        print(f"   {source}\n     -> {found}")

    step("6  Your turn: type this, then a line of spoken English (Ctrl-D ends it)")
    print(f"   {as_typed('interactive', decoder)}")


def step(title: str) -> None:
    """A heading."""
    print(f"\n== {title}", flush=True)


def lines(file: Path) -> list[str]:
    """The lines of a text file."""
    return file.read_text(encoding="utf-8").splitlines()


def as_typed(name: str, words: list[str]) -> str:
    """A command as one would type it in this shell."""
    script = Path(sys.executable).with_name(f"seqkit-{name}")
    if shutil.which(script.name) is not None:
        program = script.name
    elif script.exists():
        program = os.path.relpath(script)
    else:
        program = f"{sys.executable} -m seqkit_cli.{name}"
    return f"{program} {shlex.join(words)}"


def command(name: str, *arguments: Any, log: Path) -> None:
    """Run a command of seqkit to its end, its output in a file.

    Raises:
        DemoError: it failed.
    """
    words = [str(argument) for argument in arguments]
    print(f"$ {as_typed(name, words)}", flush=True)
    with open(log, "w", encoding="utf-8") as file:
        code = subprocess.run([sys.executable, "-m", f"seqkit_cli.{name}", *words], stdout=file, check=False).returncode
    if code:
        raise DemoError(f"seqkit-{name} failed with exit code {code}; what it printed is in {log}")


def train(overrides: list[str], log: Path) -> float:
    """Run seqkit-train behind a progress bar, which its JSON log lines move; returns the seconds it took.

    Raises:
        DemoError: it failed.
    """
    updates = compose(RECIPE, overrides).optimization.max_update
    words = ["--config-name", RECIPE, *overrides]
    print(f"$ {as_typed('train', words)}", flush=True)
    start = time.monotonic()
    shape = "{desc}: {percentage:3.0f}%|{bar}| update {n_fmt} of {total_fmt}, {elapsed}<{remaining}{postfix}"
    with (
        open(log, "w", encoding="utf-8") as file,
        tqdm(total=updates, desc="training", bar_format=shape) as bar,
        subprocess.Popen(
            [sys.executable, "-m", "seqkit_cli.train", *words, "common.log_format=json"],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            figures = json_of(line)
            if "update" in figures:
                bar.set_postfix_str(f"epoch {figures['epoch']}, perplexity {figures['ppl']}", refresh=False)
                bar.update(int(figures["num_updates"]) - bar.n)
            elif "valid_ppl" in figures:
                bar.write(f"   after epoch {figures['epoch']}: validation perplexity {figures['valid_ppl']}")
    if process.returncode:
        raise DemoError(f"seqkit-train failed with exit code {process.returncode}; what it printed is in {log}")
    return time.monotonic() - start


def json_of(line: str) -> dict[str, Any]:
    """The figures of a JSON log line; none of another line."""
    brace = line.find("{")
    if brace < 0:
        return {}
    try:
        figures = json.loads(line[brace:])
    except json.JSONDecodeError:
        return {}
    return figures if isinstance(figures, dict) else {}


def best_hypotheses(output: Path) -> list[str]:
    """The best hypothesis of each sentence, in the order of the data, from what seqkit-generate printed."""
    found: dict[int, str] = {}
    for line in lines(output):
        mark, _, rest = line.partition("-")
        if mark == "D":
            number, _, text = rest.split("\t")
            found.setdefault(int(number), text)
    return [found[number] for number in sorted(found)]


if __name__ == "__main__":
    sys.exit(main())
