"""The command lines of fairseq's documentation: each is understood, or refused with what is missing."""

from __future__ import annotations

import ast
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqkit.config.compose import compose, variant
from seqkit.config.flags import FlagParser
from seqkit.config.root import RootConfig
from seqkit.config.validate import to_dict
from seqkit.errors import UserError
from seqkit.interop.fairseq.flags import to_overrides, to_root_config
from seqkit_cli import preprocess, score
from tests.unit.interop.fairseq.command_lines import MISSING, OLD_SPELLINGS, PREPROCESS, SCORE, USABLE

_SPELLED_OTHERWISE = {
    "s": "source_lang",
    "t": "target_lang",
    "remove_bpe": "post_process",
    "max_sentences": "batch_size",
    "combine_val": "combine_valid_subsets",
    "moses_source_lang": "source_lang",
    "moses_target_lang": "target_lang",
}
_MEANT_ALONE = {
    "post_process": "subword_nmt",
    "eval_bleu_remove_bpe": "@@ ",
    "print_alignment": "hard",
    "constraints": "ordered",
}
_COMPONENTS = ("task", "arch", "criterion", "optimizer", "lr_scheduler", "bpe", "tokenizer", "scoring")


def flags_of(line: str) -> Iterator[tuple[str, str | None]]:
    """(name with underscores, value or None) of each flag; a positional word has the name "data"."""
    words = shlex.split(line)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            yield "data", word
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("-") else ""
        yield name.replace("-", "_"), value or None


def values_of(config: RootConfig, name: str) -> list[Any]:
    """All values that the given part of a config has for an option."""
    return [section[name] for section in config.given.values() if isinstance(section, dict) and name in section]


def read(text: Any) -> Any:
    """A value as fairseq reads it: a number, a tuple, a mapping, several with commas, or text."""
    if not isinstance(text, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("command", "line"), USABLE)
def test_every_flag_is_understood(command: str, line: str) -> None:
    config = to_root_config(command, shlex.split(line))
    data = config.given["task"]["data"]
    assert data in shlex.split(line)
    for name, text in dict(flags_of(line)).items():  # of a flag that is repeated, the last one counts
        option = _SPELLED_OTHERWISE.get(name, name)
        if option in (*_COMPONENTS, "data", "a", "retain_dropout_modules"):
            continue
        found = values_of(config, option)
        assert found, f"{name} is nowhere"
        for value in found:
            if text in (None, data):  # a flag alone; the data folder may come behind it
                assert value is True or value == _MEANT_ALONE.get(option), (name, value)
            else:
                assert read(value) == read(text), name


@pytest.mark.parametrize(("command", "line"), [pair for pair in USABLE if pair[0] == "train"][::3])
def test_components_and_what_the_architecture_sets(command: str, line: str) -> None:
    config = to_root_config(command, shlex.split(line))
    told = dict(flags_of(line))
    assert config.task is not None
    assert config.task._name == told.get("task", "translation")
    assert config.optimizer is not None
    assert config.optimizer._name == told["optimizer"]
    assert config.lr_scheduler is not None
    assert config.lr_scheduler._name == told.get("lr_scheduler", "fixed")
    assert config.criterion is not None
    assert config.criterion._name == told.get("criterion", "cross_entropy")
    assert config.model is not None
    model = to_dict(config.model)
    for option, value in variant("model", str(told["arch"])).items():
        if option not in told:
            assert model[option] == value, option


@pytest.mark.parametrize("line", [line for command, line in USABLE if command == "train"][::6])
def test_as_overrides_they_give_the_same(line: str) -> None:
    words = shlex.split(line)
    direct, composed = to_root_config("train", words), compose(None, to_overrides("train", words))
    assert to_dict(direct) == to_dict(composed)


def test_modules_that_keep_dropout_may_be_several_words() -> None:
    lines = [line for _, line in USABLE if "--retain-dropout-modules" in line]
    modules = [to_root_config("generate", shlex.split(line)).generation.retain_dropout_modules for line in lines]
    assert modules[0] == ["TransformerModel", "TransformerEncoder", "TransformerDecoder", "TransformerEncoderLayer"]
    assert modules[1] == [*modules[0], "TransformerDecoderLayer"]


def test_modules_that_keep_dropout_do_not_swallow_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bin").mkdir()
    for data in ("bin", "data-bin"):
        config = to_root_config("generate", ["--retain-dropout-modules", "TransformerModel", data, "--path", "x"])
        assert config.given["task"] == {"data": data}
        assert config.generation.retain_dropout_modules == ["TransformerModel"]


@pytest.mark.parametrize(("command", "line"), OLD_SPELLINGS)
def test_old_spellings_mean_what_they_meant(command: str, line: str) -> None:
    config = to_root_config(command, shlex.split(line))
    assert config.optimization.stop_min_lr == 1e-9
    if "--max-lr" in line:
        assert config.optimization.lr == [1.0]
        assert config.lr_scheduler is not None
        assert to_dict(config.lr_scheduler)["min_lr"] == 0.0001
    else:
        assert config.optimization.lr == [0.0005]


@pytest.mark.parametrize(
    ("flags", "section", "option", "value"),
    [
        ("--raw-text", "dataset", "dataset_impl", "raw"),
        ("--lazy-load", "dataset", "dataset_impl", "lazy"),
        ("--wd 0.1", "optimizer", "weight_decay", 0.1),
        ("--min-lr 1e-9", "optimization", "stop_min_lr", 1e-9),
        ("--lr-scheduler cosine --min-lr 1e-9 --max-update 9", "lr_scheduler", "min_lr", 1e-9),
        ("--bpe sentencepiece --sentencepiece-vocab m.model", "bpe", "sentencepiece_model", "m.model"),
        ("--tokenizer moses --moses-source-lang fr", "tokenizer", "source_lang", "fr"),
        ("--save-async", "checkpoint", "write_checkpoints_asynchronously", True),
        ("--write-checkpoints-asynchronously", "checkpoint", "write_checkpoints_asynchronously", True),
    ],
)
def test_retired_and_inverted_flags(flags: str, section: str, option: str, value: Any) -> None:
    words = ["data-bin", "--arch", "transformer", "--optimizer", "adam", *shlex.split(flags)]
    config = to_root_config("train", words)
    assert to_dict(getattr(config, section))[option] == value
    assert to_dict(getattr(compose(None, to_overrides("train", words)), section))[option] == value
    assert config.given["task"]["data"] == "data-bin"


@pytest.mark.parametrize(("command", "line", "text"), MISSING)
def test_what_seqkit_has_not_is_named(command: str, line: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        to_root_config(command, shlex.split(line))
    assert text in str(caught.value)


@pytest.mark.parametrize("line", PREPROCESS)
def test_preprocessing(line: str) -> None:
    values = preprocess._parser({}).parse_flags(shlex.split(line))
    for name, text in flags_of(line):
        value = values[_SPELLED_OTHERWISE.get(name, name)]
        assert value is True if text is None else str(value) == text, name


@pytest.mark.parametrize("line", SCORE)
def test_scoring(line: str) -> None:
    parser: FlagParser = score._parser(["bleu"])
    assert parser.parse_flags(shlex.split(line)) == dict(flags_of(line))


TRAIN = "data-bin --arch transformer --optimizer adam"


@pytest.mark.parametrize(
    ("command", "line", "text"),
    [
        ("train", f"{TRAIN} --max-tokns 5", "unknown flag --max-tokns; did you mean '--max-tokens'"),
        ("train", f"{TRAIN} --dropuot 0.1", "unknown flag --dropuot; did you mean '--dropout'"),
        ("train", f"{TRAIN} --criterion label_smoothed_cross_entropy --lable-smoothing 0.1", "'--label-smoothing'"),
        ("train", f"{TRAIN} --lr-schedular fixed", "unknown flag --lr-schedular; did you mean '--lr-scheduler'"),
        ("train", f"{TRAIN} --updat-freq 4", "unknown flag --updat-freq; did you mean '--update-freq'"),
        ("train", f"{TRAIN} --clip-norms 0", "unknown flag --clip-norms; did you mean '--clip-norm'?"),
        ("train", f"{TRAIN} --fp-16", "unknown flag --fp-16; did you mean '--fp16'"),
        ("train", f"{TRAIN} --save-dirs x", "unknown flag --save-dirs; did you mean '--save-dir'"),
        ("train", f"{TRAIN} --maxepoch 3", "unknown flag --maxepoch; did you mean '--max-epoch'"),
        ("train", f"{TRAIN} --valid-subsets v", "unknown flag --valid-subsets; did you mean '--valid-subset'"),
        ("train", f"{TRAIN} --weigth-decay 0.1", "unknown flag --weigth-decay; did you mean '--weight-decay'"),
        ("train", f"{TRAIN} --ddp-backend no_c10", "'no_c10' is not one of c10d, fully_sharded, legacy_ddp, no_c10d"),
        ("train", f"{TRAIN} --criterion label_smooth", "--criterion: unknown criterion 'label_smooth'; did you mean"),
        ("train", f"{TRAIN} --task translatoin", "--task: unknown task 'translatoin'; did you mean 'translation'?"),
        ("train", f"{TRAIN} --arch transformr", "--arch: unknown model 'transformr'; did you mean 'transformer'"),
        (
            "train",
            f"{TRAIN} --lr-scheduler inverse_sqr",
            "unknown lr_scheduler 'inverse_sqr'; did you mean 'inverse_sqrt'",
        ),
        (
            "train",
            f"{TRAIN} --encoder-layer 6",
            "ambiguous flag --encoder-layer: it could be --encoder-layerdrop, --enc",
        ),
        ("train", f"{TRAIN} --update-freq 1,x", "optimization.update_freq='1,x' is not a list of whole numbers"),
        ("train", f"{TRAIN} --adam-betas '(0.9'", "optimizer.adam_betas='(0.9' is not a list of numbers"),
        ("train", f"{TRAIN} --max-tokens 0", "dataset.max_tokens=0 is out of range; give at least 1"),
        ("generate", "data-bin --path x.pt --beem 5", "unknown flag --beem; did you mean '--beam'"),
        ("generate", "data-bin --path x.pt --nbset 2", "unknown flag --nbset; did you mean '--nbest'"),
        ("generate", "data-bin --path x.pt --gen-subest x", "unknown flag --gen-subest; did you mean '--gen-subset'"),
        ("generate", "data-bin --path x.pt --print-alignment maybe", "'maybe' is not one of hard, soft"),
        ("generate", "data-bin --path x.pt --model-overrides {", "common_eval.model_overrides='{' is not a mapping"),
        ("generate", "data-bin --path x.pt --sampling-topk", "--sampling-topk expects a value"),
        ("eval_lm", "data-bin --path x.pt --contxt-window 3", "unknown flag --contxt-window; did you mean '--context-"),
        ("eval_lm", "data-bin --path x.pt --beam 3", "unknown flag --beam"),
        ("interactive", "d --path x --bufer-size 3", "unknown flag --bufer-size; did you mean '--buffer-size'"),
    ],
)
def test_mistakes_are_named_with_what_is_near(command: str, line: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        to_root_config(command, shlex.split(line))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("command", "flags", "section", "option", "value"),
    [
        ("train", "--warmup-up 4 --lr-scheduler inverse_sqrt", "lr_scheduler", "warmup_updates", 4),
        ("train", "--share-all", "model", "share_all_embeddings", True),
        ("train", "--max_tokens 40", "dataset", "max_tokens", 40),
        ("train", "--max-sentences 8", "dataset", "batch_size", 8),
        ("train", "--max-sentences-valid 8", "dataset", "batch_size_valid", 8),
        ("train", "--max-source-positions 9", "task", "max_source_positions", 9),
        ("train", "--max-source-positions 9", "model", "max_source_positions", 9),
        ("train", "--lr 0.1,0.2", "optimization", "lr", [0.1, 0.2]),
        ("train", "--lr [0.1]", "optimizer", "lr", [0.1]),
        ("train", "--update-freq '1,2'", "optimization", "update_freq", [1, 2]),
        ("train", "--adam-betas '(0.9, 0.98)'", "optimizer", "adam_betas", [0.9, 0.98]),
        ("train", "--adam-betas 0.9,0.98", "optimizer", "adam_betas", [0.9, 0.98]),
        ("train", "--fp16-scale-window 128", "common", "fp16_scale_window", 128),
        ("train", "--save-interval-updates 7", "checkpoint", "save_interval_updates", 7),
        ("train", "--keep-best-checkpoints 3", "checkpoint", "keep_best_checkpoints", 3),
        ("train", "--combine-val", "dataset", "combine_valid_subsets", True),
        ("train", "--nval 3", "dataset", "max_valid_steps", 3),
        ("train", "--local_rank 0", "distributed_training", "device_id", 0),
        ("train", "--left-pad-source False", "task", "left_pad_source", False),
        ("train", "--optimizer-overrides \"{'lr': 0.1}\"", "checkpoint", "optimizer_overrides", {"lr": 0.1}),
        ("generate", "--remove-bpe", "common_eval", "post_process", "subword_nmt"),
        ("generate", "--remove-bpe=sentencepiece", "common_eval", "post_process", "sentencepiece"),
        ("generate", "--post-process sentencepiece", "common_eval", "post_process", "sentencepiece"),
        ("generate", "--print-alignment", "generation", "print_alignment", "hard"),
        ("generate", "--print-alignment soft", "generation", "print_alignment", "soft"),
        ("generate", "--sacrebleu", "generation", "sacrebleu", True),
        ("generate", "--quiet", "common_eval", "quiet", True),
        ("generate", "--nbest 3", "generation", "nbest", 3),
        ("generate", "--path a.pt:b.pt", "common_eval", "path", "a.pt:b.pt"),
        ("generate", "--model-overrides \"{'dropout': 0.1}\"", "common_eval", "model_overrides", {"dropout": 0.1}),
        ("generate", "--num-shards 2 --shard-id 1", "dataset", "shard_id", 1),
        ("generate", "--replace-unk", "generation", "replace_unk", ""),
        ("generate", "--max-len-a 1.2", "generation", "max_len_a", 1.2),
    ],
)
def test_abbreviations_aliases_and_ways_to_write_values(
    command: str, flags: str, section: str, option: str, value: Any
) -> None:
    start = TRAIN if command == "train" else "data-bin"
    config = to_root_config(command, shlex.split(f"{start} {flags}"))
    assert to_dict(getattr(config, section))[option] == value
    assert config.given["task"]["data"] == "data-bin"
