"""The configuration inside fairseq's checkpoints, nested and flat, old and new."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from seqkit.config.root import root_from_dict
from seqkit.interop.fairseq.config import config_from_args, config_from_cfg
from tests.unit.config.fakes import PLAIN_DICT

pytestmark = pytest.mark.usefixtures("toys")


def cfg(**sections: Any) -> dict[str, Any]:
    return {
        "_name": None,
        "common": {"_name": None, "seed": 7, "tpu": False, "fp16": True},
        "bmuf": {"block_lr": 1},
        "task": {"_name": "toy_task", "data": "bin", "source_lang": "de", "left_pad_source": "True"},
        "optimizer": {"_name": "toy_optimizer", "toy_betas": "(0.9, 0.98)", "lr": [0.1], "tpu": False},
        **{kind: {"_name": name} for kind, name in PLAIN_DICT.items()},
        **sections,
    }


def test_sections_and_components_keep_their_values() -> None:
    config = root_from_dict(config_from_cfg(cfg()))
    assert (config.common.seed, config.common.fp16) == (7, True)
    assert config.task.data == "bin"  # type: ignore[union-attr]
    assert config.task.left_pad_source is True  # type: ignore[union-attr]
    assert config.optimizer.toy_betas == [0.9, 0.98]  # type: ignore[union-attr]
    assert config.model is None


def test_a_whole_namespace_as_a_section_gives_only_the_components_options(caplog: pytest.LogCaptureFixture) -> None:
    namespace = {
        "_name": "toy_model",
        "arch": "toy_model",
        "save_dir": "x",
        "optimizer": "adam",
        "width": 32,
        "dropout": None,
        "something_else": 3,
    }
    with caplog.at_level(logging.INFO):
        mapping = config_from_cfg(cfg(model=namespace))
    assert mapping["model"] == {"_name": "toy_model", "width": 32}
    assert not caplog.records


def test_nested_model_options_become_flat() -> None:
    mapping = config_from_cfg(cfg(model={"_name": "toy_model", "encoder": {"_name": None, "layers": 6}}))
    assert mapping["model"] == {"_name": "toy_model", "encoder_layers": 6}


def test_what_does_not_exist_any_more_is_dropped_and_said_where_it_was_in_use(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        mapping = config_from_cfg(
            cfg(
                distributed_training={"ddp_backend": "slowmo", "slowmo_momentum": None, "gone": 0, "tpu": True},
                checkpoint={"save_dir": "x", "write_to": "${oc.env:NOWHERE}", "ancient": 5},
            )
        )
    assert mapping["distributed_training"] == {"slowmo_momentum": None}
    assert mapping["checkpoint"] == {"save_dir": "x"}
    assert [record.getMessage() for record in caplog.records] == [
        "options of the checkpoint that seqkit does not use, in distributed_training: ddp_backend='slowmo', tpu=True",
        "options of the checkpoint that seqkit does not use, in checkpoint: ancient=5",
    ]
    root_from_dict(mapping)


def test_unknown_components_matter_only_where_a_checkpoint_needs_them() -> None:
    mapping = config_from_cfg(
        cfg(criterion={"_name": "odd_loss", "x": 1}, task={"_name": "odd_task", "data": "x"}, optimizer="toy_optimizer")
    )
    assert "criterion" not in mapping
    assert mapping["task"] == {"_name": "odd_task"}
    assert mapping["optimizer"] == {"_name": "toy_optimizer"}


def test_a_flat_namespace_of_an_old_checkpoint() -> None:
    mapping = config_from_args(
        {
            "arch": "toy_model",
            "task": "toy_task",
            "optimizer": "toy_optimizer",
            "criterion": "toy_criterion",
            "lr_scheduler": "toy_schedule",
            "scoring": "toy_score",
            "data": ["one", "two"],
            "max_sentences": 12,
            "min_lr": 1e-9,
            "remove_bpe": "@@ ",
            "raw_text": True,
            "max_positions": 77,
            "width": 16,
            "toy_betas": "(0.9, 0.98)",
            "lr": [0.1],
            "bpe": None,
        }
    )
    config = root_from_dict(mapping)
    assert config.dataset.batch_size == 12
    assert config.dataset.dataset_impl == "raw"
    assert config.optimization.stop_min_lr == 1e-9
    assert config.common_eval.post_process == "@@ "
    assert config.task.data == "one:two"  # type: ignore[union-attr]
    assert config.task.max_source_positions == 77  # type: ignore[union-attr]
    assert config.model.width == 16  # type: ignore[union-attr]
    assert config.optimizer.lr == [0.1]  # type: ignore[union-attr]
    assert config.bpe is None


def test_the_oldest_checkpoints_name_no_task() -> None:
    assert config_from_args({"arch": "toy_model", "source_lang": "de"})["task"]["_name"] == "translation"


@pytest.mark.parametrize(
    ("old", "tied", "no_norm"),
    [
        ({"no_tie_adaptive_proj": False}, True, True),
        ({"no_tie_adaptive_proj": True}, False, True),
        ({"decoder_final_norm": True}, False, False),
        ({}, False, False),
    ],
)
def test_old_language_models_say_otherwise_what_is_tied_and_normed(
    old: dict[str, Any], tied: bool, no_norm: bool
) -> None:
    config = config_from_args({"arch": "transformer_lm", "task": "language_modeling", **old})["model"]
    assert config["_name"] == "transformer_lm"
    assert (config.get("tie_adaptive_proj", False), config.get("no_decoder_final_norm", False)) == (tied, no_norm)


def test_a_namespace_that_only_names_its_architecture_gets_its_values() -> None:
    model = config_from_args({"arch": "transformer_iwslt_de_en", "encoder_layers": 3})["model"]
    assert (model["_name"], model["encoder_ffn_embed_dim"], model["encoder_layers"]) == ("transformer", 1024, 3)
    model = config_from_cfg({"model": {"_name": "transformer_lm_gpt2_small", "decoder_layers": 2}})["model"]
    assert (model["_name"], model["decoder_embed_dim"], model["decoder_layers"]) == ("transformer_lm", 1024, 2)


def test_lists_that_are_written_as_one_text() -> None:
    model = config_from_cfg({"model": {"_name": "transformer", "adaptive_softmax_cutoff": [60, 150]}})["model"]
    assert model["adaptive_softmax_cutoff"] == "60,150"


def test_the_end_of_a_cosine_schedule_is_not_where_training_stops() -> None:
    new = {"_name": "cosine", "lr": [1.0], "min_lr": 0.1}
    assert config_from_cfg({"lr_scheduler": new})["lr_scheduler"]["min_lr"] == 0.1
    old = {"arch": "transformer", "lr_scheduler": "cosine", "max_lr": 1.0, "lr": [0.1], "min_lr": 1e-9}
    config = config_from_args(old)
    assert (config["lr_scheduler"]["lr"], config["lr_scheduler"]["min_lr"]) == ([1.0], 0.1)
    assert config["optimization"]["stop_min_lr"] == 1e-9
    assert config_from_args({"arch": "transformer", "min_lr": 1e-9})["optimization"]["stop_min_lr"] == 1e-9


@pytest.mark.parametrize(("value", "kept"), [(True, "hard"), (False, None), ("soft", "soft")])
def test_what_was_a_switch_once(value: Any, kept: str | None) -> None:
    assert config_from_cfg({"generation": {"print_alignment": value}})["generation"]["print_alignment"] == kept


def test_a_namespace_as_the_task_names_it_by_its_flag() -> None:
    config = config_from_cfg({"task": {"task": "language_modeling", "data": "bin", "arch": "x", "save_dir": "y"}})
    assert config["task"] == {"_name": "language_modeling", "data": "bin"}


def test_the_architectures_of_language_models_set_a_number_to_false() -> None:
    options = {"base_layers": 0, "base_sublayers": 1, "base_shuffle": False, "decoder_embed_dim": 8}
    args = {"arch": "transformer_lm_gpt", "task": "language_modeling", "data": "bin", **options}
    cfg = {"model": {"_name": "transformer_lm_gpt", **options, "base_shuffle": 0}}
    for converted in (config_from_args(args), config_from_cfg(cfg)):
        model = root_from_dict(converted, partial=True).model
        assert (model.base_shuffle, model.decoder_embed_dim) == (0, 8)  # type: ignore[union-attr]
