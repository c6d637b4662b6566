"""Composition by Hydra: files, groups, overrides, interpolations, and messages of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.config.compose import compose, variant
from seqkit.config.recipes import configs_dir, recipe_names, variant_names
from seqkit.config.validate import to_dict
from seqkit.errors import ConfigError, UnknownNameError
from tests.unit.config.fakes import PLAIN

pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "toy_large.yaml").write_text("defaults: [toy_model]\nwidth: 64\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "recipe.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - /config\n  - /task: toy_task\n  - /model: toy_large\n  - /optimizer: toy_optimizer\n"
        "  - /criterion: toy_criterion\n  - /lr_scheduler: toy_schedule\n  - /scoring: toy_score\n  - _self_\n"
        "task:\n  data: here\nmodel:\n  dropout: 0.3\noptimizer:\n  toy_betas: [0.9, 0.98]\n"
    )
    (tmp_path / "inline.yaml").write_text(
        "task:\n  _name: toy_task\n  data: ${oc.env:SEQKIT_TEST_DATA}/bin\n"
        "model: {_name: toy_model, width: 5}\n"
        "optimizer: {_name: toy_optimizer, toy_betas: '(0.5, 0.6)', lr: '${optimization.lr}'}\n"
        "criterion: toy_criterion\nlr_scheduler: toy_schedule\nscoring: toy_score\n"
        "optimization: {lr: [1e-3]}\ndataset: {max_tokens: 10, batch_size: '${dataset.max_tokens_valid}'}\n"
    )
    return tmp_path


def test_overrides_choose_components_and_set_values() -> None:
    config = compose(
        None,
        [*PLAIN, "task=toy_task", "task.data=x", "optimizer=toy_optimizer", "optimizer.toy_betas=[0.9,0.98]"],
    )
    assert to_dict(config.optimizer) == {
        "_name": "toy_optimizer",
        "toy_betas": [0.9, 0.98],
        "weight_decay": 0.0,
        "lr": [0.25],
    }
    assert config.given["optimizer"] == {"_name": "toy_optimizer", "toy_betas": [0.9, 0.98]}
    assert "dataset" not in config.given


def test_a_variant_takes_the_component_defaults_below_its_own_values(folder: Path) -> None:
    config = compose(None, [*PLAIN, "model=toy_large", "model.dropout=0"], folder)
    assert to_dict(config.model) == {
        "_name": "toy_model",
        "width": 64,
        "dropout": 0.0,
        "encoder_layers": 2,
        "max_source_positions": 1024,
    }


def test_a_recipe_in_a_subfolder(folder: Path) -> None:
    config = compose("sub/recipe", ["dataset.max_tokens=7"], folder)
    assert to_dict(config.model)["width"] == 64
    assert to_dict(config.model)["dropout"] == 0.3
    assert config.dataset.max_tokens_valid == 7
    assert config.given["task"] == {"_name": "toy_task", "data": "here"}


def test_a_recipes_options_do_not_trouble_another_component(folder: Path) -> None:
    config = compose("sub/recipe", ["optimizer=other_optimizer", "optimizer.momentum=0.9"], folder)
    assert to_dict(config.optimizer) == {"_name": "other_optimizer", "momentum": 0.9, "lr": [0.25]}
    assert config.given["optimizer"] == {"_name": "other_optimizer", "momentum": 0.9}
    with pytest.raises(ConfigError, match=r"unknown option optimizer\.toy_betas"):
        compose("sub/recipe", ["optimizer=other_optimizer", "optimizer.toy_betas=[1]"], folder)


def test_fairseqs_inline_yaml_is_filled_and_its_interpolations_see_defaults(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQKIT_TEST_DATA", "/corpus")
    config = compose("inline", [], folder)
    assert config.task.data == "/corpus/bin"  # type: ignore[union-attr]
    assert config.optimizer.toy_betas == [0.5, 0.6]  # type: ignore[union-attr]
    assert config.optimizer.lr == [1e-3]  # type: ignore[union-attr]
    assert config.dataset.batch_size == 10
    assert compose("inline", ["model=toy_large"], folder).model.width == 64  # type: ignore[union-attr]
    assert compose("inline", ["bpe=toy_bpe", "optimizer=null"], folder).optimizer is None


def test_text_that_hydras_grammar_would_not_take_stays_text() -> None:
    config = compose(
        None,
        [
            *PLAIN,
            "common_eval.post_process=@@ ",
            "common_eval.path=a(1).pt:b.pt",
            "dataset.valid_subset=valid,valid1",
            "optimization.lr=0.1,0.2",
            "checkpoint.save_dir=",
        ],
    )
    assert config.common_eval.post_process == "@@ "
    assert config.common_eval.path == "a(1).pt:b.pt"
    assert config.dataset.valid_subset == "valid,valid1"
    assert config.optimization.lr == [0.1, 0.2]
    assert config.checkpoint.save_dir == ""


def test_every_mistake_is_in_one_message_of_ours(folder: Path) -> None:
    with pytest.raises(ConfigError) as error:
        compose(
            None,
            [
                *PLAIN,
                "task=toy_tsk",
                "model=toy_larg",
                "dataset.max_tokns=3",
                "max_tokens=3",
                "common.seed=many",
                "common.log_file=${nowhere.at_all}",
            ],
            folder,
        )
    assert error.value.problems == [
        "common.log_file: Interpolation key 'nowhere.at_all' not found",
        "unknown section max_tokens; max_tokens belongs to dataset: dataset.max_tokens",
        "unknown task 'toy_tsk'; did you mean 'toy_task'?",
        "unknown model 'toy_larg'; did you mean 'toy_large'?",
        "common.seed='many' is not a whole number",
        "unknown option dataset.max_tokns; did you mean dataset.max_tokens or dataset.max_tokens_valid?",
    ]


def test_arguments_that_are_no_overrides(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'frobnicate' is not an override; write SECTION\.OPTION=VALUE or KIND=NAME$"
    ):
        compose(None, ["frobnicate"])
    with pytest.raises(ConfigError, match=r"is it the data folder\? write task\.data="):
        compose(None, [str(tmp_path)])


def test_an_unknown_config_name_lists_near_matches(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no config 'sub/recip'; did you mean 'sub/recipe'"):
        compose("sub/recip", [], folder)


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "bad.yaml").write_text("task: [unclosed\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        compose("bad", [], folder)


def test_the_users_plugins_are_imported_before_their_names_are_needed(tmp_path: Path) -> None:
    plugins = tmp_path / "my_config_plugins"
    plugins.mkdir()
    (plugins / "tokenizer_of_mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from seqkit.config.base import Config, option\n"
        "from seqkit.registry import registry\n"
        "@dataclass\nclass MineConfig(Config):\n    strength: int = option(3, 'strength')\n"
        "@registry('tokenizer').register('mine_of_test', config=MineConfig)\nclass Mine:\n    pass\n"
    )
    config = compose(None, [*PLAIN, f"common.user_dir={plugins}", "tokenizer=mine_of_test"])
    assert to_dict(config.tokenizer) == {"_name": "mine_of_test", "strength": 3}


def test_variants_are_named_by_files() -> None:
    assert variant("model", "toy_model") == {"_name": "toy_model"}
    with pytest.raises(UnknownNameError, match="did you mean 'toy_model'"):
        variant("model", "toy_modl")


def test_every_shipped_file_is_a_recipe_or_a_variant() -> None:
    kinds = [path.name for path in configs_dir().iterdir() if path.is_dir()]
    found = len(recipe_names()) + sum(len(variant_names(kind)) for kind in kinds if kind in ("model", "task"))
    assert found == len(list(configs_dir().rglob("*.yaml")))


@pytest.mark.parametrize("name", variant_names("model"))
def test_every_shipped_architecture_composes(name: str) -> None:
    assert compose(None, [*PLAIN, f"model={name}"]).model is not None


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_composes(name: str) -> None:
    config = compose(name, [], missing_allowed=True)
    assert config.task is not None
    assert config.model is not None
