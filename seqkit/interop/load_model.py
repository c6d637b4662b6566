"""From checkpoint files to models that can be used, with the task and the configuration that belong to them.

The shared part of the commands that come after training and of the hub. Knows nothing of what the models are used for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from seqkit.checkpoint.state import CheckpointState
from seqkit.checkpoint.weights import load_weights
from seqkit.config.root import RootConfig, merge_given, root_from_dict
from seqkit.config.sections import CommonConfig
from seqkit.config.validate import options_of
from seqkit.data.dictionary import Dictionary
from seqkit.errors import CheckpointError, ConfigError, did_you_mean
from seqkit.generation.quantize import quantize_models
from seqkit.interop.open_checkpoint import open_parts
from seqkit.models._transformer_stack import TransformerEncoder
from seqkit.models.base import LanguageModel, Model
from seqkit.modules.packed_linear import pack_linears
from seqkit.registry import registry
from seqkit.tasks.base import Task, build_task
from seqkit.training.precision import model_dtype

_EMBEDDINGS = {"source": "encoder.embed_tokens", "target": "decoder.embed_tokens"}
_EMBEDDING_WITHOUT_ENCODER = {"source": "decoder.embed_tokens"}
_LENGTHS = ("tokens_per_sample", "max_source_positions", "max_target_positions")
_BAND = re.compile(r"\.embeddings\.\d+\.0\.weight")


class LoadedEnsemble(NamedTuple):
    """Models in evaluation mode on the CPU, the root config of the first, and the task they share.

    `trained_with` is the whole config that the first was trained with, as it is saved.
    """

    models: list[Model]
    config: RootConfig
    task: Task
    trained_with: Mapping[str, Any]


def split_paths(path: str | None) -> list[str]:
    """The checkpoints of `common_eval.path`, which are joined by ':'.

    Raises:
        ConfigError: none is given.
    """
    paths = [part for part in (path or "").split(":") if part]
    if not paths:
        raise ConfigError(
            "common_eval.path is not given; give the checkpoint to use, e.g. "
            "common_eval.path=checkpoints/checkpoint_best.pt (several joined by ':' make an ensemble)"
        )
    return paths


def load_ensemble(
    paths: Sequence[str | Path],
    given: Mapping[str, Any] | None = None,
    *,
    model_overrides: Mapping[str, Any] | None = None,
    trust_pickle: bool = False,
    suffix: str = "",
    shard_count: int = 1,
) -> LoadedEnsemble:
    """Read checkpoints of seqkit or fairseq and build their models for one task.

    Task and model come from each checkpoint's own configuration. What `given` says is put over it; of the other
    sections only what `given` says counts, since what a model was trained with is not how it is to be used.

    Args:
        paths: one file, or several that make an ensemble.
        given: nested plain options by section, such as `RootConfig.given`: `{"task": {"data": "data-bin"}}`.
        model_overrides: options of the task or the model by their bare names (fairseq's `--model-overrides`).
        trust_pickle, suffix, shard_count: see `open_parts`.

    Raises:
        CheckpointError: a file is missing, damaged, or made with another vocabulary or model.
        ConfigError: options that do not exist or cannot be used.
        DataError: the task's dictionaries cannot be read.
    """
    states = (
        (str(path), open_to_use(path, trust_pickle=trust_pickle, suffix=suffix, shard_count=shard_count))
        for path in paths
    )
    return build_ensemble(states, given, model_overrides=model_overrides)


def build_ensemble(
    states: Iterable[tuple[str, CheckpointState]],
    given: Mapping[str, Any] | None = None,
    *,
    model_overrides: Mapping[str, Any] | None = None,
) -> LoadedEnsemble:
    """The models of checkpoints that are read already, for one task: see `load_ensemble`.

    Args:
        states: (name for messages, content) of each.
    """
    task: Task | None = None
    first: RootConfig | None = None
    trained_with: Mapping[str, Any] = {}
    models: list[Model] = []
    for path, state in states:
        config = _config(state, given or {}, model_overrides or {}, path)
        if task is None:
            assert config.task is not None
            task, first, trained_with = build_task(config.task), config, state.config
        assert config.model is not None
        _check_vocabulary(state, task, path)
        model = task.build_model(config.model)
        load_weights(model, state.model, path)
        models.append(model.eval())
    if task is None or first is None:
        raise ConfigError("no checkpoint is given")
    return LoadedEnsemble(models, first, task, trained_with)


def load_language_model(
    path: str | Path, data: str | None, dictionary: Dictionary, *, trust_pickle: bool = False
) -> LanguageModel:
    """Read a language model that is to be fused with a translation model (`generation.lm_path`).

    Args:
        path: its checkpoint.
        data: folder with its dictionary (`dict.txt`).
        dictionary: the target dictionary, which must be the same.
        trust_pickle: see `open_parts`.

    Raises:
        CheckpointError: it is no language model, or has another dictionary.
        DataError: its dictionary cannot be read.
    """
    given = {} if data is None else {"task": {"data": data}}
    loaded = load_ensemble([path], given, trust_pickle=trust_pickle)
    (model,) = loaded.models
    if not isinstance(model, LanguageModel):
        raise CheckpointError(
            f"generation.lm_path={path} holds a model of type {type(model).__name__}; a language model is needed"
        )
    own = loaded.task.target_dictionary
    if own != dictionary:
        raise CheckpointError(
            f"generation.lm_path={path} was trained with another dictionary ({len(own)} symbols) than the target "
            f"dictionary ({len(dictionary)} symbols); its probabilities cannot be added. Train it on text that was "
            "binarized with the target dictionary (seqkit-preprocess --srcdict)"
        )
    return model


def prepare_for_use(
    models: Sequence[Model], device: torch.device, common: CommonConfig, quantize: str = "none"
) -> None:
    """Move models to a device and to the precision of the section `common`; on a CPU, lay their weights out for it.

    Args:
        quantize: see `quantize_models`.

    Raises:
        ConfigError: they cannot be quantised, or `common` asks for two precisions.
    """
    dtype = model_dtype(common, device) or torch.float32
    quantize_models(models, quantize, device, dtype)
    for model in models:
        model.to(device=device, dtype=dtype)
        if device.type == "cpu" and dtype == torch.float32:
            pack_linears(model)
        for module in model.modules():
            if isinstance(module, TransformerEncoder):
                module.omits_padding = True


def open_to_use(
    path: str | Path, *, trust_pickle: bool = False, suffix: str = "", shard_count: int = 1
) -> CheckpointState:
    """Read a checkpoint whose model is to be used: `open_parts`, which tells of a folder what is in it.

    Raises:
        CheckpointError: as `open_parts`; it is a folder.
    """
    place = Path(path)
    if place.is_dir():
        found = sorted(file.name for file in place.glob("*.pt"))
        hint = f"; it holds {', '.join(found[:4])}" if found else ""
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it{hint}")
    return open_parts(place, suffix=suffix, shard_count=shard_count, trust_pickle=trust_pickle)


def _config(
    state: CheckpointState, given: Mapping[str, Any], model_overrides: Mapping[str, Any], where: str
) -> RootConfig:
    base: dict[str, Any] = {}
    for kind in ("task", "model"):
        section = state.config.get(kind)
        if not isinstance(section, Mapping) or not section.get("_name"):
            raise CheckpointError(f"{where} does not say which {kind} it is of, so it cannot be used for inference")
        base[kind] = dict(section)
    merged = merge_given(base, given)
    keep_trained_length(merged, base, given)
    for name, value in model_overrides.items():
        _override(merged, name, value)
    return root_from_dict(merged)


def keep_trained_length(merged: dict[str, Any], base: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Undo in `merged` (of `merge_given`) that the model's positions followed the lengths that the task has now.

    Into what lengths text is cut, and which are left out, does not change how many positions the weights were trained
    for.
    """
    trained, own, model = base.get("model"), given.get("model"), merged.get("model")
    if not isinstance(trained, Mapping) or not isinstance(model, dict) or model.get("_name") != trained.get("_name"):
        return
    for length in _LENGTHS:
        if length in trained and not (isinstance(own, Mapping) and length in own):
            model[length] = trained[length]


def _override(merged: dict[str, Any], name: str, value: Any) -> None:
    """Set an option of the model or the task by its bare name."""
    known: list[str] = []
    taken = False
    for kind in ("model", "task"):
        options = options_of(registry(kind).get(str(merged[kind]["_name"])).config)
        known += options
        if name in options:
            merged[kind][name] = value
            taken = True
    if not taken:
        raise ConfigError(
            f"neither the model {merged['model']['_name']!r} nor the task "
            f"{merged['task']['_name']!r} has an option {name!r}{did_you_mean(name, known)}"
        )


def _symbols(weights: Mapping[str, torch.Tensor], name: str) -> int:
    """How many symbols the embedding called `name` has: one table, or the bands of an adaptive one; 0 if unknown."""
    if f"{name}.weight" in weights:
        return weights[f"{name}.weight"].size(0)
    return sum(
        tensor.size(0) for key, tensor in weights.items() if key.startswith(name) and _BAND.fullmatch(key[len(name) :])
    )


def _check_vocabulary(state: CheckpointState, task: Task, where: str) -> None:
    dictionaries: dict[str, Dictionary | None] = {
        "source": task.source_dictionary,
        "target": task.target_dictionary,
    }
    problems = []
    has_encoder = any(name.startswith("encoder.") for name in state.model)
    for side, name in (_EMBEDDINGS if has_encoder else _EMBEDDING_WITHOUT_ENCODER).items():
        dictionary, symbols = dictionaries[side], _symbols(state.model, name)
        if dictionary is not None and symbols and symbols != len(dictionary):
            problems.append(f"{side}: {symbols} symbols in the checkpoint, {len(dictionary)} in the {side} dictionary")
    if problems:
        raise CheckpointError(
            f"{where} was trained with another vocabulary ({'; '.join(problems)}); "
            "give task.data the data folder that it was trained on (for an ensemble, one that fits all its models)"
        )
    task.check_dictionaries(state.task, where)
