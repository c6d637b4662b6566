"""Models: parameters, encoder output, logits, attention, losses, gradients and searches of recorded checkpoints."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqkit.config.base import default_of, option_info
from seqkit.config.root import RootConfig, root_from_dict
from seqkit.config.sections import GenerationConfig
from seqkit.config.validate import build_config
from seqkit.criterions.adaptive_loss import AdaptiveLossConfig
from seqkit.criterions.base import Criterion
from seqkit.generation.build import build_generator
from seqkit.generation.hypothesis import Hypothesis
from seqkit.interop.fairseq.state_dict import names_today
from seqkit.interop.open_checkpoint import open_checkpoint
from seqkit.models.base import (
    EncoderDecoderModel,
    EncoderOutput,
    IncrementalDecoder,
    LanguageModel,
    Model,
    ModelOutput,
)
from seqkit.registry import registry
from seqkit.tasks.base import Task, build_task
from tests.parity.loader import REPOSITORY, Case

LOGITS_ATOL = 1e-5
"""What the project promises for logits and everything on the way to them in float32."""
GRADIENT_RTOL = 1e-4
NOISE = 1e-6
"""A gradient's norm below this share of the largest one is rounding (the key projection's bias has gradient zero)."""

KNOWN = {
    "what",
    "area",
    "task",
    "arch",
    "train_flags (cwd = models/)",
    "checkpoint",
    "arrays",
    "array_shapes",
    "mode",
    "split",
    "test_ids",
    "criterion_eval",
    "n_params",
    "param_names",
    "tolerance",
    "versions",
    "search_settings",
    "hypos",
}
MODE = "model.eval(), float32, cpu"


def run(case: Case) -> None:
    """Rebuild the model from its checkpoint and repeat everything that was recorded of it."""
    spec = case.spec
    unknown = sorted(set(spec) - KNOWN)
    assert not unknown, f"case.json has keys that this adapter does not know: {unknown}"
    assert spec["mode"].startswith(MODE), f"unknown mode {spec['mode']!r}"
    _stop_if_not_built(case)
    arrays = _arrays(case)
    state = open_checkpoint(case.folder / spec["checkpoint"])
    config = _config(case, state.config)
    assert config.task is not None
    assert config.criterion is not None
    if isinstance(config.criterion, AdaptiveLossConfig):
        # Where fairseq is wrong: it drops a word of each cluster. The recorded losses come of that.
        config.criterion.skip_pad_offset = True
    task = build_task(config.task)
    model = _model(case, config, task, state.model)
    sample = _sample(arrays, task.target_dictionary.pad())
    _compare_batch(case, task, sample)
    output, encoder_out = _compare_outputs(arrays, model, sample)
    _compare_loss(case, model, task.build_criterion(config.criterion), sample)
    if isinstance(model, EncoderDecoderModel) and encoder_out is not None:
        scored = sample["target"].ne(task.target_dictionary.pad())
        _compare_incremental(model.decoder, sample["net_input"]["prev_output_tokens"], scored, encoder_out, output)
    elif isinstance(model, LanguageModel):
        scored = sample["target"].ne(task.target_dictionary.pad())
        _compare_incremental(model.decoder, sample["net_input"]["src_tokens"], scored, None, output)
    if "hypos" in spec:
        assert isinstance(model, EncoderDecoderModel)
        _compare_hypotheses(case, arrays, model, task, sample)


def _stop_if_not_built(case: Case) -> None:
    architectures = {path.stem for path in Path(REPOSITORY, "configs", "model").glob("*.yaml")}
    if case.spec["arch"] not in architectures | set(registry("model").names()):
        case.not_built(f"model {case.spec['arch']}: a later issue")
    if case.spec["task"] not in registry("task").names():
        case.not_built(f"task {case.spec['task']}: a later issue")


def _config(case: Case, stored: dict[str, Any]) -> RootConfig:
    """The checkpoint's config, its data found from the area's folder; stops at what a later issue brings."""
    for kind in ("model", "task", "criterion"):
        name = stored[kind]["_name"]
        if name not in registry(kind).names():
            case.not_built(f"{kind} {name}: a later issue")
        for item in dataclasses.fields(registry(kind).get(name).config):
            refused = option_info(item).refused
            if refused and stored[kind].get(item.name, default_of(item)) != default_of(item):
                case.not_built(f"{kind}.{item.name}: {refused}")
    used = {kind: dict(stored[kind]) for kind in ("model", "task", "criterion")}
    folders = str(used["task"]["data"]).split(":")
    used["task"]["data"] = ":".join(str(case.area_folder / folder) for folder in folders)
    return root_from_dict(used)


def _model(case: Case, config: RootConfig, task: Task, weights: dict[str, Tensor]) -> Model:
    assert config.model is not None
    model = task.build_model(config.model)
    # What the door to fairseq leaves out has no part in fairseq's results either.
    named = [(_today(name), tuple(shape)) for name, shape in case.spec["param_names"]]
    unused = {name for name, _ in named if name not in weights}
    assert not unused & {_today(name) for name in case.spec["criterion_eval"]["grad_norms"]}
    recorded = [(name, shape) for name, shape in named if name not in unused]
    assert sorted((name, tuple(parameter.shape)) for name, parameter in model.named_parameters()) == sorted(recorded)
    left_out = sum(math.prod(shape) for name, shape in named if name in unused)
    assert sum(parameter.numel() for parameter in model.parameters()) + left_out == case.spec["n_params"]
    model.load_state_dict(weights)
    return model.eval()


def _today(name: str) -> str:
    """What fairseq's parameter is called in seqkit; its own name where nothing is kept of it."""
    (today,) = names_today(name) or (name,)
    return today


def _arrays(case: Case) -> dict[str, Tensor]:
    with np.load(case.folder / case.spec["arrays"]) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    assert shapes == case.spec["array_shapes"], "the arrays are not those that case.json speaks of"
    return arrays


def _sample(arrays: dict[str, Tensor], pad: int) -> dict[str, Any]:
    sample: dict[str, Any] = {"net_input": {}}
    for name, array in arrays.items():
        if name.startswith("sample.net_input."):
            sample["net_input"][name.removeprefix("sample.net_input.")] = array
        elif name.startswith("sample."):
            sample[name.removeprefix("sample.")] = array
    sample["nsentences"] = sample["target"].size(0)
    sample["ntokens"] = int(sample["target"].ne(pad).sum())
    return sample


def _compare_batch(case: Case, task: Task, sample: dict[str, Any]) -> None:
    dataset = task.load_dataset(case.spec["split"])
    ours: dict[str, Any] = dict(dataset.collater([dataset[i] for i in case.spec["test_ids"]]))
    for name in ("id", "target"):
        assert torch.equal(ours[name], sample[name]), f"sample.{name}"
    for name, expected in sample["net_input"].items():
        assert torch.equal(ours["net_input"][name], expected), f"sample.net_input.{name}"
    assert ours["ntokens"] == sample["ntokens"]


def _close(name: str, ours: Tensor, expected: Tensor, atol: float = LOGITS_ATOL) -> None:
    assert ours.shape == expected.shape, f"{name}: shape {tuple(ours.shape)}, recorded {tuple(expected.shape)}"
    worst = float((ours.float() - expected.float()).abs().max())
    assert worst <= atol, f"{name}: largest difference {worst:.3g} is above {atol:.3g}"


@torch.no_grad()
def _compare_outputs(
    arrays: dict[str, Tensor], model: Model, sample: dict[str, Any]
) -> tuple[ModelOutput, EncoderOutput | None]:
    net_input = sample["net_input"]
    encoder_out: EncoderOutput | None = None
    ours: dict[str, Tensor] = {}
    if isinstance(model, EncoderDecoderModel):
        encoder_out = model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        ours |= {
            "encoder_out.encoder_out.0": encoder_out.states.transpose(0, 1),
            "encoder_out.src_lengths.0": net_input["src_lengths"].unsqueeze(1),
        }
        padding = encoder_out.padding_mask
        ours["encoder_out.encoder_padding_mask.0"] = (
            torch.zeros(encoder_out.states.shape[:2], dtype=torch.bool) if padding is None else padding
        )
        if encoder_out.embeddings is not None:
            ours["encoder_out.encoder_embedding.0"] = encoder_out.embeddings
        output: ModelOutput = model(**net_input, need_attention=True, return_all_hiddens=True)
        for place, states in enumerate(output.hidden_states):
            ours[f"net_output.1.inner_states.{place}"] = states.transpose(0, 1)
        if output.attention is not None:
            ours["net_output.1.attn.0"] = output.attention
        without = model(**net_input)
        _close("logits when no attention is asked for", without.logits, output.logits)
    else:
        output = model(**net_input)
    ours["net_output.0"] = output.logits
    for name, expected in arrays.items():
        if name.startswith(("sample.", "hypo_attention.")):
            continue
        if name == "lprobs_full_vocab":
            ours[name] = model.normalized_probs(output.logits, log_probs=True)
        assert name in ours, f"this adapter does not know the array {name!r}"
        _close(name, ours[name], expected)
    return output, encoder_out


def _compare_loss(case: Case, model: Model, criterion: Criterion, sample: dict[str, Any]) -> None:
    expected, rtol = case.spec["criterion_eval"], case.spec["tolerance"]["loss_rtol"]
    criterion.eval()
    model.zero_grad()
    result = criterion(model, sample)
    result.loss.backward()
    assert float(result.loss.detach()) == pytest.approx(expected["loss"], rel=rtol)
    assert int(result.sample_size) == expected["sample_size"]
    for name, value in expected["logging_output"].items():
        assert float(result.logging[name]) == pytest.approx(value, rel=rtol), f"logging {name}"
    recorded = {_today(name): norm for name, norm in expected["grad_norms"].items()}
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
    assert not set(recorded) - set(norms), "parameters without a gradient"
    floor = NOISE * max(recorded.values())
    for name, norm in norms.items():
        if name not in recorded:  # fairseq does not run a cluster of which the batch has no word
            assert norm == 0, f"gradient of {name}: {norm}, where fairseq has none"
            continue
        difference = abs(norm - recorded[name])
        assert difference <= GRADIENT_RTOL * recorded[name] + floor, f"gradient of {name}: {norm}, not {recorded[name]}"


@torch.no_grad()
def _compare_incremental(
    decoder: IncrementalDecoder, tokens: Tensor, scored: Tensor, encoder_out: EncoderOutput | None, output: ModelOutput
) -> None:
    """One token at a time, alone and as a beam of equal rows, gives what the whole target gives."""
    for beam in (1, 2):
        rows = tokens.repeat_interleave(beam, 0)
        cache = decoder.new_cache(rows.size(0), rows.size(1), beam=beam)
        steps = [decoder(rows[:, place : place + 1], encoder_out, cache=cache).logits for place in range(rows.size(1))]
        mask = scored.repeat_interleave(beam, 0)
        _close(
            f"incremental decoding of {beam} rows per sentence",
            torch.cat(steps, 1)[mask],
            output.logits.repeat_interleave(beam, 0)[mask],
        )


def _compare_hypotheses(
    case: Case, arrays: dict[str, Tensor], model: EncoderDecoderModel, task: Task, sample: dict[str, Any]
) -> None:
    settings = dict(case.spec["search_settings"])
    config = build_config(GenerationConfig, {**settings, "max_len_per_batch": True, "print_alignment": "soft"})
    generator = build_generator([model], task.target_dictionary, config)
    found = generator.generate(sample)
    tolerance = case.spec["tolerance"]["rtol"]
    assert len(found) == len(case.spec["hypos"])
    for sentence, (ours, recorded) in enumerate(zip(found, case.spec["hypos"], strict=True)):
        scores = [hypothesis["score"] for hypothesis in recorded]
        assert len(ours) == len(recorded), f"sentence {sentence}: {len(ours)} hypotheses, recorded {len(recorded)}"
        for rank, expected in enumerate(recorded):
            where = f"sentence {sentence}, hypothesis {rank}"
            # hypotheses whose scores tie may stand in either order
            ties = [other for other in range(len(scores)) if abs(scores[other] - expected["score"]) < 1e-4]
            same = [place for place in ties if ours[place].tokens.tolist() == expected["tokens"]]
            assert same, f"{where}: {ours[rank].tokens.tolist()}, recorded {expected['tokens']}"
            attention = arrays.get(f"hypo_attention.{sentence}") if rank == 0 else None
            _compare_hypothesis(where, ours[same[0]], expected, attention, tolerance)


def _compare_hypothesis(
    where: str, ours: Hypothesis, expected: dict[str, Any], attention: Tensor | None, tolerance: float
) -> None:
    assert abs(ours.score - expected["score"]) <= tolerance, f"{where}: score {ours.score}, not {expected['score']}"
    _close(f"{where}: token scores", ours.positional_scores, torch.tensor(expected["positional_scores"]), tolerance)
    if expected["attention_shape"] in (None, [0]):  # a decoder without attention to the source
        assert ours.attention is None, f"{where}: attention of a model that has none"
        return
    assert ours.attention is not None, f"{where}: no attention"
    assert list(ours.attention.T.shape) == expected["attention_shape"], f"{where}: shape of the attention"
    if attention is not None:
        _close(f"{where}: attention", ours.attention.T, attention, tolerance)
