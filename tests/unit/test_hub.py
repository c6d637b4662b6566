"""The hub on a tiny random model that lies in a folder as training leaves it."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from seqkit.checkpoint.io import read_checkpoint, write_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.config.validate import to_dict
from seqkit.data.dictionary import Dictionary
from seqkit.distributed.forked_map import can_fork
from seqkit.errors import CheckpointError, ConfigError, DataError
from seqkit.generation.output import SentenceResult
from seqkit.hub import Hub, from_pretrained
from seqkit.registry import registry
from seqkit_cli import generate, interactive
from tests.unit.generation.tiny import TinyTask, log_probs_of, tiny_dictionary, tiny_model

LINES = ["w0 w1", "w2", "w3 w3 w0 w1 w2", "w1 nowhere"]


def save(folder: Path, dictionary: Dictionary, seed: int = 1, name: str = "checkpoint_best.pt") -> None:
    folder.mkdir(exist_ok=True)
    model = tiny_model(dictionary, seed)
    options = {
        "encoder_embed_dim": 8,
        "decoder_embed_dim": 8,
        "encoder_ffn_embed_dim": 16,
        "decoder_ffn_embed_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    task = (
        registry("task")
        .get("translation")
        .config(source_lang="de", target_lang="en", data=str(folder), max_source_positions=64, max_target_positions=64)
    )
    config = {
        "task": {**to_dict(task), "_name": "translation"},
        "model": {"_name": "transformer", **options},
        "generation": {"beam": 1},
        "dataset": {"max_tokens": 7},
    }
    write_checkpoint(folder / name, CheckpointState(config=config, model=model.state_dict()))
    for language in ("de", "en"):
        dictionary.save(folder / f"dict.{language}.txt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hub") / "model"
    save(place, tiny_dictionary())
    save(place, tiny_dictionary(), seed=2, name="other.pt")
    return place


@pytest.fixture(scope="module")
def hub(folder: Path) -> Hub:
    return from_pretrained(folder, cpu=True, max_len_b=9, beam=3)


def test_sentences_are_translated_one_by_one_and_together(hub: Hub) -> None:
    together = hub.translate(LINES)
    assert together == [hub.translate(line) for line in LINES]
    assert all(isinstance(text, str) for text in together)


def test_the_same_model_gives_the_same_in_a_search_by_hand(hub: Hub) -> None:
    (best, *others) = hub.generate(hub.encode(LINES[0]))
    assert len(others) == 2
    assert hub.decode(best.tokens) == hub.translate(LINES[0])
    expected = log_probs_of(hub.models[0], [4, 5], best.tokens.tolist(), tiny_dictionary())
    torch.testing.assert_close(best.positional_scores, expected, atol=1e-5, rtol=0)


def test_options_of_one_call_do_not_outlive_it(hub: Hub) -> None:
    before = hub.translate(LINES[2])
    longer = hub.translate(LINES[2], min_len=8)
    assert len(longer.split()) >= 8
    assert hub.translate(LINES[2]) == before


def test_given_targets_are_scored(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = hub.score(LINES[:2], ["w3 w2", "w0"])
    expected = log_probs_of(hub.models[0], [4, 5], [7, 6, 2], tiny_dictionary())
    torch.testing.assert_close(scored[0].positional_scores, expected, atol=1e-5, rtol=0)
    assert hub.score(LINES[1], "w0").score == pytest.approx(scored[1].score, abs=1e-6)
    # how the hub searches has no part in it
    searching = {"sampling": True, "sampling_topk": 3, "prefix_size": 1, "match_source_len": True, "lm_path": "lm.pt"}
    with monkeypatch.context() as given:
        for option, value in searching.items():
            given.setattr(hub.config.generation, option, value)
        assert hub.score(LINES[1], "w0").score == pytest.approx(scored[1].score, abs=1e-6)
    with pytest.raises(DataError, match="2 sources but 1 targets"):
        hub.score(LINES[:2], ["w3"])
    with pytest.raises(DataError, match="score needs the targets"):
        hub.score(LINES[:2])
    with pytest.raises(DataError, match="two sentences or two lists"):
        hub.score("w0", ["w3"])  # type: ignore[call-overload]


def test_text_and_tokens(hub: Hub) -> None:
    assert hub.binarize("w0 w3 nowhere").tolist() == [4, 7, 3, 2]
    assert hub.string(torch.tensor([4, 7, 2])) == "w0 w3"
    assert hub.tokenize("a b") == hub.detokenize("a b") == hub.apply_bpe("a b") == hub.remove_bpe("a b") == "a b"


def test_a_sentence_that_is_too_long_stops_no_other(hub: Hub) -> None:
    long = "w1 " * 80
    results = hub.answer([LINES[0], long, LINES[1]], first=10)
    assert [result.id for result in results] == [10, 11, 12]
    assert results[1].error == "81 tokens, more than the 64 that can be decoded"
    assert [bool(result.hypotheses) for result in results] == [True, False, True]
    with pytest.raises(DataError, match="sentence 1: 81 tokens"):
        hub.translate([LINES[0], long])


def test_an_empty_line_gets_an_answer(hub: Hub) -> None:
    (result,) = hub.answer([""])
    assert result.hypotheses


@pytest.mark.parametrize("forks", [False, True])
def test_batches_decoded_side_by_side_come_in_their_order(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, forks: bool
) -> None:
    monkeypatch.setattr(hub, "forks", forks)
    monkeypatch.setattr("seqkit.hub._FORKED_FROM", 2)
    monkeypatch.setattr(hub.config.dataset, "batch_size", 3)
    rows = [hub.encode(line) for line in LINES * 5]
    dataset = hub.task.build_dataset_for_inference(rows, [row.numel() for row in rows])  # type: ignore[attr-defined]
    before = torch.get_num_threads()
    found = {}
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            batches = list(hub.batches(dataset, in_memory=True))
            assert len(batches) > 4
            found[threads] = [
                [(result.id, result.hypotheses[0].text) for result in results]
                for results in hub.decode_batches(batches)
            ]
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[1] == found[3]


@pytest.mark.skipif(not can_fork(), reason="processes can be forked on Linux alone")
def test_forked_processes_decode_where_that_is_asked_for(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.config.dataset, "batch_size", 1)
    asked: list[int] = []

    def allowed(number: int, tokens: torch.Tensor) -> list[int]:
        asked.append(number)
        return list(range(len(hub.target_dictionary)))

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = hub.translate(LINES[:3], prefix_allowed_tokens_fn=allowed)
        assert set(asked) == {0, 1, 2}
        asked.clear()
        monkeypatch.setattr(hub, "forks", True)
        assert hub.translate(LINES[:3], prefix_allowed_tokens_fn=allowed) == wanted
        assert set(asked) == {0, 1, 2}  # so few batches are not worth a process
        asked.clear()
        monkeypatch.setattr("seqkit.hub._FORKED_FROM", 2)
        assert hub.translate(LINES[:3], prefix_allowed_tokens_fn=allowed) == wanted
        assert asked == []
    finally:
        torch.set_num_threads(before)


def test_a_batch_alone_has_all_threads(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    results = hub._results
    monkeypatch.setattr(hub, "_results", lambda *given: threads.append(torch.get_num_threads()) or results(*given))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        hub.answer(LINES[:2])
        assert threads == [3]
        monkeypatch.setattr(hub.config.dataset, "batch_size", 1)
        hub.answer(LINES[:2])
        assert threads == [3, 1, 1]
        assert hub.answer([]) == []
    finally:
        torch.set_num_threads(before)


def test_a_fault_while_decoding_side_by_side_is_raised(hub: Hub) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError):
            list(hub.decode_batches([{"id": torch.tensor([0])}] * 5))
    finally:
        torch.set_num_threads(before)


def test_the_batch_the_order_and_the_threads_change_nothing(hub: Hub) -> None:
    lines = [" ".join(f"w{(number * step) % 4}" for step in range(1, 2 + number % 9)) for number in range(64)]
    options: dict[str, Any] = {"beam": 3, "nbest": 3, "max_len_a": 1.5, "max_len_b": 2}

    def found(order: list[int], batch_size: int) -> dict[int, list[tuple[str, float]]]:
        hub.config.dataset.batch_size, hub.config.dataset.max_tokens = batch_size, None
        try:
            results = hub.answer([lines[number] for number in order], **options)
        finally:
            hub.config.dataset.batch_size = None
        return {
            order[result.id]: [(hypothesis.pieces, hypothesis.score) for hypothesis in result.hypotheses]
            for result in results
        }

    expected = found(list(range(64)), 64)
    for order, batch_size in ((range(64), 1), (range(64), 7), (range(63, -1, -1), 64)):
        for number, hypotheses in found(list(order), batch_size).items():
            assert [text for text, _ in hypotheses] == [text for text, _ in expected[number]]
            scores = [score for _, score in hypotheses]
            assert scores == pytest.approx([score for _, score in expected[number]], abs=1e-5)


def test_draws_depend_on_the_lines_number_and_the_seed(hub: Hub) -> None:
    options: dict[str, Any] = {"sampling": True, "beam": 2, "max_len_b": 8}

    def texts(results: list[SentenceResult]) -> list[list[str]]:
        return [[hypothesis.text for hypothesis in result.hypotheses] for result in results]

    lines = LINES * 2
    together = texts(hub.answer(lines, first=5, **options))
    assert together[:4] != together[4:]
    for number, expected in enumerate(together):
        assert texts(hub.answer([lines[number]], first=5 + number, **options)) == [expected]
    assert texts(hub.answer(lines, first=5, seed=7, **options)) != together
    assert hub.sample(LINES, sampling=True, seed=3) == hub.sample(LINES, sampling=True, seed=3)


def test_one_sample_is_one_hypothesis(hub: Hub) -> None:
    assert hub.sample(LINES[0]) == hub.translate(LINES[0], beam=1)


def test_the_source_of_a_line_is_shown_as_the_symbols_that_the_model_reads(folder: Path) -> None:
    characters = from_pretrained(
        folder, cpu=True, max_len_b=3, bpe="characters", replace_unk="", print_alignment="hard"
    )
    (result,) = characters.answer(["w0 <pad>"])
    assert result.source == " ".join(["<unk>"] * len("w0 <pad>"))
    assert from_pretrained(folder, cpu=True, max_len_b=3).answer(["w1 <pad> nowhere"])[0].source == "w1 <unk>"


def test_constraints_stand_behind_tabs(hub: Hub) -> None:
    lines = ["w0 w1\tw3 w3\tw2", "w2", "w3\tnowhere", "w0\tw0 w1 w2 w3 w0 w1 w2", "w1\t"]
    results = hub.answer(lines, constraints="unordered", max_len_b=6, beam=6)
    assert "w3 w3" in results[0].hypotheses[0].text
    assert "w2" in results[0].hypotheses[0].text
    assert results[0].source == "w0 w1"
    assert [result.constraints for result in results] == [
        ["w3 w3", "w2"],
        [],
        ["<unk>"],
        ["w0 w1 w2 w3 w0 w1 w2"],
        [],
    ]
    assert results[2].error == (
        "the constraint 'nowhere' has words that the target dictionary lacks, so it cannot be met"
    )
    assert results[3].error is not None
    assert results[3].error.startswith("no output contains all constraints within the maximum length")
    assert [bool(result.hypotheses) for result in results] == [True, True, False, False, True]
    with pytest.raises(DataError, match="sentence 0: the constraint 'nowhere'"):
        hub.translate("w3\tnowhere", constraints="ordered")


def test_a_function_and_prefixes_say_how_outputs_go_on(hub: Hub) -> None:
    only = hub.translate(LINES, prefix_allowed_tokens_fn=lambda number, tokens: [4, 2])
    assert all(set(text.split()) <= {"w0"} for text in only)
    rows = [hub.binarize(line) for line in LINES[:2]]
    found = hub.generate(rows, prefix_tokens=[torch.tensor([7, 6]), torch.tensor([5])])
    assert all(hypothesis.tokens[:2].tolist() == [7, 6] for hypothesis in found[0])
    assert all(hypothesis.tokens[0] == 5 for hypothesis in found[1])
    assert hub.generate(rows[0], prefix_tokens=torch.tensor([6]))[0].tokens[0] == 6
    with pytest.raises(DataError, match="2 sentences but 1 prefixes"):
        hub.generate(rows, prefix_tokens=[torch.tensor([4])])


def test_alignments_are_filled_in_where_they_are_asked_for(hub: Hub) -> None:
    hard = hub.generate(hub.encode(LINES[2]), print_alignment="hard")[0]
    assert [target for _, target in hard.alignment] == list(range(hard.tokens.numel() - 1))
    assert all(0 <= source < 5 for source, _ in hard.alignment)
    soft = hub.generate(hub.encode(LINES[2]), print_alignment="soft")[0]
    assert [len(weights) for weights in soft.soft_alignment] == [6] * soft.tokens.numel()


def test_ensembles_and_files(folder: Path) -> None:
    ensemble = from_pretrained(folder, "checkpoint_best.pt:other.pt", cpu=True)
    assert len(ensemble.models) == 2
    one = from_pretrained(folder / "other.pt", cpu=True)
    assert one.translate(LINES) == from_pretrained(folder, "other.pt", cpu=True).translate(LINES)


def test_a_subword_encoder_finds_its_files_beside_the_model(folder: Path) -> None:
    (folder / "bpecodes").write_text("#version: 0.2\nw 0</w>\nw 1</w>\n", encoding="utf-8")
    hub = from_pretrained(folder, cpu=True, bpe="subword_nmt", common_eval={"post_process": "subword_nmt"})
    assert hub.apply_bpe("w0 w1") == "w0 w1"
    assert hub.remove_bpe("w@@ 0") == "w0"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "reason"),
    [
        (("nowhere",), {}, CheckpointError, "does not exist"),
        (("", "missing.pt"), {}, CheckpointError, "missing.pt"),
        (("",), {"bema": 3}, ConfigError, "neither the model 'transformer' nor the task 'translation' has an option"),
        (("",), {"beam": 0}, ConfigError, "beam"),
        (("",), {"decoder_embed_dim": 16, "encoder_embed_dim": 16}, CheckpointError, "do not fit the model"),
    ],
)
def test_mistakes_are_told(
    folder: Path, arguments: tuple[str, ...], options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        from_pretrained(folder / arguments[0], *arguments[1:], cpu=True, **options)


def test_another_vocabulary_is_told_with_its_sizes(folder: Path, tmp_path: Path) -> None:
    for language in ("de", "en"):
        tiny_dictionary(7).save(tmp_path / f"dict.{language}.txt")
    with pytest.raises(
        CheckpointError, match="another vocabulary \\(source: 8 symbols in the checkpoint, 11 in the source dictionary"
    ):
        from_pretrained(folder, data=tmp_path, cpu=True)


def test_other_words_are_told_even_if_there_are_as_many(folder: Path, tmp_path: Path) -> None:
    for language in ("de", "en"):
        tiny_dictionary().save(tmp_path / f"dict.{language}.txt")
    words = (tmp_path / "dict.en.txt").read_text().splitlines()
    (tmp_path / "dict.en.txt").write_text("\n".join([words[1], words[0], *words[2:]]) + "\n")
    state = read_checkpoint(folder / "checkpoint_best.pt")
    from_pretrained(folder, data=tmp_path, cpu=True)  # a checkpoint that does not tell its words fits any
    state.task = {"dictionaries": {"source": tiny_dictionary().digest(), "target": tiny_dictionary().digest()}}
    write_checkpoint(tmp_path / "told.pt", state)
    from_pretrained(tmp_path / "told.pt", data=folder, cpu=True)
    with pytest.raises(
        CheckpointError, match=r"told\.pt was trained with other words, .* the target dictionary \(\d+ "
    ):
        from_pretrained(tmp_path / "told.pt", data=tmp_path, cpu=True)


def test_models_of_different_vocabularies_make_no_ensemble(tmp_path: Path) -> None:
    save(tmp_path, tiny_dictionary(7), name="wide.pt")
    save(tmp_path, tiny_dictionary())
    with pytest.raises(CheckpointError, match=r"wide\.pt was trained with another vocabulary .*for an ensemble"):
        from_pretrained(tmp_path, "checkpoint_best.pt:wide.pt", cpu=True)


def save_language_model(folder: Path, dictionary: Dictionary) -> Path:
    folder.mkdir(exist_ok=True)
    dictionary.save(folder / "dict.txt")
    chosen = registry("model").get("transformer_lm")
    options = {"decoder_embed_dim": 8, "decoder_input_dim": 8, "decoder_output_dim": 8, "decoder_ffn_embed_dim": 16}
    options |= {"decoder_layers": 1, "decoder_attention_heads": 2, "tokens_per_sample": 64, "max_target_positions": 64}
    torch.manual_seed(3)
    model = chosen.cls.build(chosen.config(**options), TinyTask(dictionary, dictionary))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    config = {
        "task": {"_name": "language_modeling", "data": str(folder), "tokens_per_sample": 64},
        "model": {"_name": "transformer_lm", **options},
    }
    write_checkpoint(folder / "lm.pt", CheckpointState(config=config, model=model.state_dict()))
    return folder / "lm.pt"


def test_a_language_model_is_fused_if_it_has_the_target_dictionary(hub: Hub, folder: Path, tmp_path: Path) -> None:
    path = save_language_model(folder, tiny_dictionary())
    plain = [result.hypotheses[0].token_scores for result in hub.answer(LINES)]
    fused = [result.hypotheses[0].token_scores for result in hub.answer(LINES, lm_path=str(path), lm_weight=0.5)]
    assert fused != plain
    assert [r.hypotheses[0].token_scores for r in hub.answer(LINES, lm_path=str(path), lm_weight=0.0)] == plain
    with pytest.raises(CheckpointError, match="holds a model of type TransformerModel; a language model is needed"):
        hub.answer(LINES, lm_path=str(folder / "other.pt"), lm_weight=0.5)
    save(tmp_path / "wide", tiny_dictionary(7))
    wide = from_pretrained(tmp_path / "wide", cpu=True)
    for language_model, reason in (
        (save_language_model(tmp_path / "wide", tiny_dictionary(6)), "another dictionary"),
        (path, "dict.txt|another"),
    ):
        with pytest.raises((CheckpointError, DataError), match=reason):
            wide.answer(LINES, lm_path=str(language_model), lm_weight=0.5)


def test_a_language_model_alone_goes_on_writing_and_scores_texts(tmp_path: Path) -> None:
    path = save_language_model(tmp_path / "lm", tiny_dictionary())
    hub = from_pretrained(path, cpu=True, max_len_b=9, beam=2)
    assert hub.translate("w0 w1").startswith("w0 w1 ")
    assert hub.sample(["w3", "w2 w2"], sampling=True, sampling_topk=3)[1].startswith("w2 w2")
    scored = hub.score("w0 w1 w2")
    with torch.no_grad():
        logits = hub.models[0](torch.tensor([[2, 4, 5]])).logits[0]
    expected = logits.log_softmax(dim=-1)[torch.arange(3), torch.tensor([4, 5, 6])]
    torch.testing.assert_close(scored.positional_scores, expected, atol=1e-5, rtol=0)


def test_interactive_prints_answers_in_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "w0 w1\n\n" + "w1 " * 80 + "\nw2\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    overrides = [f"common_eval.path={folder}/checkpoint_best.pt", "common.cpu=true", "interactive.buffer_size=3"]
    assert interactive.main([*overrides, "generation.max_len_b=5"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split("\t")[0] for line in lines if line.startswith("S-")] == ["S-0", "S-1", "S-2", "S-3"]
    assert [line.split("\t")[0] for line in lines if line.startswith("H-")] == ["H-0", "H-1", "H-3"]
    assert "line 3 is left out: 81 tokens" in captured.err
    assert "line 2 is empty; its output is what the model makes of nothing" in captured.err


def test_interactive_takes_constraints(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w0 w1\tw3 w2\nw2\tnowhere\nw1\n")))
    overrides = [f"common_eval.path={folder}/checkpoint_best.pt", "common.cpu=true", "interactive.buffer_size=3"]
    assert interactive.main([*overrides, "generation.constraints=ordered", "generation.max_len_b=9"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split("\t")[0] for line in lines if line[0] in "SCH"] == [
        "S-0",
        "C-0",
        "H-0",
        "S-1",
        "C-1",
        "S-2",
        "H-2",
    ]
    assert "w3 w2" in next(line for line in lines if line.startswith("H-0"))
    assert "line 2 is left out: the constraint 'nowhere' has words" in captured.err


def test_interactive_speaks_json_and_reads_files(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.txt"
    source.write_text("w0 w1\nw2\n", encoding="utf-8")
    overrides = [f"common_eval.path={folder}/checkpoint_best.pt", "common.cpu=true", f"interactive.input={source}"]
    assert interactive.main([*overrides, "common_eval.format=json", "generation.nbest=2"]) == 0
    contents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [content["source"] for content in contents] == ["w0 w1", "w2"]
    assert all(len(content["hypotheses"]) == 2 for content in contents)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["interactive.input=nowhere.txt"], "interactive.input=nowhere.txt cannot be read"),
        (["dataset.batch_size=8"], "dataset.batch_size=8 is more than the interactive.buffer_size=1"),
        (["common_eval.path=null"], "common_eval.path is not given"),
        (["generation.decoding_format=bs"], "decoding_format=bs is for models that refine whole outputs"),
        (["distributed_training.distributed_world_size=2"], "lines are decoded as they come, by one process"),
        (["generation.lm_path=nowhere.pt", "generation.lm_weight=0.1"], "no such checkpoint: nowhere.pt"),
    ],
)
def test_interactives_mistakes_are_told(
    folder: Path,
    overrides: list[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w0\n")))
    given = [f"common_eval.path={folder}/checkpoint_best.pt", "common.cpu=true", *overrides]
    assert interactive.main(given) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("buffer_size", [1, 2, 10])
def test_a_line_that_is_not_utf8_stops_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], buffer_size: int
) -> None:
    given = [f"common_eval.path={folder}/checkpoint_best.pt", "common.cpu=true", "common_eval.format=json"]
    given.append(f"interactive.buffer_size={buffer_size}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"w0 w1\n\xff\xfe w2\nw1\n")))
    assert interactive.main(given) == 0
    captured = capsys.readouterr()
    first, wrong, last = (json.loads(line) for line in captured.out.splitlines())
    assert (first["source"], wrong["source"], last["source"]) == ("w0 w1", "\ufffd\ufffd w2", "w1")
    assert first["hypotheses"]
    assert last["hypotheses"]
    assert not wrong["hypotheses"]
    assert wrong["error"] == "it is not UTF-8 (invalid start byte at byte 0)"
    assert "line 2 is left out: it is not UTF-8" in captured.err


def test_generate_needs_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main([f"common_eval.path={folder}/checkpoint_best.pt", "common.cpu=true"]) == 2
    assert "test" in capsys.readouterr().err
