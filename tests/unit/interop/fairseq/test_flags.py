"""fairseq's flags: spellings, abbreviations, lists, switches, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seqkit.config.compose import compose
from seqkit.config.root import merge_given, root_from_dict
from seqkit.errors import ConfigError
from seqkit.interop.fairseq.flags import COMMANDS, is_command, is_override, to_overrides, to_root_config, translate
from tests.unit.config.fakes import PLAIN_DICT

pytestmark = pytest.mark.usefixtures("toys")

PLAIN = ["--criterion", "toy_criterion", "--lr-scheduler", "toy_schedule", "--scoring", "toy_score"]
TOY = ["--task", "toy_task", "--arch", "toy_model", "--optimizer", "toy_optimizer", *PLAIN]


def train(*flags: str) -> dict[str, Any]:
    return translate("train", [*TOY, *flags])


def test_a_training_command() -> None:
    argv = [*TOY, "data-bin", "-s", "de", "--lr", "5e-4,1e-4", "--toy-betas", "(0.9, 0.98)", "--max-tokens=4096"]
    config = to_root_config(
        "train", [*argv, "--update-freq", "4,8", "--fp16", "--weight-decay", "0.01", "--width", "3"]
    )
    assert config.task.data == "data-bin"  # type: ignore[union-attr]
    assert config.task.source_lang == "de"  # type: ignore[union-attr]
    assert config.optimization.lr == [5e-4, 1e-4]
    assert config.optimizer.lr == [5e-4, 1e-4]  # type: ignore[union-attr]
    assert config.optimizer.toy_betas == [0.9, 0.98]  # type: ignore[union-attr]
    assert config.optimizer.weight_decay == 0.01  # type: ignore[union-attr]
    assert config.optimization.update_freq == [4, 8]
    assert (config.dataset.max_tokens, config.dataset.max_tokens_valid) == (4096, 4096)
    assert config.common.fp16 is True
    assert config.model.width == 3  # type: ignore[union-attr]


def test_nothing_is_given_but_what_the_flags_say() -> None:
    assert train() == {
        "task": {"_name": "toy_task"},
        "model": {"_name": "toy_model"},
        "criterion": {"_name": "toy_criterion"},
        "optimizer": {"_name": "toy_optimizer"},
        "lr_scheduler": {"_name": "toy_schedule"},
        "scoring": {"_name": "toy_score"},
    }


@pytest.mark.parametrize(
    ("flags", "section", "expected"),
    [
        (["--max-sentences", "8"], "dataset", {"batch_size": "8"}),
        (["--save_dir", "x"], "checkpoint", {"save_dir": "x"}),
        (["--save-d", "x"], "checkpoint", {"save_dir": "x"}),
        (["--stop-min-lr", "-1"], "optimization", {"stop_min_lr": "-1"}),
        (["--combine-val"], "dataset", {"combine_valid_subsets": True}),
        (["--no-save"], "checkpoint", {"no_save": True}),
        (["--left-pad-source"], "task", {"_name": "toy_task", "left_pad_source": False}),
        (["--left-pad-source", "False"], "task", {"_name": "toy_task", "left_pad_source": False}),
        (["--left-pad-source", "True", "dir"], "task", {"_name": "toy_task", "left_pad_source": True, "data": "dir"}),
        (["--fp16", "dir"], "task", {"_name": "toy_task", "data": "dir"}),
        (["-sde"], "task", {"_name": "toy_task", "source_lang": "de"}),
        (["--", "--odd-dir"], "task", {"_name": "toy_task", "data": "--odd-dir"}),
        (["--max-source-positions", "9"], "task", {"_name": "toy_task", "max_source_positions": "9"}),
        (["--bpe", "toy_bpe", "--toy-codes"], "bpe", {"_name": "toy_bpe", "toy_codes": "built-in"}),
        (["--bpe", "toy_bpe", "--toy-codes", "f"], "bpe", {"_name": "toy_bpe", "toy_codes": "f"}),
        (["--toy-b", "0.9,0.98"], "optimizer", {"_name": "toy_optimizer", "toy_betas": "0.9,0.98"}),
    ],
)
def test_spellings(flags: list[str], section: str, expected: dict[str, Any]) -> None:
    assert train(*flags)[section] == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--remove-bpe"], {"post_process": "subword_nmt"}),
        (["--remove-bpe=@@ "], {"post_process": "@@ "}),
        (["--post-process", "sentencepiece"], {"post_process": "sentencepiece"}),
    ],
)
def test_flags_with_a_value_that_may_be_left_out(flags: list[str], expected: dict[str, Any]) -> None:
    assert translate("generate", ["--path", "x.pt", *flags])["common_eval"] == {"path": "x.pt", **expected}


def test_a_decoding_command_gives_only_what_goes_over_the_checkpoints_config() -> None:
    given = translate("generate", ["dir", "--task", "toy_task", "-s", "de", "--path", "x.pt", "--beam", "3"])
    merged = merge_given({"task": {"_name": "toy_task", "data": "old", "max_source_positions": 5}}, given)
    config = root_from_dict({**PLAIN_DICT, **merged})
    assert config.generation.beam == 3
    assert config.task.data == "dir"  # type: ignore[union-attr]
    assert config.task.max_source_positions == 5  # type: ignore[union-attr]
    assert translate("validate", ["dir", "--path", "x.pt"]) == {
        "task": {"data": "dir"},
        "common_eval": {"path": "x.pt"},
    }


def test_a_decoding_command_as_a_root_config_keeps_the_rest_as_given() -> None:
    config = to_root_config("validate", ["dir", "--path", "x.pt"])
    assert config.task is None
    assert config.given["task"] == {"data": "dir"}
    assert config.common_eval.path == "x.pt"


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        train("--max-tokns", "5", "--max-tok", "5", "--save-dir", "--qqqqqq", "3", "a", "b", "-z")
    assert error.value.problems == [
        "unknown flag --max-tokns; did you mean '--max-tokens' or '--max-tokens-valid' or '--max-epoch'?",
        "ambiguous flag --max-tok: it could be --max-tokens, --max-tokens-valid",
        "--save-dir expects a value",
        "unknown flag --qqqqqq",
        "unknown flag -z",
        "unexpected 'b': there is one positional argument, the data folder",
    ]


def test_a_data_folder_given_twice_is_told() -> None:
    with pytest.raises(ConfigError, match=r"'a' .* and task\.data=b: give one of them"):
        to_overrides("validate", ["a", "task.data=b", "--path", "x.pt"])
    assert "task.data=a" in to_overrides("validate", ["a", "task.data=a", "--path", "x.pt"])


def test_unknown_components_are_told_before_flags_that_may_be_theirs() -> None:
    with pytest.raises(ConfigError) as error:
        translate("train", [*PLAIN, "--task", "toy_tsk", "--arch", "toy_modl", "--some-flag", "1"])
    assert error.value.problems == [
        "--task: unknown task 'toy_tsk'; did you mean 'toy_task'?",
        "--arch: unknown model 'toy_modl'; did you mean 'toy_model'?",
    ]


def test_training_needs_its_components() -> None:
    with pytest.raises(ConfigError, match="no optimizer is chosen"):
        to_root_config("train", ["--task", "toy_task", "dir", "--arch", "toy_model", *PLAIN])


def test_the_users_plugins_may_define_what_the_flags_choose(tmp_path: Path) -> None:
    folder = tmp_path / "plugins_of_flags_test"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom seqkit.config.base import Config, option\n"
        "from seqkit.registry import registry\n"
        "@dataclass\nclass MineConfig(Config):\n    mine_strength: int = option(3, 'strength')\n"
        "@registry('tokenizer').register('mine_of_flags', config=MineConfig)\nclass Mine:\n    pass\n"
    )
    given = train("--user-dir", str(folder), "--tokenizer", "mine_of_flags", "--mine-strength", "4")
    assert given["tokenizer"] == {"_name": "mine_of_flags", "mine_strength": "4"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_takes_the_common_flags(command: str) -> None:
    given = translate(command, ["--cpu", "--num-workers", "0"])
    assert given["common"] == {"cpu": True}
    assert given["dataset"] == {"num_workers": "0"}


def test_a_switch_that_is_on_by_default_takes_a_number() -> None:
    argv = ["--task", "language_modeling", "--arch", "lightconv_lm", "--optimizer", "adam", "data-bin"]
    flags = [
        "--decoder-glu",
        "0",
        "--weight-softmax",
        "1",
        "--decoder-kernel-size-list",
        "3,7",
        "--decoder-layers",
        "2",
    ]
    config = to_root_config("train", [*argv, *flags])
    model = vars(config.model)
    assert (model["decoder_glu"], model["weight_softmax"], model["decoder_kernel_size_list"]) == (False, True, [3, 7])


def test_a_model_knows_its_criterion_by_fairseq_s_own_flag() -> None:
    argv = ["--task", "language_modeling", "--arch", "lstm_lm", "--optimizer", "adam", "data-bin"]
    assert vars(to_root_config("train", argv).model)["criterion"] == "cross_entropy"
    given = [*argv, "--criterion", "adaptive_loss"]
    assert vars(to_root_config("train", given).model)["criterion"] == "adaptive_loss"


def test_the_peak_of_a_triangle_is_its_own() -> None:
    """`--max-lr` is an old spelling beside a cosine schedule alone."""
    schedule = ["--lr-scheduler", "triangular", "--lr", "0.1", "--max-lr", "0.5"]
    given = translate("train", [*TOY[:6], "--criterion", "toy_criterion", *schedule])
    assert given["lr_scheduler"] == {"_name": "triangular", "max_lr": "0.5"}
    assert given["optimization"]["lr"] == "0.1"


def test_overrides_give_what_the_flags_say() -> None:
    argv = [*TOY, "data bin", "--lr", "5e-4,1e-4", "--toy-betas", "(0.9, 0.98)", "--fp16", "--save-dir", "${x}'\"y"]
    overrides = to_overrides("train", argv)
    assert overrides[:3] == ["task=toy_task", "model=toy_model", "criterion=toy_criterion"]
    config = compose(None, overrides)
    assert config.task.data == "data bin"  # type: ignore[union-attr]
    assert config.optimization.lr == [5e-4, 1e-4]
    assert config.optimizer.toy_betas == [0.9, 0.98]  # type: ignore[union-attr]
    assert config.common.fp16 is True
    assert config.checkpoint.save_dir == "${x}'\"y"
    assert config.given["optimization"] == {"lr": [5e-4, 1e-4]}


def test_overrides_may_stand_among_flags() -> None:
    argv = [*TOY, "--fp16", "dataset.max_tokens=7", "--bpe", "toy_bpe", "--toy-codes", "task.data=x", "+common.seed=2"]
    overrides = to_overrides("train", argv)
    assert overrides[-3:] == ["dataset.max_tokens=7", "task.data=x", "+common.seed=2"]
    assert "bpe.toy_codes='built-in'" in overrides
    with pytest.raises(ConfigError, match=r"dataset\.max_tokens='common\.seed=2' is not a whole number"):
        compose(None, to_overrides("train", [*TOY, "x", "--max-tokens", "common.seed=2"]))


def test_what_a_config_file_chooses_is_not_chosen_again() -> None:
    chosen = {"task": "toy_task", "model": "toy_model", "optimizer": "toy_optimizer", "criterion": "toy_criterion"}
    argv = ["--lr-scheduler", "toy_schedule", "--scoring", "toy_score", "--width", "5", "data"]
    assert to_overrides("train", argv, chosen=chosen) == [
        "lr_scheduler=toy_schedule",
        "scoring=toy_score",
        "model.width='5'",
        "task.data='data'",
    ]


def test_flags_of_the_command_itself_are_near_matches_too() -> None:
    with pytest.raises(ConfigError, match=r"unknown flag --print-confg; did you mean '--print-config'"):
        to_overrides("train", [*TOY, "--print-confg"], own_flags=["--print-config"])


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("dataset.max_tokens=1", True),
        ("++task.data=x", True),
        ("model=transformer", True),
        ("hydra.run.dir=x", True),
        ("hydra/launcher=basic", True),
        ("~dataset.batch_size", True),
        ("data-bin", False),
        ("data=bin", False),
        ("/a/model=x", False),
        ("dataset", False),
    ],
)
def test_what_an_override_is(word: str, expected: bool) -> None:
    assert is_override(word) is expected


def test_names_of_commands() -> None:
    assert is_command("eval-lm")
    assert is_command("eval_lm")
    assert not is_command("score")
