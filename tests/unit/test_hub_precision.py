"""The hub and the commands in int8 and in half precision, on a random model whose layers are large enough."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from seqkit.checkpoint.io import write_checkpoint
from seqkit.checkpoint.state import CheckpointState
from seqkit.errors import ConfigError
from seqkit.hub import Hub, from_pretrained
from seqkit.modules.quantized_linear import QuantizedLinear
from seqkit_cli import eval_lm, generate, interactive
from tests.unit.generation.tiny import tiny_dictionary, tiny_language_model, tiny_model

LINES = ["w0 w1", "w2", "", "w3 w3 w0 w1 w2"]
PRECISIONS = ({}, {"bf16": True}, {"memory_efficient_bf16": True}, {"quantize": "int8"})
WIDTHS = {
    "encoder_embed_dim": 256,
    "decoder_embed_dim": 256,
    "encoder_ffn_embed_dim": 512,
    "decoder_ffn_embed_dim": 512,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


def save(folder: Path) -> Path:
    folder.mkdir()
    dictionary = tiny_dictionary(12)
    config = {
        "task": {"_name": "translation", "source_lang": "de", "target_lang": "en", "data": str(folder)},
        "model": {"_name": "transformer", **WIDTHS},
    }
    model = tiny_model(dictionary, **WIDTHS)
    write_checkpoint(folder / "checkpoint_best.pt", CheckpointState(config=config, model=model.state_dict()))
    for language in ("de", "en"):
        dictionary.save(folder / f"dict.{language}.txt")
        (folder / f"test.de-en.{language}").write_text("w0 w1\nw2\nw3 w3 w0 w1 w2\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("precision") / "model")


def open_hub(folder: Path, **options: object) -> Hub:
    return from_pretrained(folder, cpu=True, max_len_b=6, **options)


@pytest.mark.parametrize("precision", PRECISIONS[1:], ids=str)
def test_scores_are_nearly_those_of_float32(folder: Path, precision: dict[str, object]) -> None:
    targets = ["w1 w0", "w2", "w3", "w1"]
    expected = open_hub(folder).score(LINES, targets)
    hub = open_hub(folder, **precision)
    for own, other in zip(hub.score(LINES, targets), expected, strict=True):
        assert own.score == pytest.approx(other.score, rel=0.04)
        assert own.score != other.score
    assert [result.error for result in hub.answer(LINES)] == [None] * len(LINES)


def test_int8_is_what_the_model_was_opened_with(folder: Path) -> None:
    hub = open_hub(folder, quantize="int8")
    assert any(isinstance(module, QuantizedLinear) for module in hub.models[0].modules())
    assert hub.translate("w0 w1", quantize="int8") == hub.translate("w0 w1")
    with pytest.raises(ConfigError, match="models are quantised when they are loaded, not for one call"):
        hub.translate("w0 w1", quantize="none")
    with pytest.raises(ConfigError, match=r'from_pretrained \(quantize="int8"\)'):
        open_hub(folder).translate("w0 w1", quantize="int8")
    with pytest.raises(ConfigError, match="is for decoding on a CPU, and the models run on cuda:0"):
        hub.to("cuda:0")
    assert hub.device == torch.device("cpu")
    assert hub.translate("w0 w1")


def test_precisions_that_exclude_each_other(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"generation.quantize=int8 and common.bf16=true are two ways"):
        open_hub(folder, quantize="int8", bf16=True)
    with pytest.raises(ConfigError, match=r"common.fp16 and common.bf16 are both set"):
        open_hub(folder, fp16=True, bf16=True)
    with pytest.raises(ConfigError, match="int4"):
        open_hub(folder, quantize="int4")


@pytest.mark.parametrize("option", ["generation.quantize=int8", "common.bf16=true"])
def test_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    checkpoint = f"common_eval.path={folder / 'checkpoint_best.pt'}"
    common = [checkpoint, f"task.data={folder}", "common.cpu=true", "generation.max_len_b=6", option]
    assert generate.main([*common, "dataset.num_workers=0", "dataset.dataset_impl=raw"]) == 0
    generated = capsys.readouterr().out
    lines = tmp_path / "lines.de"
    lines.write_text("w0 w1\nw2\nw3 w3 w0 w1 w2\n", encoding="utf-8")
    assert interactive.main([*common, f"interactive.input={lines}", "interactive.buffer_size=4"]) == 0
    answered = capsys.readouterr().out
    hypotheses = [
        {line.split("\t")[0]: line.split("\t")[2] for line in text.splitlines() if line.startswith("H-")}
        for text in (generated, answered)
    ]
    assert hypotheses[0] == hypotheses[1]
    assert len(hypotheses[0]) == 3


@pytest.mark.parametrize("option", ["generation.quantize=int8", "common.bf16=true"])
def test_a_language_model_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    dictionary = tiny_dictionary(12)
    widths = {
        "decoder_embed_dim": 256,
        "decoder_input_dim": 256,
        "decoder_output_dim": 256,
        "decoder_ffn_embed_dim": 512,
    }
    config = {
        "task": {"_name": "language_modeling", "data": str(tmp_path), "tokens_per_sample": 16},
        "model": {"_name": "transformer_lm", **widths, "decoder_layers": 2, "decoder_attention_heads": 2},
    }
    model = tiny_language_model(dictionary, **widths, max_target_positions=16)
    write_checkpoint(tmp_path / "lm.pt", CheckpointState(config=config, model=model.state_dict()))
    dictionary.save(tmp_path / "dict.txt")
    (tmp_path / "test").write_text("w0 w1 w2\nw3 w4 w5 w6\n", encoding="utf-8")
    losses = []
    for options in ([], [option]):
        arguments = [f"common_eval.path={tmp_path / 'lm.pt'}", f"task.data={tmp_path}", "common.cpu=true"]
        assert eval_lm.main([*arguments, "dataset.num_workers=0", "common_eval.format=json", *options]) == 0
        losses.append(capsys.readouterr().out.split('"loss": ')[1].split(",")[0])
    assert float(losses[1]) == pytest.approx(float(losses[0]), rel=0.02)
    assert losses[0] != losses[1]
