"""`seqkit-generate` on a tiny random model: formats, files, processes, shards, and sentences that cannot be decoded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seqkit_cli import generate
from tests.unit.generation.tiny import tiny_dictionary
from tests.unit.test_hub import save

SENTENCES = [" ".join(f"w{(number * step) % 4}" for step in range(1, 2 + number % 6)) for number in range(13)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("generate") / "model"
    save(place, tiny_dictionary())
    for language in ("de", "en"):
        (place / f"test.de-en.{language}").write_text("\n".join(SENTENCES) + "\n", encoding="utf-8")
        (place / f"long.de-en.{language}").write_text(f"w0\n{'w1 ' * 80}\nw2 w3\n", encoding="utf-8")
    return place


def run(folder: Path, *more: str) -> int:
    return generate.main(
        [
            f"common_eval.path={folder}/checkpoint_best.pt",
            "common.cpu=true",
            "common.log_format=none",
            "dataset.dataset_impl=raw",
            "dataset.batch_size=3",
            "dataset.num_workers=0",
            "generation.max_len_b=8",
            "generation.beam=3",
            *more,
        ]
    )


def numbers(output: str) -> list[int]:
    return [int(line.split("\t")[0][2:]) for line in output.splitlines() if line.startswith("H-")]


def test_lines_and_json_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    lines = capsys.readouterr().out
    assert sorted(numbers(lines)) == list(range(13))
    assert lines.splitlines()[-1].startswith("Generate test with beam=3: BLEU4 = ")
    assert run(folder, "common_eval.format=json", "generation.nbest=2") == 0
    captured = capsys.readouterr()
    contents = [json.loads(line) for line in captured.out.splitlines()]
    assert [content["id"] for content in contents] == numbers(lines)
    assert all(list(content) == ["id", "source", "target", "hypotheses"] for content in contents)
    assert [content["hypotheses"][0]["text"] for content in contents] == [
        line.split("\t")[2] for line in lines.splitlines() if line.startswith("D-")
    ]
    assert all(content["source"] == content["target"] == SENTENCES[content["id"]] for content in contents)
    assert "Generate test with beam=3: BLEU4 = " in captured.err


def test_several_processes_give_one_result_in_the_same_order(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["generation.sampling=true", "generation.nbest=2"]
    assert run(folder, *options) == 0
    one = capsys.readouterr().out
    assert run(folder, *options, "distributed_training.distributed_world_size=2") == 0
    assert capsys.readouterr().out == one


def test_what_a_process_cannot_do_is_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = "distributed_training.distributed_world_size=2"
    assert run(folder, world, "dataset.gen_subset=nowhere") == 2
    error = capsys.readouterr().err
    assert error.count("seqkit-generate: error: ") == 1
    assert "nowhere" in error
    assert "Traceback" not in error


def test_shards_share_the_batches(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = []
    for shard in range(2):
        assert run(folder, "dataset.num_shards=2", f"dataset.shard_id={shard}") == 0
        parts.append(numbers(capsys.readouterr().out))
    assert sorted(parts[0] + parts[1]) == list(range(13))
    assert all(parts)


def test_a_sentence_that_is_too_long_is_told_and_stops_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subset = "dataset.gen_subset=long"
    assert run(folder, subset) == 0
    captured = capsys.readouterr()
    assert numbers(captured.out) == [2, 0]
    assert captured.out.splitlines()[-3].startswith("S-1\tw1 w1")
    assert "sentence 1 has no output: (81, 81) tokens (source, target) are too many" in captured.err
    assert run(folder, subset, "common_eval.format=json", "distributed_training.distributed_world_size=2") == 0
    contents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(content["id"], bool(content["hypotheses"])) for content in contents] == [(2, True), (0, True), (1, False)]
    assert "longest that can be decoded is (64, 64)" in contents[2]["error"]
    assert run(folder, subset, "dataset.skip_invalid_size_inputs_valid_test=true") == 0
    assert "S-1" not in capsys.readouterr().out


def test_results_go_to_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, f"common_eval.results_path={tmp_path}/out/here") == 0
    assert capsys.readouterr().out == ""
    written = (tmp_path / "out" / "here" / "generate-test.txt").read_text(encoding="utf-8")
    assert sorted(numbers(written)) == list(range(13))
    assert run(folder, f"common_eval.results_path={tmp_path}", "common_eval.format=json") == 0
    assert len((tmp_path / "generate-test.jsonl").read_text(encoding="utf-8").splitlines()) == 13


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_loaded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(folder, f"common_eval.results_path={tmp_path}/file/results", "common_eval.path=nowhere.pt") == 2
    error = capsys.readouterr().err
    assert f"common_eval.results_path={tmp_path}/file/results cannot be written" in error
    assert "give a folder that can" in error


def test_a_run_that_fails_leaves_no_half_file(folder: Path, tmp_path: Path) -> None:
    assert run(folder, f"common_eval.results_path={tmp_path}", "generation.sampling_topk=3") == 2
    assert list(tmp_path.iterdir()) == []


def test_constraints_belong_to_typed_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "generation.constraints=ordered") == 2
    assert "a split has no constraints; give them to seqkit-interactive" in capsys.readouterr().err
