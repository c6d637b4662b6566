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


def architecture(**values: object) -> str:
    """A file of `fairseq/config/model/transformer_lm/`, which has every option but the name of the model."""
    options: dict[str, object] = {
        "activation_fn": '"relu"',
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "relu_dropout": 0.0,
        "decoder_embed_dim": 512,
        "decoder_output_dim": 512,
        "decoder_input_dim": 512,
        "decoder_ffn_embed_dim": 2048,
        "decoder_layers": 6,
        "decoder_attention_heads": 8,
        "decoder_normalize_before": "true",
        "no_decoder_final_norm": "false",
        "adaptive_softmax_cutoff": "null",
        "adaptive_softmax_dropout": 0,
        "adaptive_softmax_factor": 4,
        "no_token_positional_embeddings": "false",
        "share_decoder_input_output_embed": "false",
        "character_embeddings": "false",
        "character_filters": '"[(1, 64), (2, 128), (3, 192), (4, 256), (5, 256), (6, 256), (7, 256)]"',
        "character_embedding_dim": 4,
        "char_embedder_highway_layers": 2,
        "adaptive_input": "false",
        "adaptive_input_factor": 4,
        "adaptive_input_cutoff": "null",
        "tie_adaptive_weights": "false",
        "tie_adaptive_proj": "false",
        "decoder_learned_pos": "false",
        "decoder_layerdrop": 0,
        "decoder_layers_to_keep": "null",
        "layernorm_embedding": "false",
        "no_scale_embedding": "false",
        "quant_noise_pq": 0,
        "quant_noise_pq_block_size": 8,
        "quant_noise_scalar": 0,
    }
    return "# @package _group_\n" + "".join(f"{name}: {value}\n" for name, value in (options | values).items())


def sizes(width: int, inner: int, layers: int, heads: int) -> dict[str, object]:
    return {
        "decoder_embed_dim": width,
        "decoder_output_dim": width,
        "decoder_input_dim": width,
        "decoder_ffn_embed_dim": inner,
        "decoder_layers": layers,
        "decoder_attention_heads": heads,
    }


_GPT: dict[str, object] = {"activation_fn": '"gelu"', "attention_dropout": 0.1}
_WIKI103: dict[str, object] = {
    "dropout": 0.3,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "relu_dropout": 0.1,
    "no_decoder_final_norm": "true",
    "adaptive_softmax_cutoff": '"20000,60000"',
    "adaptive_softmax_dropout": 0.2,
    "adaptive_input": "true",
    "adaptive_input_cutoff": '"20000,60000"',
    "tie_adaptive_weights": "true",
    "tie_adaptive_proj": "true",
    **sizes(1024, 4096, 16, 8),
}
_GBW: dict[str, object] = {"attention_dropout": 0.1, "no_decoder_final_norm": "true", **sizes(512, 4096, 12, 16)}
ARCHITECTURES = {
    "big": sizes(1024, 4096, 12, 16),
    "gbw": _GBW,
    "baevski_gbw": _GBW,
    "wiki103": _WIKI103,
    "baevski_wiki103": _WIKI103,
    "gpt": _GPT | sizes(768, 3072, 12, 12),
    "gpt2_small": _GPT | sizes(1024, 4096, 24, 16),
    "gpt2_medium": _GPT | sizes(1280, 5120, 36, 20),
    "gpt2_big": _GPT | sizes(1600, 6400, 48, 25),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_files_of_architectures_are_of_the_model_that_their_folder_names(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model" / "transformer_lm"
    folder.mkdir()
    (folder / f"transformer_lm_{name}.yaml").write_text(architecture(**ARCHITECTURES[name]))
    given = compose("wiki103", [f"model=transformer_lm/transformer_lm_{name}", "task.data=x"], tmp_path)
    model = to_dict(given.model)
    assert model["_name"] == "transformer_lm"
    for option, value in ARCHITECTURES[name].items():
        shown = {"true": True, "false": False}.get(str(value), str(value).strip('"'))
        assert str(model[option]) == str(shown), option


def test_a_users_own_architecture_in_the_models_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "transformer_lm"
    folder.mkdir()
    (folder / "2_layers.yaml").write_text(architecture(decoder_layers=2))
    overrides = ["model=transformer_lm/2_layers", "task=language_modeling", "task.data=x", "dataset.batch_size=2"]
    model = to_dict(compose(None, overrides, tmp_path).model)
    assert (model["_name"], model["decoder_layers"]) == ("transformer_lm", 2)


def test_a_file_of_a_components_name_is_of_that_component(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer/adam.yaml").write_text('# @package _group_\nadam_betas: "(0.9, 0.95)"\nweight_decay: 0\n')
    optimizer = compose("lists/lm", ["optimizer=adam", "task.data=x"], tmp_path).optimizer
    assert to_dict(optimizer)["adam_betas"] == [0.9, 0.95]


def test_what_a_defaults_list_chooses_is_laid_over_the_file_as_it_was_then(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "old.yaml").write_text(
        "# @package _group_\ndefaults:\n  - model: mine\n  - task: language_modeling\n"
        "model:\n  decoder_layers: 7\n  dropout: 0.3\ntask:\n  data: x\n"
    )
    model = to_dict(compose("old", [], tmp_path).model)
    assert (model["decoder_layers"], model["dropout"]) == (2, 0.3)
    assert not recwarn.list


WHOLE = """\
common:
  _name: null
  seed: 3
  tpu: false
bmuf:
  _name: null
  block_lr: 1
  use_nbm: false
  distributed_world_size: ${distributed_training.distributed_world_size}
distributed_training:
  _name: null
  distributed_world_size: 1
dataset:
  _name: null
  max_tokens: 512
  max_tokens_valid: ${dataset.max_tokens}
optimization:
  _name: null
  max_update: 9
  lr: [0.5]
  use_bmuf: false
checkpoint:
  _name: null
  model_parallel_size: ${common.model_parallel_size}
ema:
  _name: null
  store_ema: false
task:
  _name: language_modeling
  data: x
  tokens_per_sample: 64
  seed: ${common.seed}
model:
  _name: transformer_lm
  tokens_per_sample: ${task.tokens_per_sample}
  base_layers: 0
criterion:
  _name: cross_entropy
  sentence_avg: ${optimization.sentence_avg}
optimizer:
  _name: adam
  lr: ${optimization.lr}
lr_scheduler:
  _name: cosine
  lr: ${optimization.lr}
  max_update: ${optimization.max_update}
scoring: null
bpe: null
tokenizer: null
"""


def test_the_whole_config_that_a_run_of_fairseq_left_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/config.yaml").write_text(WHOLE)
    config = compose("config", [], tmp_path / ".hydra")
    assert (config.common.seed, config.dataset.max_tokens_valid) == (3, 512)
    assert config.optimizer is not None
    assert config.lr_scheduler is not None
    assert to_dict(config.optimizer)["lr"] == to_dict(config.lr_scheduler)["lr"] == [0.5]
    assert "bmuf" not in config.given
    with pytest.raises(ConfigError, match="BMUF is not supported"):
        compose("config", ["optimization.use_bmuf=true"], tmp_path / ".hydra")


@pytest.mark.parametrize(
    ("task", "model", "criterion"),
    [
        ("masked_lm", "roberta", "masked_lm"),  # examples/roberta/config/pretraining/base.yaml
        ("sentence_prediction", "roberta", "sentence_prediction"),  # …/finetuning/mnli.yaml, mrpc.yaml, sts_b.yaml
        ("masked_lm", "data2vec_text", "model"),  # examples/data2vec/config/text/pretraining/base.yaml
        ("audio_finetuning", "wav2vec_ctc", "ctc"),  # examples/wav2vec/config/finetuning/base_100h.yaml
        ("hubert_pretraining", "hubert", "hubert"),  # examples/hubert/config/pretrain/hubert_base_librispeech.yaml
        ("hubert_pretraining", "hubert_ctc", "ctc"),  # examples/hubert/config/finetune/base_10h.yaml
        ("nlu_finetuning", "wav2vec_seq2seq", "label_smoothed_cross_entropy"),  # examples/audio_nlp/nlu
        # examples/discriminative_reranking_nmt/config/deen.yaml
        ("discriminative_reranking_nmt", "discriminative_nmt_reranker", "kl_divergence_rereanking"),
    ],
)
def test_files_for_what_seqkit_has_not_are_refused_by_name(
    task: str, model: str, criterion: str, tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text(
        f"# @package _group_\ntask:\n  _name: {task}\n  data: ???\n  labels: ltr\ncriterion:\n  _name: {criterion}\n"
        "optimizer:\n  _name: adam\n  adam_betas: (0.9,0.98)\n"
        "lr_scheduler:\n  _name: tri_stage\n  phase_ratio: [0.1, 0.4, 0.5]\n"
        f"model:\n  _name: {model}\n  transformer:\n    encoder:\n      embed_dim: 768\n"
    )
    with pytest.raises(ConfigError) as caught:
        compose("other", ["task.data=x"], tmp_path)
    message = str(caught.value)
    assert f"unknown task '{task}'" in message
    assert f"unknown model '{model}'" in message
    assert criterion == "label_smoothed_cross_entropy" or f"unknown criterion '{criterion}'" in message


def test_sections_of_other_commands_are_refused_by_name(tmp_path: Path) -> None:
    """examples/hubert/config/decode/infer_viterbi.yaml, examples/speech_recognition/new/conf/infer.yaml"""
    (tmp_path / "infer.yaml").write_text(
        "# @package _group_\ndefaults:\n  - model: null\nhydra:\n  run:\n"
        "    dir: ${common_eval.results_path}/viterbi\n  sweep:\n    dir: ${common_eval.results_path}\n"
        "    subdir: viterbi\ndecoding:\n  type: viterbi\ncommon_eval:\n  results_path: ???\n  post_process: letter\n"
    )
    with pytest.raises(ConfigError, match="unknown section decoding"):
        compose("infer", ["common_eval.results_path=x"], tmp_path)
