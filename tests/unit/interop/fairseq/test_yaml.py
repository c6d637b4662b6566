"""YAML files as fairseq's examples have them, with `--config-dir` and `--config-name`."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.config.compose import compose
from seqkit.config.validate import to_dict
from seqkit.errors import ConfigError

LANGUAGE_MODEL = """\
# @package _group_
model:
  _name: transformer_lm
distributed_training:
  distributed_world_size: 1
dataset:
  batch_size: 2
task:
  _name: language_modeling
  data: ???
  add_bos_token: false
optimization:
  max_update: 50000
  lr: [ 0.25 ]
criterion: cross_entropy
optimizer: adam
lr_scheduler:
  _name: cosine
"""

TRANSLATION = """\
# @package _group_
common:
  log_format: json
  tensorboard_logdir: tb
checkpoint:
  save_interval_updates: 25000
  best_checkpoint_metric: loss
  save_dir: ${env:SEQKIT_TEST_FOLDER}/runs
task:
  _name: translation
  data: data-bin
  source_lang: de
dataset:
  max_tokens: 4096
  max_tokens_valid: ${dataset.max_tokens}
distributed_training:
  ddp_backend: legacy_ddp
criterion:
  _name: label_smoothed_cross_entropy
  label_smoothing: 0.1
optimization:
  max_update: 400000
  lr: [0.0005]
  clip_norm: 0
optimizer:
  _name: adam
  adam_betas: (0.9,0.98)
  adam_eps: 1e-06
lr_scheduler:
  _name: polynomial_decay
  warmup_updates: 32000
  total_num_update: ${optimization.max_update}
model:
  _name: transformer_iwslt_de_en
  dropout: 0.2
  encoder:
    layers: 3
hydra:
  run:
    dir: .
  sweep:
    dir: ${env:SEQKIT_TEST_FOLDER}/${hydra.job.name}
    subdir: ${hydra.job.num}
"""

DEFAULTS = """\
# @package _group_
defaults:
  - _self_
  - task: language_modeling
  - model: transformer_lm/transformer_lm_gpt
  - criterion: cross_entropy
  - optimizer: null
  - lr_scheduler: fixed
  - bpe: null
  - scoring: null
  - generation: null
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQKIT_TEST_FOLDER", "/somewhere")
    (tmp_path / "wiki103.yaml").write_text(LANGUAGE_MODEL)
    (tmp_path / "iwslt.yaml").write_text(TRANSLATION)
    for name in ("config.yaml", "lists/lm.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(DEFAULTS)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").write_text("# @package _group_\n_name: transformer_lm_gpt\ndecoder_layers: 2\n")


def test_sections_with_names_and_components_that_are_bare_names(tmp_path: Path) -> None:
    config = compose("wiki103", ["task.data=x", "criterion.sentence_avg=true"], tmp_path)
    assert config.model is not None
    assert config.model._name == "transformer_lm"
    assert config.criterion.sentence_avg is True  # type: ignore[union-attr]
    assert config.optimizer.lr == [0.25]  # type: ignore[union-attr]
    assert config.task.add_bos_token is False  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"task\.data must be given|data"):
        compose("wiki103", ["dataset.batch_size=x"], tmp_path)


def test_interpolations_named_architectures_and_nested_options(tmp_path: Path) -> None:
    config = compose("iwslt", [], tmp_path)
    assert config.checkpoint.save_dir == "/somewhere/runs"
    assert config.dataset.max_tokens_valid == 4096
    assert config.lr_scheduler.total_num_update == 400000  # type: ignore[union-attr]
    assert config.optimizer.adam_betas == [0.9, 0.98]  # type: ignore[union-attr]
    model = to_dict(config.model)
    assert model["_name"] == "transformer"
    assert (model["dropout"], model["encoder_layers"], model["encoder_ffn_embed_dim"]) == (0.2, 3, 1024)
    assert config.given["model"]["encoder_layers"] == 3


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQKIT_TEST_FOLDER")
    with pytest.raises(ConfigError, match=r"checkpoint\.save_dir: .*no variable SEQKIT_TEST_FOLDER"):
        compose("iwslt", [], tmp_path)


@pytest.mark.parametrize("name", ["config", "lists/lm"])
def test_defaults_lists(name: str, tmp_path: Path) -> None:
    config = compose(name, ["optimizer=adam", "task.data=x", "model.dropout=0.3"], tmp_path)
    model = to_dict(config.model)
    assert (model["_name"], model["decoder_embed_dim"], model["dropout"]) == ("transformer_lm", 768, 0.3)
    assert config.optimizer is not None
    assert config.optimizer._name == "adam"
    assert config.lr_scheduler is not None
    assert config.lr_scheduler._name == "fixed"


@pytest.mark.parametrize("choice", ["transformer_lm/transformer_lm_gpt", "transformer_lm_gpt", "mine"])
def test_ways_to_name_an_architecture(choice: str, tmp_path: Path) -> None:
    config = compose("wiki103", [f"model={choice}", "task.data=x"], tmp_path)
    model = to_dict(config.model)
    assert (model["_name"], model["decoder_embed_dim"]) == ("transformer_lm", 768)
    assert model["decoder_layers"] == (2 if choice == "mine" else 12)


def test_an_architecture_of_another_model_is_not_found_behind_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown model 'transformer_lm/transformr_lm_gpt'"):
        compose("wiki103", ["model=transformer_lm/transformr_lm_gpt", "task.data=x"], tmp_path)
