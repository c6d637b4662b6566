"""`seqkit-preprocess` from its flags to the files it writes."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from seqkit.data.dictionary import Dictionary
from seqkit.data.indexed_dataset import dataset_exists, open_dataset
from seqkit_cli.preprocess import main

SOURCE = ["ein haus", "das haus ist rot", "", "ein  rotes\u00a0haus"]
TARGET = ["a house", "the house is red", "", "a red house"]


@pytest.fixture(autouse=True)
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with train, valid and test of German and English, as the working folder."""
    for split, lines in (("train", slice(None)), ("valid", slice(0, 2)), ("test", slice(1, 4))):
        (tmp_path / f"{split}.de").write_text("\n".join(SOURCE[lines]) + "\n", encoding="utf-8")
        (tmp_path / f"{split}.en").write_text("\n".join(TARGET[lines]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*flags: str) -> int:
    return main(["-s", "de", "-t", "en", "--destdir", "out", *flags])


def files(folder: str = "out") -> set[str]:
    return set(os.listdir(folder)) - {"preprocess.log"}


def text_of(name: str, dictionary: str) -> list[str]:
    rows, symbols = open_dataset(f"out/{name}"), Dictionary.load(f"out/{dictionary}")
    return [symbols.string(rows[index]) for index in range(len(rows))]


def test_separate_dictionaries(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--trainpref", "train", "--validpref", "valid", "--testpref", "test,valid") == 0
    splits = ("train", "valid", "test", "test1")
    pairs = {
        f"{split}.de-en.{language}.{end}" for split in splits for language in ("de", "en") for end in ("bin", "idx")
    }
    assert files() == {"dict.de.txt", "dict.en.txt"} | pairs
    assert text_of("train.de-en.de", "dict.de.txt") == [" ".join(line.split()) for line in SOURCE]
    assert text_of("test.de-en.en", "dict.en.txt") == TARGET[1:]
    assert Path("out/dict.de.txt").read_text().startswith("haus 3\nein 2\ndas 1\nist 1\n")
    logged = [line.split(" | ", 3)[3] for line in Path("out/preprocess.log").read_text().splitlines()]
    assert logged[1:3] == [
        "[de] Dictionary: 16 types",
        "[de] train.de: 4 sents, 13 tokens, 0.0% replaced (by <unk>)",
    ]
    assert logged[-1] == "Wrote preprocessed data to out"
    assert capsys.readouterr().out.splitlines() == Path("out/preprocess.log").read_text().splitlines()


def test_joined_dictionary_and_workers() -> None:
    assert run("--trainpref", "train", "--joined-dictionary") == 0
    assert Path("out/dict.de.txt").read_bytes() == Path("out/dict.en.txt").read_bytes()
    assert text_of("train.de-en.en", "dict.de.txt") == TARGET
    assert run("--trainpref", "train", "--joined-dictionary", "--workers", "2", "--destdir", "two") == 0
    assert files("two") == files()
    assert all(Path("two", name).read_bytes() == Path("out", name).read_bytes() for name in files())


def test_thresholds_and_sizes() -> None:
    assert run("--trainpref", "train", "--thresholdsrc", "2", "--nwordstgt", "6", "--padding-factor", "0") == 0
    assert Path("out/dict.de.txt").read_text() == "haus 3\nein 2\n"
    assert Path("out/dict.en.txt").read_text() == "house 3\na 2\n"
    assert text_of("train.de-en.de", "dict.de.txt")[1] == "<unk> haus <unk> <unk>"


def test_given_dictionaries_are_taken_as_they_are() -> None:
    Path("d.txt").write_text("haus 1\nein 5\n")
    assert run("--testpref", "test", "--srcdict", "d.txt", "--joined-dictionary") == 0
    assert Path("out/dict.en.txt").read_text() == "haus 1\nein 5\n"
    assert text_of("test.de-en.de", "dict.de.txt")[-1] == "ein <unk> haus"
    assert run("--validpref", "valid", "--srcdict", "out/dict.de.txt", "--tgtdict", "out/dict.en.txt") == 0
    assert {"test.de-en.de.bin", "valid.de-en.de.bin"} < files()


def test_dictionaries_alone() -> None:
    assert run("--trainpref", "train", "--dict-only") == 0
    assert files() == {"dict.de.txt", "dict.en.txt"}


def test_only_source() -> None:
    assert main(["--only-source", "--trainpref", "train.en", "--destdir", "out"]) == 0
    assert files() == {"dict.txt", "train.bin", "train.idx"}
    assert text_of("train", "dict.txt") == TARGET


def test_only_source_with_a_joined_dictionary() -> None:
    assert run("--only-source", "--joined-dictionary", "--trainpref", "train") == 0
    assert files() == {"dict.de.txt", "train.de-en.de.bin", "train.de-en.de.idx"}
    assert "house" in Dictionary.load("out/dict.de.txt")


@pytest.mark.parametrize("impl", ["raw", "cached", "lazy"])
def test_other_formats(impl: str) -> None:
    assert run("--trainpref", "train", "--dataset-impl", impl) == 0
    dictionary = Dictionary.load("out/dict.de.txt")
    assert dataset_exists("out/train.de-en.de", impl)
    rows = open_dataset("out/train.de-en.de", impl, dictionary)
    assert [dictionary.string(rows[index]) for index in range(4)] == [" ".join(line.split()) for line in SOURCE]
    if impl == "raw":
        assert Path("out/train.de-en.de").read_bytes() == Path("train.de").read_bytes()


def test_alignments() -> None:
    Path("train.align").write_text("0-0 1-1\n0-0 1-1\n\n0-0 2-2\n")
    assert (
        run("--trainpref", "train", "--validpref", "valid", "--align-suffix", "align", "--alignfile", "train.align")
        == 0
    )
    rows = open_dataset("out/train.align.de-en")
    assert [rows[index].tolist() for index in range(4)] == [[0, 0, 1, 1], [0, 0, 1, 1], [], [0, 0, 2, 2]]
    assert Path("out/alignment.de-en.txt").read_text() == "ein a\nhaus house\ndas the\n"
    assert "valid.align.de-en.bin" not in files()


def test_codes_are_applied() -> None:
    Path("codes").write_text("#version: 0.2\nh a\nha u\nhau s</w>\n")
    assert run("--trainpref", "train", "--bpe-codes", "codes") == 0
    assert text_of("train.de-en.de", "dict.de.txt")[0] == "e@@ i@@ n haus"
    assert text_of("train.de-en.en", "dict.en.txt")[0] == "a h@@ o@@ u@@ s@@ e"


def test_subword_encoder_by_name() -> None:
    assert run("--trainpref", "train", "--bpe", "characters", "--dataset-impl", "raw") == 0
    assert Path("out/train.de-en.de").read_text(encoding="utf-8").splitlines()[0] == "e i n \u2581 h a u s"


@pytest.mark.parametrize("joined", [True, False])
def test_sentencepiece_training(joined: bool) -> None:
    for language in ("de", "en"):
        text = Path(f"train.{language}").read_text(encoding="utf-8")
        Path(f"train.{language}").write_text(text * 20, encoding="utf-8")
    flags = ["--trainpref", "train", "--validpref", "valid", "--train-sentencepiece", "24"]
    assert run(*flags, "--sentencepiece-model-type", "bpe", *(["--joined-dictionary"] if joined else [])) == 0
    models = {"spm.model"} if joined else {"spm.de.model", "spm.en.model"}
    assert models == {name for name in files() if name.endswith(".model")}
    pieces = text_of("valid.de-en.de", "dict.de.txt")[1]
    assert pieces.replace(" ", "").replace("\u2581", " ").strip() == SOURCE[1]
    assert len(pieces.split()) > len(SOURCE[1].split())


def test_fairseq_flags_that_make_no_difference_are_accepted() -> None:
    assert (
        run("--trainpref", "train", "--seed", "7", "--cpu", "--log-format", "json", "--criterion", "cross_entropy") == 0
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trainpref", "gone"], "the file 'gone.de' does not exist"),
        (["--trainpref", "bad"], "'bad.de' is not valid UTF-8: line 2 "),
        (["--trainpref", "train", "--testpref", "bad"], "'bad.de' is not valid UTF-8: line 2 "),
        (
            ["--trainpref", "train", "--dataset-impl", "raw", "--testpref", "bad"],
            "'bad.de' is not valid UTF-8: line 2 ",
        ),
        (["--trainpref", "short"], "differ in their number of lines: 'short.de' has 3, 'short.en' has 2"),
        (["--trainpref", "train", "--align-suffix", "al"], "'train.de' has 4, 'train.en' has 4, 'train.al' has 1"),
        (["--trainpref", "train", "--alignfile", "train.al"], "'train.de' has 4, 'train.al' has 1"),
        (["--trainpref", "short", "--alignfile", "off"], "differ in their number of lines"),
        (["--trainpref", "train", "--alignfile", "off"], "'off', line 2: 7-0 points beyond the sentence pair"),
        (["--trainpref", "empty"], "'empty.de' is empty"),
        (["--trainpref", "blank"], "'blank.de': there are only empty lines; a dictionary needs words"),
        (["--trainpref", "train", "--srcdict", "train.de"], "train.de, line 1: 'ein haus' is not a dictionary line"),
        (["--trainpref", "train", "--destdir", "train.de"], "cannot write to 'train.de': File exists"),
        (["--trainpref", "train", "--nwordsrc", "9"], "unknown flag --nwordsrc; did you mean '--nwordssrc'"),
        (["--trainpref", "train", "--workers", "0"], "--workers=0 is out of range; give at least 1"),
        (["--trainpref", "train", "--bpe", "subwordnmt"], "unknown bpe 'subwordnmt'; did you mean 'subword_nmt'?"),
        (["--trainpref", "train", "--bpe", "sentencepiece"], "--sentencepiece-model must be given"),
        (["--trainpref", "train", "--train-sentencepiece", "900"], "SentencePiece cannot train a unigram model of 900"),
        (["--trainpref", "train", "--train-sentencepiece", "9", "--bpe", "bytes"], "leave --bpe and --bpe-codes out"),
        (["--trainpref", "train", "--bpe", "bytes", "--bpe-codes", "x"], "--bpe-codes does not belong to --bpe bytes"),
        (["--trainpref", "train", "--target-lang", "de"], "--source-lang and --target-lang are both 'de'"),
        (["--joined-dictionary", "--srcdict", "a", "--tgtdict", "b"], "takes --srcdict or --tgtdict, not both"),
        (["--testpref", "test", "--srcdict", "d"], "--trainpref must be given where there is no --tgtdict to take"),
        ([], "there is nothing to do"),
    ],
)
def test_mistakes_get_one_message_and_leave_nothing(
    flags: list[str], message: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.de").write_bytes(b"ein\nz\xfcge\n")
    Path("bad.en").write_text("a\ntrains\n")
    Path("short.de").write_text("ein\n\nhaus")
    Path("short.en").write_text("a\n\n")
    for name in ("empty.de", "empty.en"):
        Path(name).touch()
    for name in ("blank.de", "blank.en"):
        Path(name).write_text("\n \n")
    Path("train.al").write_text("0-0\n")
    Path("off").write_text("0-0\n7-0\n\n\n")
    before = sorted(corpus.rglob("*"))
    assert run(*flags) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.startswith("seqkit-preprocess: error: ")
    assert "Traceback" not in shown
    assert sorted(corpus.rglob("*")) == before


def test_languages_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--trainpref", "train"]) == 2
    assert "--source-lang and --target-lang must be given (or --only-source" in capsys.readouterr().err


def test_an_existing_dictionary_is_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--trainpref", "train") == 0
    before = {name: Path("out", name).read_bytes() for name in os.listdir("out")}
    assert run("--trainpref", "valid") == 2
    assert "'out/dict.de.txt' exists already" in capsys.readouterr().err
    assert {name: Path("out", name).read_bytes() for name in os.listdir("out")} == before


def test_full_disk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run("--trainpref", "train") == 2
    assert "cannot write to 'out': No space left on device; free some space" in capsys.readouterr().err
    assert not Path("out").exists()


def test_command_in_its_own_process(corpus: Path) -> None:
    """Exit codes, a write refused by the system half-way, and `--help` without torch."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    def call(*flags: str, file_size: int | None = None) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            if file_size is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

        command = [sys.executable, "-m", "seqkit_cli.preprocess", *flags]
        return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=limit, check=False)

    flags = ["-s", "de", "-t", "en", "--trainpref", "long", "--destdir", "out"]
    Path("long.de").write_text("ein haus\n" * 20000)
    Path("long.en").write_text("a house\n" * 20000)
    refused = call(*flags, file_size=50_000)
    assert refused.returncode == 2
    assert (
        refused.stderr == "seqkit-preprocess: error: cannot write to 'out': File too large; choose another --destdir\n"
    )
    assert not Path("out").exists()

    done = call(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(open_dataset("out/train.de-en.de")) == 20000

    wrong = call("--trainpre", "x")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1

    code = "import sys\nfrom seqkit_cli.preprocess import main\n"
    code += "try: main(['--help'])\nfinally: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert shown.stdout.splitlines()[-1] == "False"
    assert "--joined-dictionary" in shown.stdout
    assert "subword_nmt" in shown.stdout
