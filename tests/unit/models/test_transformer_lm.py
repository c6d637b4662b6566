"""The language model: its options, what they change, and what of them cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from seqkit.config.base import default_of
from seqkit.config.compose import compose, variant
from seqkit.config.validate import build_config
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError
from seqkit.interop.fairseq.flags import to_root_config
from seqkit.models.transformer_lm import TransformerLanguageModel, TransformerLMConfig

WORDS = 24
TINY: dict[str, Any] = {
    "decoder_embed_dim": 16,
    "decoder_input_dim": 16,
    "decoder_output_dim": 16,
    "decoder_ffn_embed_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "tokens_per_sample": 12,
}
ADAPTIVE = {"adaptive_input": True, "adaptive_input_cutoff": "8,16", "adaptive_softmax_cutoff": "8,16"}
CHARACTERS = {"character_embeddings": True, "character_filters": "[(1, 4), (2, 8)]"}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"share_decoder_input_output_embed": True},
    "other widths": {"decoder_input_dim": 8, "decoder_output_dim": 12},
    "gpt": {"decoder_normalize_before": True, "decoder_learned_pos": True, "activation_fn": "gelu"},
    "adaptive": ADAPTIVE,
    "adaptive, tied": {**ADAPTIVE, "tie_adaptive_weights": True, "tie_adaptive_proj": True},
    "adaptive softmax alone": {"adaptive_softmax_cutoff": "8,16", "decoder_output_dim": 8},
    "characters": CHARACTERS,
    "normformer": dict.fromkeys(("scale_heads", "scale_attn", "scale_fc", "scale_resids"), True),
    "layernorm_embedding": {"layernorm_embedding": True, "no_token_positional_embeddings": True},
}
FOLDER = Path(__file__).parents[3] / "configs" / "model"
FILES = sorted(FOLDER.glob("transformer_lm_*.yaml"))


def dictionary(words: int = WORDS) -> Dictionary:
    result = Dictionary()
    for number in range(words - len(result)):
        result.add_symbol(f"w{number}")
    return result


def make(output_words: int = WORDS, **options: Any) -> TransformerLanguageModel:
    torch.manual_seed(1)
    config = build_config(TransformerLMConfig, {"_name": "transformer_lm", **TINY, **options}, "model")
    task = SimpleNamespace(source_dictionary=dictionary(), target_dictionary=dictionary().first(output_words))
    return TransformerLanguageModel.build(config, task)


def randomised(model: TransformerLanguageModel) -> TransformerLanguageModel:
    """No parameter at a value at which it does nothing."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_decodes_step_by_step_as_at_once(kind: str) -> None:
    model = randomised(make(**KINDS[kind]))
    tokens = torch.randint(4, WORDS, (3, 9))
    tokens[1, :4] = 1  # padding on the left
    whole = model.normalized_probs(model(tokens).logits, log_probs=True)
    assert whole.shape == (3, 9, WORDS)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(3, 9))
    torch.testing.assert_close(
        model.target_log_probs(model(tokens).logits, tokens), whole.gather(2, tokens.unsqueeze(2)).squeeze(2)
    )
    cache = model.decoder.new_cache(3, 9)
    steps = [model.decoder(tokens[:, :3], cache=cache).logits]
    steps += [model.decoder(tokens[:, place : place + 1], cache=cache).logits for place in range(3, 9)]
    found = model.normalized_probs(torch.cat(steps, 1), log_probs=True)
    real = tokens.ne(1)
    torch.testing.assert_close(found[real], whole[real], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: str) -> None:
    model = make(**KINDS[kind], dropout=0.0)
    tokens = torch.randint(4, WORDS, (4, 12))
    model.target_log_probs(model(tokens).logits, tokens.roll(-1, 1)).sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("kind", KINDS)
def test_leading_positions_can_be_left_out(kind: str) -> None:
    model = make(**KINDS[kind]).eval()
    pads = torch.ones(2, 2, dtype=torch.int64)
    text = torch.tensor([[2, 5, 6, 7, 8], [2, 10, 11, 4, 4]])
    for tokens in (text, torch.cat((text, pads), dim=1), torch.cat((pads, text), dim=1)):
        whole = model(tokens).logits
        for skip in (1, 3, tokens.size(1) - 1):
            torch.testing.assert_close(model(tokens, skip=skip).logits, whole[:, skip:], atol=1e-5, rtol=1e-5)


def test_the_future_is_not_seen() -> None:
    model = randomised(make())
    tokens = torch.randint(4, WORDS, (2, 8))
    changed = tokens.clone()
    changed[:, 5:] = 4
    torch.testing.assert_close(model(tokens).logits[:, :5], model(changed).logits[:, :5])


def test_positions_are_as_many_as_blocks_have_tokens_unless_given() -> None:
    assert make().max_positions() == 12
    assert make(max_target_positions=30).max_positions() == 30


def test_a_smaller_output_dictionary_makes_a_smaller_projection() -> None:
    assert make(output_words=10)(torch.tensor([[4, 20]])).logits.shape == (1, 2, 10)


def test_normformer_begins_as_the_model_without_its_factors() -> None:
    tokens = torch.randint(4, WORDS, (2, 6))
    plain, scaled = make().eval(), make(scale_heads=True, scale_resids=True).eval()
    torch.testing.assert_close(scaled(tokens).logits, plain(tokens).logits)


PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"decoder_attention_heads": 3}, r"decoder_embed_dim=16 is not divisible by .*=3; make it 18"),
    "cutoff": ({"adaptive_softmax_cutoff": "8,99"}, r"adaptive_softmax_cutoff='8,99' does not cut .* of 24 words"),
    "cutoff text": ({"adaptive_softmax_cutoff": "many"}, r"adaptive_softmax_cutoff='many' does not cut"),
    "no cutoff": ({"adaptive_input": True}, r"adaptive_input=true needs model\.adaptive_input_cutoff"),
    "tying nothing": ({"tie_adaptive_weights": True}, r"needs both model\.adaptive_input=true and"),
    "tying others": (
        {**ADAPTIVE, "tie_adaptive_weights": True, "adaptive_input_cutoff": "8"},
        "adaptive_softmax_cutoff and adaptive_input_cutoff to be equal, got 8,16 and 8",
    ),
    "tying maps": ({**ADAPTIVE, "tie_adaptive_proj": True}, r"needs model\.tie_adaptive_weights=true"),
    "sharing widths": (
        {"share_decoder_input_output_embed": True, "decoder_input_dim": 8},
        "one width, got decoder_input_dim=8, decoder_output_dim=16",
    ),
    "sharing no table": ({"share_decoder_input_output_embed": True, **CHARACTERS}, "no table to share"),
    "two embeddings": ({**CHARACTERS, **ADAPTIVE}, "exclude each other"),
    "filters": ({**CHARACTERS, "character_filters": "(1, 2)"}, r"is not a list of \(width, channels\) pairs"),
    "code in filters": ({**CHARACTERS, "character_filters": "exit()"}, "is not a list of"),
    "wide filter": ({**CHARACTERS, "character_filters": "[(60, 4)]"}, "filter of width 60, wider than the 50 bytes"),
    "quantisation": ({"quant_noise_pq": 0.1}, "quantisation noise are not in this version"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_cannot_be_is_told(name: str) -> None:
    options, message = PROBLEMS[name]
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make(decoder_attention_heads=3, adaptive_softmax_cutoff="99", tie_adaptive_proj=True)
    assert all(part in str(caught.value) for part in ("decoder_attention_heads", "'99'", "tie_adaptive_proj"))


@pytest.mark.parametrize(
    ("name", "ffn"), [("big", 4096), ("gpt", 3072), ("gbw", 4096), ("gpt2_tiny", 64), ("gpt3_xl", 4 * 32)]
)
def test_the_widths_around_a_named_architecture_follow_its_own_unless_they_are_given(name: str, ffn: int) -> None:
    """As in fairseq, whose architectures fill in what was not given; with flags, overrides and in files."""
    arch = f"transformer_lm_{name}"
    command = ["data-bin", "--task", "language_modeling", "--arch", arch, "--optimizer", "adam", "--max-tokens", "9"]
    chosen = ["task=language_modeling", f"model={arch}", "optimizer=adam"]
    given = {"decoder_embed_dim": 32, "decoder_attention_heads": 4}
    for config in (
        to_root_config("train", [*command, "--decoder-embed-dim", "32"]).model,
        compose(overrides=[*chosen, "model.decoder_embed_dim=32"]).model,
        build_config(TransformerLMConfig, variant("model", arch, given=given), where="model"),
    ):
        assert isinstance(config, TransformerLMConfig)
        assert (config.decoder_input_dim, config.decoder_output_dim) == (32, 32)
        assert config.decoder_ffn_embed_dim == ffn
    config = to_root_config("train", [*command, "--decoder-embed-dim", "32", "--decoder-input-dim", "16"]).model
    assert isinstance(config, TransformerLMConfig)
    assert (config.decoder_input_dim, config.decoder_output_dim) == (16, 32)


def test_the_named_architectures_are_there() -> None:
    assert {path.stem.removeprefix("transformer_lm_") for path in FILES} == {
        *("baevski_gbw", "baevski_wiki103", "big", "gbw", "gpt", "wiki103"),
        *("gpt2_big", "gpt2_big_wide", "gpt2_bigger", "gpt2_medium", "gpt2_small", "gpt2_tiny"),
        *("gpt3_13", "gpt3_175", "gpt3_2_7", "gpt3_6_7", "gpt3_large", "gpt3_medium", "gpt3_small", "gpt3_xl"),
    }


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_named_architecture_says_only_what_differs_and_builds(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    values = yaml.safe_load(text)
    assert values.pop("defaults") == ["transformer_lm"]
    fields = {item.name: item for item in dataclasses.fields(TransformerLMConfig)}
    assert values.keys() <= fields.keys()
    superfluous = [key for key, value in values.items() if default_of(fields[key]) == value]
    assert not [key for key in superfluous if f"${{.{key}}}" not in text], "these are the defaults"
    config = build_config(TransformerLMConfig, variant("model", path.stem), where="model")
    assert config.decoder_embed_dim % config.decoder_attention_heads == 0
    assert config.decoder_input_dim == config.decoder_output_dim == config.decoder_embed_dim
    # Its structure, at a size that a test can build.
    width = 4 * config.decoder_attention_heads
    for name in ("decoder_embed_dim", "decoder_input_dim", "decoder_output_dim", "decoder_ffn_embed_dim"):
        setattr(config, name, width)
    for name in ("adaptive_softmax_cutoff", "adaptive_input_cutoff"):
        if getattr(config, name) is not None:
            setattr(config, name, "8,16")
    config.decoder_layers = 1
    task = SimpleNamespace(source_dictionary=dictionary(), target_dictionary=dictionary())
    model = TransformerLanguageModel.build(config, task)
    assert model.decoder.layers[0].normalize_before == config.decoder_normalize_before
