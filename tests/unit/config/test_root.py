"""The root config: sections, components by name, what follows what, and problems over all sections."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from seqkit.config.base import MISSING, option_info
from seqkit.config.root import COMPONENTS, SECTIONS, RootConfig, merge_given, root_from_dict
from seqkit.config.validate import options_of, to_dict
from seqkit.errors import ConfigError
from tests.unit.config.fakes import PLAIN_DICT, ToyModelConfig, ToyOptimizerConfig

pytestmark = pytest.mark.usefixtures("toys")


def root(**sections: Any) -> RootConfig:
    return root_from_dict({**PLAIN_DICT, **sections})


def test_every_option_has_a_help_text_and_fits_its_own_default() -> None:
    for section, cls in SECTIONS.items():
        assert all(option_info(item).help for item in options_of(cls).values()), section
    assert to_dict(root()) | PLAIN_DICT == to_dict(RootConfig()) | PLAIN_DICT


def test_a_component_is_its_own_dataclass() -> None:
    config = root(optimizer={"_name": "toy_optimizer", "toy_betas": "(0.9,0.98)"}, model="toy_model")
    assert isinstance(config.optimizer, ToyOptimizerConfig)
    assert config.optimizer.toy_betas == [0.9, 0.98]
    assert isinstance(config.model, ToyModelConfig)
    assert config.task is None


def test_options_follow_others_unless_given() -> None:
    config = root(
        optimizer="toy_optimizer",
        optimization={"lr": [1e-3]},
        dataset={"max_tokens": 100, "batch_size": 7, "batch_size_valid": 3, "train_subset": "part"},
        common={"fp16": True},
        task={"_name": "toy_task", "data": "x", "max_source_positions": 50},
        model="toy_model",
    )
    assert config.optimizer is not None
    assert config.optimizer.lr == [1e-3]  # type: ignore[attr-defined]
    assert (config.dataset.max_tokens_valid, config.dataset.batch_size_valid) == (100, 3)
    assert config.distributed_training.fp16 is True
    assert config.task.train_subset == "part"  # type: ignore[union-attr]
    assert config.model.max_source_positions == 50  # type: ignore[union-attr]


def test_what_follows_an_absent_component_keeps_its_default() -> None:
    assert root(model="toy_model").model.max_source_positions == 1024  # type: ignore[union-attr]


def test_problems_of_all_sections_come_together() -> None:
    with pytest.raises(ConfigError) as error:
        root(
            datset={},
            max_tokens=3,
            dataset={"lr": 1, "max_token": 5, "batch_size": "many"},
            optimizer="toy_optimzer",
            model={"width": 3},
            bpe=3,
            common=4,
            task={"_name": "toy_task"},
        )
    assert error.value.problems == [
        "unknown section datset; did you mean 'dataset'?",
        "unknown section max_tokens; max_tokens belongs to dataset: dataset.max_tokens",
        "common=4 is a section, not an option; give common.OPTION=VALUE",
        f"model.width: no model is chosen; choose one with model=NAME ({', '.join(names('model'))})",
        "unknown optimizer 'toy_optimzer'; did you mean 'toy_optimizer' or 'other_optimizer'?",
        "bpe=3 is not the name of a component",
        "unknown option dataset.lr; lr belongs to optimization: optimization.lr",
        "unknown option dataset.max_token; did you mean dataset.max_tokens or dataset.max_tokens_valid?",
        "dataset.batch_size='many' is not a whole number or null",
        "task.data must be given: the data folder",
    ]


def names(kind: str) -> list[str]:
    from seqkit.registry import registry

    return registry(kind).names()


def test_required_components_are_asked_for() -> None:
    with pytest.raises(ConfigError, match="no task is chosen; choose one with task=NAME") as error:
        root_from_dict({**PLAIN_DICT, "model": None}, required=("task", "model"))
    assert len(error.value.problems) == 2


def test_a_partial_config_leaves_unnamed_components_out() -> None:
    config = root_from_dict({"task": {"data": "y"}, "criterion": {"whatever": 1}}, partial=True)
    assert (config.task, config.criterion, config.scoring) == (None, None, None)
    task = root_from_dict({"task": "toy_task"}, partial=True).task
    assert task is not None
    assert task.data == MISSING  # type: ignore[attr-defined]


def test_null_and_a_null_name_choose_no_component() -> None:
    assert root(bpe=None).bpe is None
    assert root(bpe={"_name": None, "toy_codes": "x"}).bpe is None


def test_lenient_options_are_dropped_only_where_unknown() -> None:
    config = root_from_dict(
        {**PLAIN_DICT, "optimizer": {"_name": "other_optimizer", "toy_betas": [0.9], "momentum": 0.5}},
        lenient={"optimizer": {"toy_betas", "momentum"}},
    )
    assert to_dict(config.optimizer)["momentum"] == 0.5


def test_a_dictionary_of_the_whole_config_makes_the_same_config() -> None:
    config = root(task={"_name": "toy_task", "data": "x"}, optimizer="toy_optimizer", bpe="toy_bpe")
    assert root_from_dict(to_dict(config)) == config
    assert set(to_dict(config)) == {*SECTIONS, *COMPONENTS}


class TestMergeGiven:
    base: ClassVar[dict[str, Any]] = {
        "task": {"_name": "toy_task", "data": "old", "max_source_positions": 50},
        "model": {"_name": "toy_model", "width": 4, "max_source_positions": 50},
        "optimizer": {"_name": "toy_optimizer", "lr": [0.1]},
        "optimization": {"lr": [0.1]},
        "dataset": {"max_tokens": 9, "max_tokens_valid": 5},
    }

    def test_options_are_replaced_one_by_one(self) -> None:
        merged = merge_given(self.base, {"task": {"data": "new"}, "generation": {"beam": 2}})
        assert merged["task"] == {"_name": "toy_task", "data": "new", "max_source_positions": 50}
        assert merged["generation"] == {"beam": 2}
        assert self.base["task"]["data"] == "old"

    def test_another_component_replaces_the_whole_section(self) -> None:
        merged = merge_given(self.base, {"optimizer": {"_name": "other_optimizer", "momentum": 0.1}})
        assert merged["optimizer"] == {"_name": "other_optimizer", "momentum": 0.1}
        assert merge_given(self.base, {"optimizer": None})["optimizer"] is None

    def test_what_followed_a_replaced_option_follows_the_new_one(self) -> None:
        merged = merge_given(self.base, {"task": {"max_source_positions": 70}, "dataset": {"max_tokens": 20}})
        config = root_from_dict({**PLAIN_DICT, **merged})
        assert config.model.max_source_positions == 70  # type: ignore[union-attr]
        assert config.dataset.max_tokens_valid == 5  # had a value of its own
