"""`seqkit-eval-lm` on a tiny random model: figures, formats, shards, processes, and what cannot be evaluated."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.data.dictionary import Dictionary
from seqkit.models.base import LanguageModel
from seqkit_cli import eval_lm
from tests.unit.generation.tiny import tiny_dictionary
from tests.unit.models.language_models import language_model
from tests.unit.test_hub import save

LINES = ["a b c", "d e a b c d e", "e", "b a c a"]
TEXT = [[*(4 + "abcde".index(word) for word in line.split()), 2] for line in LINES]
TOKENS = [token for line in TEXT for token in line]
POSITIONS = 6
SMALL = {
    "decoder_embed_dim": 8,
    "decoder_input_dim": 8,
    "decoder_output_dim": 8,
    "decoder_ffn_embed_dim": 8,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_learned_pos": True,
    "tokens_per_sample": POSITIONS,
    "max_target_positions": None,
}


class Letters:
    def __init__(self, letters: str = "abcde") -> None:
        self.source_dictionary = self.target_dictionary = Dictionary()
        for letter in letters:
            self.target_dictionary.add_symbol(letter)


ROTARY = {"decoder_embed_dim": 8, "decoder_layers": 2, "decoder_attention_heads": 2, "init_std": 0.5}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "rotary.pt": ("decoder_lm", {**ROTARY, "tokens_per_sample": POSITIONS}),
    "window.pt": ("decoder_lm", {**ROTARY, "tokens_per_sample": POSITIONS, "sliding_window": 2}),
    "convolutions.pt": ("fconv_lm", {"decoder_layers": "[(8, 2), (8, 2)]", "max_target_positions": POSITIONS}),
}


def tiny() -> LanguageModel:
    return language_model("transformer_lm", Letters(), **SMALL)


def write(folder: Path, name: str = "a.pt", seed: int | None = None) -> None:
    architecture, options = OTHERS.get(name, ("transformer_lm", SMALL))
    model = language_model(architecture, Letters(), **options)
    if seed is not None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
    config = {
        "task": {"_name": "language_modeling", "data": str(folder), "tokens_per_sample": POSITIONS},
        "model": {"_name": architecture, **options},
    }
    write_checkpoint(folder / name, CheckpointState(config=config, model=model.state_dict()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("eval_lm")
    write(place)
    write(place, "b.pt", seed=2)
    for name in OTHERS:
        write(place, name)
    Letters().target_dictionary.save(place / "dict.txt")
    (place / "test").write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    (place / "unknown").write_text("a nowhere b\n", encoding="utf-8")
    return place


def run(folder: Path, *more: str) -> int:
    base = [f"common_eval.path={folder}/a.pt", "common.cpu=true", "common.log_format=none", "dataset.num_workers=0"]
    return eval_lm.main([*base, *more])


def loss_of(output: str) -> float:
    match = re.search(r"Loss \(base 2\): ([\d.]+), Perplexity: ([\d.]+)\n", output)
    assert match
    assert float(match[2]) == pytest.approx(2 ** float(match[1]), rel=1e-3)
    return float(match[1])


def the_error(output: str) -> str:
    """The one message behind the log lines."""
    *before, error = output.splitlines()
    assert error.startswith("seqkit-eval-lm: error: "), output
    assert all(re.match(r"\d{4}-\d\d-\d\d .* \| INFO \| ", line) for line in before), output
    return error


def expected_loss(block: int, context: int) -> float:
    """Each token from a window of its own that the model reads alone."""
    model, total = tiny(), 0.0
    read = [2, *TOKENS[:-1]]
    with torch.no_grad():
        for place, token in enumerate(TOKENS):
            start = max(place // block * block - context, 0)
            logits = model(torch.tensor([read[start : place + 1]])).logits[0, -1]
            total -= float(logits.log_softmax(0)[token])
    return total / len(TOKENS) / math.log(2)


@pytest.mark.parametrize(("total", "context"), [(6, 0), (5, 0), (6, 2), (6, 5), (4, 1)])
def test_the_loss_is_that_of_each_token_behind_its_context(
    folder: Path, total: int, context: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["dataset.batch_size=2", "eval_lm.softmax_batch=1"]):
        assert run(folder, f"task.tokens_per_sample={total}", f"eval_lm.context_window={context}", *more) == 0
        output = capsys.readouterr().out
        assert loss_of(output) == pytest.approx(expected_loss(total - context, context), abs=1e-4)
        size = len("".join(f"{line}\n" for line in LINES))
        assert output.splitlines()[1].endswith(f"({size} bytes)")


WORDS = ["eval_lm.output_word_probs=true", "eval_lm.output_word_stats=true", "common_eval.format=json"]


def read_lines(output: str) -> list[dict[str, Any]]:
    content = [json.loads(line) for line in output.splitlines()]
    del content[-1]["seconds"]
    return content


def assert_same_lines(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for line, other in zip(found, expected, strict=True):
        for key, value in other.items():
            is_measured = isinstance(value, float) or key == "log_probs"
            assert line[key] == (pytest.approx(value, abs=1e-5) if is_measured else value), key


@pytest.mark.parametrize("models", ["window.pt", "convolutions.pt", "window.pt:convolutions.pt"])
def test_a_text_is_read_once_where_the_context_is_all_that_is_seen(
    folder: Path, models: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path = "common_eval.path=" + ":".join(f"{folder}/{name}" for name in models.split(":"))
    window = [path, "eval_lm.context_window=2", *WORDS]
    assert run(folder, *window, "dataset.max_valid_steps=1000") == 0
    expected = read_lines(capsys.readouterr().out)
    assert "each token is read once" not in caplog.text
    for more in (["dataset.batch_size=1"], ["dataset.max_tokens=12", "eval_lm.softmax_batch=1"]):
        caplog.clear()
        assert run(folder, *window, *more) == 0
        assert "no model sees further back than the context: each token is read once" in caplog.text
        assert_same_lines(read_lines(capsys.readouterr().out), expected)
    caplog.clear()
    assert run(folder, path, "eval_lm.context_window=1") == 0
    assert "each token is read once" not in caplog.text


def test_the_context_is_carried_on_if_asked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = [" ".join("abcde"[place * place % 5] for place in range(start, start + 9)) for start in range(0, 180, 9)]
    (tmp_path / "test").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
    Letters().target_dictionary.save(tmp_path / "dict.txt")
    window = [f"common_eval.path={folder}/rotary.pt", f"task.data={tmp_path}", "eval_lm.context_window=2", *WORDS]
    assert run(folder, *window) == 0
    anew = read_lines(capsys.readouterr().out)
    window.append("eval_lm.reuse_context=true")
    assert run(folder, *window) == 0
    whole = read_lines(capsys.readouterr().out)
    assert anew[-1]["loss"] == pytest.approx(whole[-1]["loss"], abs=0.5)
    assert anew[-1]["loss"] != pytest.approx(whole[-1]["loss"], abs=1e-4)
    blocks = [line["id"] for line in whole if "id" in line]
    assert blocks == list(range(50)) == [line["id"] for line in anew if "id" in line]
    # the same, whatever is read beside what
    assert run(folder, *window, "dataset.batch_size=1") == 0
    assert_same_lines(read_lines(capsys.readouterr().out), whole)
    parts = []
    for shard in range(2):
        more = ["dataset.batch_size=1", "dataset.num_shards=2", f"dataset.shard_id={shard}"]
        assert run(folder, *window, *more) == 0
        parts += [line for line in read_lines(capsys.readouterr().out) if "id" in line]
    assert_same_lines(sorted(parts, key=lambda line: int(line["id"])), whole[:50])


@pytest.mark.parametrize(
    ("more", "problems"),
    [
        ([], ["model=transformer_lm: it numbers positions from the beginning"]),
        (["common_eval.path={folder}/rotary.pt", "eval_lm.context_window=0"], ["it needs eval_lm.context_window=N"]),
        (
            ["common_eval.path={folder}/rotary.pt", "task.sample_break_mode=eos", "task.add_bos_token=true"],
            ["text must go on from block to block, and with task.sample_break_mode=eos", "task.add_bos_token=true"],
        ),
        (["common_eval.path={folder}/rotary.pt", "dataset.max_tokens=5"], ["dataset.max_tokens=5 must be at least"]),
        (["common_eval.path={folder}/rotary.pt:{folder}/b.pt"], ["model=transformer_lm: it numbers positions"]),
    ],
)
def test_when_the_context_cannot_be_carried_on(
    folder: Path, more: list[str], problems: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval_lm.context_window=2", "eval_lm.reuse_context=true", *(line.format(folder=folder) for line in more)]
    assert run(folder, *asked) == 2
    error = capsys.readouterr().err
    assert "eval_lm.reuse_context=true cannot be used" in error
    assert all(problem in error for problem in problems), error


def test_lines_and_json_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["eval_lm.output_word_probs=true", "eval_lm.output_word_stats=true", "task.sample_break_mode=eos"]
    assert run(folder, *asked) == 0
    text = capsys.readouterr().out.splitlines()
    assert run(folder, *asked, "common_eval.format=json") == 0
    content = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    blocks = [entry for entry in content if "id" in entry]
    words = [entry for entry in content if "word" in entry]
    for line, block in zip(text, blocks, strict=False):
        pairs = zip(block["words"], block["log_probs"], strict=True)
        assert line == f"{block['id']} " + "\t".join(f"{word} [{score:.6f}]" for word, score in pairs)
    for line, entry in zip(text[len(blocks) :], words, strict=False):
        assert line.split("\t") == [str(value) for value in _columns(entry)]
    assert [word["count"] for word in words] == sorted((word["count"] for word in words), reverse=True)
    assert sum(word["count"] for word in words) == len(TOKENS)
    # the second line has a token more than the model takes, and is evaluated in two pieces
    assert [block["id"] for block in blocks] == [2, 1, 0, 3, 1]
    closing = content[-1]
    assert loss_of("\n".join(text) + "\n") == pytest.approx(closing["loss"], abs=1e-4)
    assert (closing["subset"], closing["tokens"], closing["blocks"]) == ("test", len(TOKENS), 5)
    assert closing["bits_per_byte"] == pytest.approx(closing["loss"] * len(TOKENS) / closing["bytes"])
    assert len(content) == len(blocks) + len(words) + 1
    assert len(text) == len(blocks) + len(words) + 2


def _columns(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (
        *(entry["word"], entry["count"], entry["log_prob"], entry["is_bpe"]),
        *(entry["next_log_prob"], entry["next_count"]),
    )


def test_too_long_blocks_are_told_of_and_left_out_only_if_asked(
    folder: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "task.sample_break_mode=eos", "common_eval.format=json") == 0
    assert "1 of 4 blocks (8 tokens) are longer than 6 tokens" in caplog.text
    assert "evaluated in pieces" in caplog.text
    left_out = "dataset.skip_invalid_size_inputs_valid_test=true"
    assert run(folder, "task.sample_break_mode=eos", "common_eval.format=json", left_out) == 0
    assert "they are left out" in caplog.text
    whole, part = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (whole["tokens"], part["tokens"]) == (len(TOKENS), len(TOKENS) - 8)


def test_blocks_longer_than_the_models_positions_can_be_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    length, left_out = POSITIONS + 1, "dataset.skip_invalid_size_inputs_valid_test=true"
    rest = len(TOKENS) % length
    assert run(folder, f"task.tokens_per_sample={length}", "common_eval.format=json", left_out) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == rest
    assert "they are left out" in caplog.text


def test_the_tasks_longest_text_does_not_change_the_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "task.max_target_positions=3") == 0
    assert loss_of(capsys.readouterr().out) == pytest.approx(expected_loss(POSITIONS, 0), abs=1e-4)


def test_an_ensemble(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for paths in ("a.pt", "b.pt", "a.pt:b.pt", "a.pt:a.pt"):
        path = ":".join(f"{folder}/{name}" for name in paths.split(":"))
        assert run(folder, f"common_eval.path={path}") == 0
    one, other, both, twice = (loss_of(line + "\n") for line in capsys.readouterr().out.splitlines() if "Loss" in line)
    assert one == twice
    assert both != one
    assert both < (one + other) / 2


def test_shards_share_the_text(folder: Path, tmp_path: Path) -> None:
    window = ["task.tokens_per_sample=4", "eval_lm.context_window=2", "dataset.batch_size=2"]
    output = ["eval_lm.output_word_probs=true", "common_eval.format=json", f"common_eval.results_path={tmp_path}"]
    assert run(folder, *window, *output) == 0
    for shard in range(3):
        assert run(folder, *window, *output, "dataset.num_shards=3", f"dataset.shard_id={shard}") == 0
    whole = [json.loads(line) for line in (tmp_path / "eval_lm-test.jsonl").read_text().splitlines()]
    parts = [
        json.loads(line)
        for shard in range(3)
        for line in (tmp_path / f"eval_lm-test.{shard}-of-3.jsonl").read_text().splitlines()
    ]
    blocks = sorted((entry for entry in parts if "id" in entry), key=lambda entry: entry["id"])
    for block, expected in zip(blocks, whole, strict=False):
        assert block["words"] == expected["words"]
        assert block["log_probs"] == pytest.approx(expected["log_probs"], abs=1e-5)
    assert sum(entry["tokens"] for entry in parts if "tokens" in entry) == whole[-1]["tokens"] == len(TOKENS)


def test_steps_can_be_limited(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "dataset.batch_size=1", "dataset.max_valid_steps=2", "common_eval.format=json") == 0
    assert json.loads(capsys.readouterr().out)["blocks"] == 2


def test_unknown_words_have_no_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "dataset.gen_subset=unknown", "common_eval.format=json") == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["unknown"], content["bytes"], content["bits_per_byte"]) == (1, None, None)


def test_the_subwords_of_training_are_known(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def size(*more: str, **section: str) -> int | None:
        state = read_checkpoint(folder / "a.pt")
        state.config["bpe"] = section or None
        write_checkpoint(tmp_path / "a.pt", state)
        assert run(folder, f"common_eval.path={tmp_path}/a.pt", "common_eval.format=json", *more) == 0
        found: int | None = json.loads(capsys.readouterr().out)["bytes"]
        return found

    letters = sum(len(line.split()) + 1 for line in LINES)
    spaced = sum(len(line) + 1 for line in LINES)
    assert size() == size(_name="subword_nmt", bpe_codes="/gone") == spaced
    assert size(_name="code_points") == letters
    assert size(_name="gpt2") is None
    assert size("bpe=characters", _name="gpt2") == letters


def test_fairseqs_flags(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"{folder} --path {folder}/a.pt --gen-subset test --cpu --num-workers 0 --tokens-per-sample 6"
    more = "--context-window 2 --softmax-batch 4 --sample-break-mode none --max-tokens 24 --remove-bpe --quiet"
    assert eval_lm.main([*flags.split(), *more.split()]) == 0
    assert loss_of(capsys.readouterr().out) == pytest.approx(expected_loss(4, 2), abs=1e-4)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["dataset.gen_subset=tset"], "the split 'tset' is not in"),
        (["task.tokens_per_sample=7"], "task.tokens_per_sample=7 is more than the 6 positions of the model"),
        (["eval_lm.context_window=6"], "eval_lm.context_window=6 leaves no token of task.tokens_per_sample=6"),
        (["common_eval.post_process=letter"], "common_eval.post_process='letter' does not say which subwords"),
        (["task.past_target=true"], "cannot be trained with task.past_target=true"),
        (["eval_lm.softmax_batch=0"], "eval_lm.softmax_batch=0"),
        (["dataset.num_shards=2", "dataset.shard_id=2"], "dataset.shard_id=2"),
    ],
)
def test_mistakes_are_one_error(folder: Path, more: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, *more) == 2
    captured = capsys.readouterr()
    assert text in the_error(captured.err)
    assert captured.out == ""


def test_files_that_do_not_fit_are_one_error(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "binary.pt").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "dict.txt").write_text("a 1\nb 1\n", encoding="utf-8")
    (tmp_path / "test").write_bytes(b"\x93\xff\x00\xfe" * 50)
    (tmp_path / "empty").write_text("", encoding="utf-8")
    save(tmp_path / "translation", tiny_dictionary())
    same = tmp_path / "same"
    same.mkdir()
    Letters().target_dictionary.save(same / "dict.txt")
    (same / "test").write_bytes(b"\x93\xff\x00\xfe" * 50)
    (same / "empty").write_text("", encoding="utf-8")
    for more, text in (
        ([f"common_eval.path={tmp_path}/binary.pt"], "binary.pt"),
        ([f"common_eval.path={tmp_path}/nowhere.pt"], "nowhere.pt"),
        ([f"task.data={tmp_path}"], "was trained with another vocabulary"),
        ([f"task.data={tmp_path}/nowhere"], "nowhere"),
        ([f"task.data={same}"], "UTF-8"),
        ([f"task.data={same}", "dataset.gen_subset=empty"], "empty"),
        ([f"common_eval.path={tmp_path}/translation/checkpoint_best.pt"], "measures language models"),
    ):
        assert run(folder, *more) == 2, more
        assert text in the_error(capsys.readouterr().err)
