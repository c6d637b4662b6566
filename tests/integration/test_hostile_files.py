"""Files that would create a file if they were unpickled: whichever command is told to read one, nothing is made."""

from __future__ import annotations

import io
import pickle
import random
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from seqkit.checkpoint import io as checkpoint_io
from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.errors import UserError
from seqkit.hub import from_pretrained
from seqkit_cli.average import main as average
from seqkit_cli.convert import main as convert
from seqkit_cli.eval_lm import main as eval_lm
from seqkit_cli.export import main as export
from seqkit_cli.generate import main as generate
from seqkit_cli.interactive import main as interactive
from seqkit_cli.preprocess import main as preprocess
from seqkit_cli.score import main as score
from seqkit_cli.train import main as train
from seqkit_cli.validate import main as validate

Command = Callable[[Sequence[str]], int]

MADE = "made_by_a_pickle"
START = (
    "bin --arch transformer_tiny --optimizer adam --max-tokens 100 --cpu --num-workers 0 --no-progress-bar "
    "--encoder-layers 1 --decoder-layers 1 --max-update 1 --no-epoch-checkpoints "
)
LM = "lm --task language_modeling --arch transformer_lm --optimizer adam --tokens-per-sample 16 --max-tokens 64 --cpu "
LM += "--decoder-layers 1 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 --decoder-attention-heads 2 "
LM += "--num-workers 0 --no-progress-bar --max-update 1 --no-epoch-checkpoints "


class Hostile:
    """Unpickled without restrictions, it makes a file."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (MADE, "w"))


def run(main: Command, line: str) -> int:
    return main(shlex.split(line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with data, a translation model and a language model; and hostile files of every kind."""
    folder = tmp_path_factory.mktemp("work")
    rng = random.Random(1)
    for split, count in (("train", 30), ("valid", 4), ("test", 4)):
        lines = [" ".join(rng.choice("abcdef") for _ in range(rng.randint(2, 7))) for _ in range(count)]
        for lang in ("de", "en", "txt"):
            (folder / f"{split}.{lang}").write_text("".join(f"{line}\n" for line in lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        both = "--trainpref train --validpref valid --testpref test --workers 1"
        assert run(preprocess, f"-s de -t en {both} --joined-dictionary --destdir bin") == 0
        one = "--only-source --trainpref train.txt --validpref valid.txt --testpref test.txt --workers 1"
        assert run(preprocess, f"{one} --srcdict bin/dict.en.txt --destdir lm") == 0
        assert run(train, f"{START} --save-dir good") == 0
        assert run(train, f"{LM} --save-dir good_lm") == 0
        content: dict[str, object] = {"args": None, "cfg": {}, "model": {}, "extra": Hostile()}
        torch.save(content, "bad.pt")
        torch.save(content, "legacy.pt", _use_new_zipfile_serialization=False)
        (folder / "bare.pt").write_bytes(pickle.dumps(Hostile()))
        torch.save({**content, "cfg": {"model": Hostile()}}, "in_the_config.pt")
        patch.setattr(checkpoint_io, "_require_plain", lambda value, where: None)
        state = read_checkpoint("good/checkpoint_best.pt")
        state.extra["evil"] = Hostile()
        write_checkpoint("sealed.pt", state)
        for name in ("last", "folder"):
            (folder / name).mkdir()
            (folder / name / "checkpoint_last.pt").write_bytes((folder / "bad.pt").read_bytes())
        (folder / "folder" / "dict.de.txt").write_bytes((folder / "bin/dict.de.txt").read_bytes())
        (folder / "folder" / "dict.en.txt").write_bytes((folder / "bin/dict.en.txt").read_bytes())
    assert not (folder / MADE).exists()
    return folder


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def refused(main: Command, line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must refuse; returns its one error."""
    capsys.readouterr()
    before = set(folder.rglob("never*.*"))
    assert run(main, line) == 2, line
    captured = capsys.readouterr()
    assert not (folder / MADE).exists(), line
    assert "Traceback" not in captured.out + captured.err, line
    assert captured.err.count("error:") == 1, captured.err
    assert set(folder.rglob("never*.*")) == before, line
    return captured.err


CHECKPOINT_READERS: list[tuple[Command, str]] = [
    (train, f"{START} --save-dir never --restore-file BAD"),
    (train, f"{START} --save-dir never --finetune-from-model BAD"),
    (train, f"{START} --save-dir never --continue-once BAD"),
    (train, f"{START} --save-dir never --store-ema --ema-seed-model BAD"),
    (generate, "bin --path BAD"),
    (generate, "bin --path good/checkpoint_best.pt:BAD --max-len-b 3 --cpu"),
    (generate, "bin --path good/checkpoint_best.pt --lm-path BAD --lm-weight 0.1 --max-len-b 3 --cpu"),
    (interactive, "bin --path BAD --input valid.de"),
    (interactive, "bin --path good/checkpoint_best.pt --lm-path BAD --lm-weight 0.1 --input valid.de --cpu"),
    (validate, "bin --path BAD"),
    (validate, "common_eval.path=BAD"),
    (eval_lm, "lm --path BAD"),
    (average, "--inputs BAD --output never.pt"),
    (average, "--inputs good/checkpoint_best.pt BAD --output never.pt"),
    (convert, "BAD never.pt"),
    (convert, "BAD never.safetensors"),
    (export, "BAD --data bin --format safetensors --output never"),
    (export, "BAD --data bin --format huggingface --output never"),
]


@pytest.mark.parametrize(("main", "line"), CHECKPOINT_READERS)
def test_no_command_runs_what_a_checkpoint_names(
    main: Command, line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(main, line.replace("BAD", "bad.pt"), folder, capsys)
    assert "bad.pt holds an object of type" in error
    assert "open" in error
    assert "nothing in the file was run" in error


@pytest.mark.parametrize("main", [train, generate, average, convert])
@pytest.mark.parametrize("bad", ["legacy.pt", "in_the_config.pt", "bare.pt", "sealed.pt"])
def test_whatever_the_kind_of_file(main: Command, bad: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = next(line for command, line in CHECKPOINT_READERS if command is main)
    assert bad in refused(main, line.replace("BAD", bad), folder, capsys)


def test_a_run_does_not_go_on_from_a_hostile_last_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "last/checkpoint_last.pt" in refused(train, f"{START} --save-dir last", folder, capsys)


@pytest.mark.parametrize("bad", ["bad.pt", "legacy.pt", "bare.pt", "sealed.pt", "folder/checkpoint_last.pt"])
def test_the_hub_runs_nothing_either(bad: str, folder: Path) -> None:
    with pytest.raises(UserError, match=Path(bad).name):
        from_pretrained(bad, data="bin", cpu=True)
    assert not (folder / MADE).exists()


@pytest.mark.parametrize("ending", ["idx", "bin"])
def test_data_files(ending: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = folder / f"data_{ending}"
    copy.mkdir()
    for file in (folder / "bin").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    hostile = pickle.dumps(Hostile())
    (copy / f"train.de-en.de.{ending}").write_bytes(hostile)
    (copy / f"test.de-en.de.{ending}").write_bytes(hostile)
    line = START.replace("bin ", f"data_{ending} ", 1)
    assert f".{ending}" in refused(train, f"{line} --save-dir never", folder, capsys)
    assert f".{ending}" in refused(generate, f"data_{ending} --path good/checkpoint_best.pt --cpu", folder, capsys)


def numpy_pickle() -> bytes:
    """An array of objects as `numpy.save` writes it."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, np.array([Hostile()], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("content", [pickle.dumps(Hostile()), numpy_pickle()], ids=["pickle", "numpy"])
def test_text_files(content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "evil.txt").write_bytes(content)
    for main, line in (
        (preprocess, "-s de -t en --testpref test --srcdict evil.txt --tgtdict evil.txt --destdir never"),
        (preprocess, "--only-source --trainpref evil.txt --bpe-codes evil.txt --destdir never"),
        (preprocess, "-s de -t en --testpref test --bpe sentencepiece --sentencepiece-model evil.txt --destdir never"),
        (train, f"{START} --save-dir never --encoder-embed-path evil.txt"),
        (generate, "bin --path good/checkpoint_best.pt --bpe subword_nmt --bpe-codes evil.txt --cpu --max-len-b 3"),
        (generate, "bin --path good/checkpoint_best.pt --replace-unk evil.txt --cpu --max-len-b 3"),
        (score, "--sys evil.txt --ref evil.txt"),
    ):
        refused(main, line, folder, capsys)
    run(
        interactive, "bin --path good/checkpoint_best.pt --input evil.txt --cpu --max-len-b 3"
    )  # it may pass lines over
    assert not (folder / MADE).exists()


def test_dictionaries_in_the_data_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = folder / "data_dict"
    copy.mkdir()
    for file in (folder / "bin").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "dict.de.txt").write_bytes(pickle.dumps(Hostile()))
    assert "dict.de.txt" in refused(generate, "data_dict --path good/checkpoint_best.pt --cpu", folder, capsys)


def test_tags_in_yaml(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "evil.yaml").write_text(f"common:\n  log_file: !!python/object/apply:builtins.open ['{MADE}', 'w']\n")
    refused(train, "--config-dir . --config-name evil task=translation task.data=bin model=transformer", folder, capsys)


@pytest.mark.parametrize(
    ("main", "line"),
    [
        (generate, "bin --path good/checkpoint_best.pt --model-overrides \"__import__('os').mkdir('{}')\""),
        (train, f"{START} --save-dir never --eval-bleu --eval-bleu-args \"__import__('os').mkdir('{{}}')\""),
        (train, f"{START} --save-dir never --optimizer-overrides \"__import__('os').mkdir('{{}}')\""),
        (train, f"{START} --save-dir never --adam-betas \"__import__('os').mkdir('{{}}')\""),
        (train, f"{START} --save-dir never --update-freq \"__import__('os').mkdir('{{}}')\""),
    ],
)
def test_values_that_fairseq_evaluated(
    main: Command, line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(main, line.format(MADE), folder, capsys)
