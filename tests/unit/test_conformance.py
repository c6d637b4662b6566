"""What every registered component must do, whatever it is: one test for each kind, over all of its names."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from seqkit.config.base import Config
from seqkit.config.validate import build_config, options_of, to_dict
from seqkit.data.dictionary import Dictionary
from seqkit.models.base import EncoderDecoderModel, LanguageModel, Model, build_model
from seqkit.optim.base import build_optimizer
from seqkit.optim.lr_scheduler.base import build_lr_scheduler
from seqkit.registry import REGISTRIES, registry
from seqkit.scoring.base import build_scorer

EVERY = [(kind, name) for kind in sorted(REGISTRIES) for name in sorted(registry(kind).builtin_names)]
# A component that needs a value has one here; everything else builds from its defaults.
NEEDED: dict[tuple[str, str], dict[str, Any]] = {
    ("lr_scheduler", "cosine"): {"max_update": 100},
    ("lr_scheduler", "polynomial_decay"): {"total_num_update": 100},
    ("lr_scheduler", "tri_stage"): {"warmup_steps": 2, "hold_steps": 2, "decay_steps": 2},
    ("lr_scheduler", "triangular"): {"max_lr": 1.0},
    ("lr_scheduler", "wsd"): {"max_update": 100},
    ("model", "fconv_lm"): {"decoder_layers": "[(8, 3)] * 2"},
    ("model", "lightconv_lm"): {"decoder_kernel_size_list": [3]},
    ("optimizer", "composite"): {"groups": {"default": {"optimizer": {"_name": "adam"}}}},
}
TINY_MODEL = {
    f"{side}_{option}": value
    for side in ("encoder", "decoder")
    for option, value in {"embed_dim": 8, "ffn_embed_dim": 8, "layers": 1, "attention_heads": 2}.items()
}


def names(kind: str) -> list[str]:
    return sorted(registry(kind).builtin_names)


def default_config(kind: str, name: str, **given: Any) -> Config:
    component = registry(kind).get(name)
    values = {**NEEDED.get((kind, name), {}), **given}
    config: Config = build_config(component.config, {"_name": name, **values}, where=kind, missing_allowed=True)
    return config


class TinyTask:
    """Dictionaries alone: what models and criterions ask a task for."""

    def __init__(self) -> None:
        self.source_dictionary = self.target_dictionary = Dictionary()
        for symbol in "abcdefgh":
            self.target_dictionary.add_symbol(symbol)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_config_is_documented_and_goes_through_yaml(kind: str, name: str) -> None:
    component = registry(kind).get(name)
    assert inspect.getdoc(component.cls), "the class has no docstring"
    for field in dataclasses.fields(component.config):
        assert field.metadata.get("help"), f"{field.name} has no help"
    config = default_config(kind, name)
    text = yaml.safe_dump(to_dict(config))
    assert build_config(component.config, yaml.safe_load(text), where=kind, missing_allowed=True) == config


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_file_holds_the_component_of_its_name_alone(kind: str, name: str) -> None:
    component = registry(kind).get(name)
    assert component.cls.__module__ == f"{registry(kind).package}.{name}"
    source = Path(inspect.getsourcefile(component.cls) or "").read_text(encoding="utf-8")
    assert len(re.findall(r"^@register_", source, flags=re.MULTILINE)) == 1


def models_of(kind: type) -> list[str]:
    return [name for name in names("model") if issubclass(registry("model").get(name).cls, kind)]


def tiny_model(name: str, task: TinyTask) -> Model:
    torch.manual_seed(1)
    options = options_of(registry("model").get(name).config)
    tiny = {
        key: value for key, value in TINY_MODEL.items() if key in options and not isinstance(options[key].default, str)
    }
    return build_model(default_config("model", name, **tiny), task)


@pytest.mark.parametrize("name", models_of(LanguageModel))
def test_a_language_model_learns_decodes_step_by_step_and_keeps_its_state(name: str) -> None:
    task = TinyTask()
    model = tiny_model(name, task)
    assert isinstance(model, LanguageModel)
    assert re.search(r"\d{4}", inspect.getdoc(type(model)) or inspect.getdoc(inspect.getmodule(type(model))) or ""), (
        "no paper is named"
    )
    tokens_BT = torch.tensor([[2, 5, 6, 7, 4], [2, 9, 8, 4, 4]])
    model.train()
    model(tokens_BT, torch.tensor([5, 5])).logits.square().mean().backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not without, f"no gradient reaches {without}"

    model.eval()
    with torch.no_grad():
        full_BTV = model(tokens_BT).logits
        torch.testing.assert_close(model(tokens_BT[:, :3]).logits, full_BTV[:, :3], atol=1e-5, rtol=1e-5)
        for beam in (1, 2):
            rows = tokens_BT.repeat_interleave(beam, 0)
            cache = model.decoder.new_cache(len(rows), 5, beam=beam)
            steps = [model.decoder(rows[:, :2], cache=cache).logits]  # a prefix at once, then one by one
            steps += [model.decoder(rows[:, t : t + 1], cache=cache).logits for t in range(2, 5)]
            expected = full_BTV.repeat_interleave(beam, 0)
            torch.testing.assert_close(torch.cat(steps, dim=1), expected, atol=1e-5, rtol=1e-5)

        other = tiny_model(name, task)
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other.eval()(tokens_BT).logits, full_BTV)


@pytest.mark.parametrize("name", models_of(EncoderDecoderModel))
def test_a_model_learns_decodes_step_by_step_and_keeps_its_state(name: str) -> None:
    task = TinyTask()
    model = tiny_model(name, task)
    assert re.search(r"\d{4}", inspect.getdoc(type(model)) or inspect.getdoc(inspect.getmodule(type(model))) or ""), (
        "no paper is named"
    )
    source_BS = torch.tensor([[1, 4, 5, 6, 2], [7, 8, 9, 4, 2]])
    previous_BT = torch.tensor([[2, 5, 6, 7], [2, 9, 8, 4]])
    model.train()
    output = model(source_BS, torch.tensor([4, 5]), previous_BT)
    output.logits.square().mean().backward()
    without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not without, f"no gradient reaches {without}"

    model.eval()
    assert isinstance(model, EncoderDecoderModel)
    with torch.no_grad():
        full_BTV = model(source_BS, torch.tensor([4, 5]), previous_BT).logits
        encoder_out = model.encoder(source_BS, torch.tensor([4, 5]))
        cache = model.decoder.new_cache(2, 4)
        steps = [model.decoder(previous_BT[:, t : t + 1], encoder_out, cache=cache).logits for t in range(4)]
        torch.testing.assert_close(torch.cat(steps, dim=1), full_BTV, atol=1e-5, rtol=1e-5)

        other = tiny_model(name, task)
        other.load_state_dict(model.state_dict())
        other.eval()
        torch.testing.assert_close(other(source_BS, torch.tensor([4, 5]), previous_BT).logits, full_BTV)


@pytest.mark.parametrize("name", names("optimizer"))
def test_an_optimizer_goes_down_and_its_state_goes_on(name: str) -> None:
    def run(steps: int, parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            (parameter - 3.0).square().sum().backward()
            optimizer.step()

    config = default_config("optimizer", name, lr=[0.05])
    whole = torch.nn.Parameter(torch.zeros(4, 4))
    optimizer = build_optimizer(config, [whole])
    run(5, whole, optimizer)
    assert (whole - 3.0).square().sum() < 16 * 9.0

    half = torch.nn.Parameter(torch.zeros(4, 4))
    first = build_optimizer(config, [half])
    run(3, half, first)
    resumed = build_optimizer(config, [half])
    resumed.load_state_dict(first.state_dict())
    run(2, half, resumed)
    torch.testing.assert_close(half, whole, rtol=0, atol=0)


@pytest.mark.parametrize("name", names("lr_scheduler"))
def test_a_schedule_gives_rates_and_its_state_goes_on(name: str) -> None:
    def make() -> Any:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        lr = {"lr": [0.1]} if "lr" in options_of(registry("lr_scheduler").get(name).config) else {}
        return build_lr_scheduler(default_config("lr_scheduler", name, **lr), optimizer)

    def rates(schedule: Any, first: int, last: int) -> list[float]:
        return [float(schedule.step_update(update)) for update in range(first, last)]

    whole, part, resumed = make(), make(), make()
    expected = rates(whole, 0, 9)
    assert all(0 <= rate < 10 for rate in expected)
    rates(part, 0, 5)
    resumed.load_state_dict(part.state_dict())
    assert rates(resumed, 5, 9) == pytest.approx(expected[5:], rel=1e-12)


@pytest.mark.parametrize("name", ["bleu", "chrf", "sacrebleu", "ter", "wer"])
def test_a_scorer_tells_right_from_wrong(name: str) -> None:
    scorer = build_scorer(default_config("scoring", name))
    scorer.add("the cat sat on the mat today", "the cat sat on the mat today")
    right = scorer.score()
    scorer.reset()
    scorer.add("the cat sat on the mat today", "a dog ran over some roads there")
    assert scorer.score() != pytest.approx(right)
    assert scorer.result_string()
