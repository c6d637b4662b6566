from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seqkit.config.base import option_info
from seqkit.data.dictionary import Dictionary
from seqkit.errors import ConfigError, DataError
from seqkit.models.base import EncoderOutput, build_model
from seqkit.models.transformer import TransformerConfig, TransformerModel

PAD = 1
SIZES: dict[str, Any] = {
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_embed_dim": 16,
    "decoder_ffn_embed_dim": 24,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "max_source_positions": 32,
    "max_target_positions": 32,
}
KINDS: dict[str, dict[str, Any]] = {
    "post-norm": {},
    "pre-norm": {"encoder_normalize_before": True, "decoder_normalize_before": True},
    "pre-norm, no final norm": {"decoder_normalize_before": True, "no_decoder_final_norm": True},
    "learned positions": {"encoder_learned_pos": True, "decoder_learned_pos": True},
    "no positions": {"no_token_positional_embeddings": True},
    "shared output": {"share_decoder_input_output_embed": True},
    "shared everything": {"share_all_embeddings": True},
    "merged embeddings": {"merge_src_tgt_embed": True},
    "embedding norm": {"layernorm_embedding": True, "no_scale_embedding": True},
    "gelu": {"activation_fn": "gelu"},
    "no cross-attention": {"no_cross_attention": True},
    "cross-self-attention": {"cross_self_attention": True},
    "joint attention": {"cross_self_attention": True, "no_cross_attention": True},
    "other widths": {"decoder_input_dim": 10, "decoder_output_dim": 12, "encoder_embed_dim": 8},
}


def dictionary(words: int = 20) -> Dictionary:
    made = Dictionary()
    for number in range(words):
        made.add_symbol(f"w{number}")
    return made


def task(source: Dictionary | None = None, target: Dictionary | None = None) -> SimpleNamespace:
    return SimpleNamespace(source_dictionary=source or dictionary(), target_dictionary=target or dictionary())


def make(**options: Any) -> TransformerModel:
    torch.manual_seed(1)
    model = build_model(TransformerConfig(_name="transformer", **{**SIZES, **options}), task())
    assert isinstance(model, TransformerModel)
    return model


def batch() -> tuple[Tensor, Tensor]:
    """Two sentences; the second has padding on the left of its source and on the right of its target."""
    source = torch.tensor([[5, 6, 7, 8, 9, 2], [PAD, PAD, 10, 11, 12, 2]])
    target = torch.tensor([[2, 4, 5, 6, 7], [2, 8, 9, PAD, PAD]])
    return source, target


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_forward_and_backward(kind: str) -> None:
    model = make(**KINDS[kind])
    source, target = batch()
    output = model(source, None, target, return_all_hiddens=True)
    assert output.logits.shape == (2, 5, 24)
    assert [state.shape for state in output.hidden_states] == [(2, 5, 16)] * 3
    output.logits[target.ne(PAD)].logsumexp(-1).sum().backward()
    without = [name for name, parameter in model.decoder.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("beam", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_one_by_one_equals_all_at_once(kind: str, beam: int) -> None:
    model = make(**KINDS[kind]).eval()
    source, target = batch()
    rows = target.repeat_interleave(2, 0)
    expected = model(source.repeat_interleave(2, 0), None, rows, need_attention=True)
    encoder_out = model.encoder(source)
    cache = model.decoder.new_cache(4, 5, beam=beam)
    chunks = [
        model.decoder(rows[:, start:end], encoder_out, cache=cache, need_attention=True)
        for start, end in [(0, 2), (2, 3), (3, 4), (4, 5)]
    ]
    real = rows.ne(PAD)
    torch.testing.assert_close(
        torch.cat([chunk.logits for chunk in chunks], 1)[real], expected.logits[real], rtol=1e-5, atol=1e-5
    )
    if expected.attention is None:
        assert all(chunk.attention is None for chunk in chunks)
    else:
        attention = torch.cat([chunk.attention for chunk in chunks if chunk.attention is not None], 1)
        torch.testing.assert_close(attention[real], expected.attention[real], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("kind", ["post-norm", "learned positions", "cross-self-attention", "joint attention"])
@torch.no_grad()
def test_beams_that_move_and_sentences_that_leave(kind: str, beam: int) -> None:
    model = make(**KINDS[kind], max_target_positions=40).eval()
    generator = torch.Generator().manual_seed(3)
    source = torch.randint(4, 24, (4, 6), generator=generator)
    source[1, :2] = PAD
    encoder_out = model.encoder(source)
    cache = model.decoder.new_cache(12, 40, beam=beam)
    sentences = torch.arange(4)
    tokens = torch.full((12, 1), 2)
    for step in range(36):
        logits = model.decoder(tokens[:, -1:], encoder_out, cache=cache).logits[:, -1]
        expected = model(source[sentences].repeat_interleave(3, 0), None, tokens).logits[:, -1]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        if step in (3, 20):
            kept = torch.tensor([0, 1, 3] if step == 3 else [2, 1])
            cache.select_sentences(kept)
            encoder_out = encoder_out.select(kept)
            sentences = sentences[kept]
            tokens = tokens.view(-1, 3, tokens.size(1))[kept].flatten(0, 1)
        beams = torch.randint(0, 3, (len(sentences), 3), generator=generator)
        index = (torch.arange(len(sentences)).unsqueeze(1) * 3 + beams).flatten()
        cache.reorder(index)
        new = torch.randint(4, 24, (len(index), 1), generator=generator)
        tokens = torch.cat((tokens[index], new), 1)
    assert cache.length == 36


@torch.no_grad()
def test_without_a_beam_rows_may_be_dropped_and_repeated() -> None:
    model = make(no_cross_attention=True).eval()
    tokens = torch.randint(4, 24, (3, 5))
    cache = model.decoder.new_cache(3, 8)
    model.decoder(tokens[:, :4], cache=cache)
    index = torch.tensor([2, 2, 0, 1, 2])
    cache.reorder(index)
    logits = model.decoder(tokens[index, 4:], cache=cache).logits
    torch.testing.assert_close(logits[:, 0], model.decoder(tokens[index]).logits[:, -1])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_padding_changes_nothing(kind: str, side: str) -> None:
    model = make(**KINDS[kind]).eval()
    source, target = torch.tensor([[5, 6, 7, 2]]), torch.tensor([[2, 8, 9]])
    expected = model(source, None, target, need_attention=True)

    def padded(tokens: Tensor, count: int) -> Tensor:
        padding = torch.full((1, count), PAD)
        row = torch.cat((padding, tokens) if side == "left" else (tokens, padding), 1)
        return torch.cat((row, torch.full_like(row, 13)))

    sources, targets = padded(source, 3), padded(target, 2)
    output = model(sources, None, targets, need_attention=True)
    real_target = targets[0].ne(PAD)
    torch.testing.assert_close(output.logits[0, real_target], expected.logits[0], rtol=1e-5, atol=1e-5)
    if expected.attention is not None:
        attention = output.attention[0][real_target]
        torch.testing.assert_close(attention[:, sources[0].ne(PAD)], expected.attention[0], rtol=1e-5, atol=1e-6)
        assert not attention[:, sources[0].eq(PAD)].any()


@torch.no_grad()
def test_encoder_output_says_what_is_padded() -> None:
    model = make().eval()
    source, _ = batch()
    output = model.encoder(source, return_all_hiddens=True)
    assert isinstance(output, EncoderOutput)
    assert output.padding_mask is not None
    assert output.padding_mask.tolist() == source.eq(PAD).tolist()
    assert output.embeddings is not None
    torch.testing.assert_close(output.embeddings, 4.0 * model.encoder.embed_tokens(source))
    assert len(output.hidden_states) == 3
    assert model.encoder(source[:1]).padding_mask is None


def test_shared_embeddings_are_one_parameter() -> None:
    model = make(share_all_embeddings=True)
    shared = model.encoder.embed_tokens.weight
    assert model.decoder.embed_tokens.weight is shared
    assert model.decoder.output_projection.weight is shared
    assert "decoder.output_projection.weight" in model.state_dict()
    model = make(share_decoder_input_output_embed=True)
    assert model.decoder.output_projection.weight is model.decoder.embed_tokens.weight
    assert model.decoder.embed_tokens.weight is not model.encoder.embed_tokens.weight
    model = make()
    assert model.decoder.output_projection.weight is not model.decoder.embed_tokens.weight


ADAPTIVE = {"adaptive_softmax_cutoff": "8,16", "adaptive_input": True}


@pytest.mark.parametrize(
    "options",
    [
        {"adaptive_softmax_cutoff": "8,16"},
        ADAPTIVE,
        {**ADAPTIVE, "tie_adaptive_weights": True, "tie_adaptive_proj": True},
        {"adaptive_softmax_cutoff": "8", "share_all_embeddings": True},
    ],
)
def test_an_adaptive_softmax_takes_the_place_of_logits(options: dict[str, Any]) -> None:
    model = make(**options).eval()
    source, target = batch()
    features = model(source, None, target).logits
    assert features.shape == (2, 5, 16)
    probs = model.normalized_probs(features, log_probs=False)
    torch.testing.assert_close(probs.sum(-1), torch.ones(2, 5))
    model.target_log_probs(features, target).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    cache = model.decoder.new_cache(2, 5)
    encoder_out = model.encoder(source)
    steps = [model.decoder(target[:, place : place + 1], encoder_out, cache=cache).logits for place in range(5)]
    real = target.ne(PAD)
    torch.testing.assert_close(torch.cat(steps, 1)[real], features[real], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_of_a_chosen_layer_and_heads() -> None:
    model = make().eval()
    source, target = batch()
    last = model(source, None, target, need_attention=True).attention
    first = model(source, None, target, need_attention=True, alignment_layer=0).attention
    assert not torch.equal(last, first)
    assert torch.equal(model(source, None, target, need_attention=True, alignment_layer=1).attention, last)
    head = model(source, None, target, need_attention=True, alignment_heads=1).attention
    torch.testing.assert_close(head.sum(-1), torch.ones(2, 5))
    assert not torch.equal(head, last)
    assert model(source, None, target).attention is None
    with pytest.raises(ValueError, match="alignment_layer=2 is not one of the 2 decoder layers"):
        model(source, None, target, need_attention=True, alignment_layer=2)


@torch.no_grad()
def test_features_are_what_is_projected() -> None:
    model = make(decoder_output_dim=12).eval()
    source, target = batch()
    features = model(source, None, target, features_only=True).logits
    assert features.shape == (2, 5, 12)
    torch.testing.assert_close(model.decoder.output_layer(features), model(source, None, target).logits)


@pytest.mark.parametrize("option", ["checkpoint_activations", "offload_activations"])
def test_saving_memory_changes_no_gradient(option: str) -> None:
    """Bit for bit: what is computed again has the dropout masks of the first time."""
    source, target = batch()
    dropouts = {"dropout": 0.3, "attention_dropout": 0.2, "activation_dropout": 0.1, "encoder_layerdrop": 0.3}
    gradients = []
    for setting in (False, True):
        model = make(encoder_layers=3, **dropouts, **{option: setting})
        torch.manual_seed(7)
        model(source, None, target).logits.logsumexp(-1).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    layers = {name for name, gradient in gradients[0].items() if gradient is not None and "layers.0." in name}
    assert any(name.startswith("decoder.") for name in layers)
    for name, gradient in gradients[0].items():
        again = gradients[1][name]
        assert (gradient is None and again is None) or torch.equal(gradient, again), name


def test_layers_run_again_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = batch()
    for option, calls in (("dropout", 1), ("checkpoint_activations", 2), ("offload_activations", 2)):
        model = make(**{option: 0.1 if option == "dropout" else True})
        seen: list[str] = []
        for stack in (model.encoder, model.decoder):
            for layer in stack.layers:
                layer.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(type(module).__name__))
        model(source, None, target).logits.sum().backward()
        assert len(seen) == calls * (len(model.encoder.layers) + len(model.decoder.layers)), option


def test_dropouts_act_in_training_alone() -> None:
    source, target = batch()
    for option in ("dropout", "attention_dropout", "activation_dropout", "relu_dropout"):
        model = make(**{"dropout": 0.0, option: 0.4})
        assert not torch.equal(model(source, None, target).logits, model(source, None, target).logits), option
        model.eval()
        assert torch.equal(model(source, None, target).logits, model(source, None, target).logits), option


def test_relu_dropout_stands_in_for_activation_dropout() -> None:
    model = make(relu_dropout=0.25)
    probabilities = {module.p for name, module in model.named_modules() if name.endswith("activation_dropout_module")}
    assert probabilities == {0.25}
    model = make(relu_dropout=0.25, activation_dropout=0.5)
    probabilities = {module.p for name, module in model.named_modules() if name.endswith("activation_dropout_module")}
    assert probabilities == {0.5}


def test_layers_drop_in_training() -> None:
    model = make(encoder_layerdrop=0.5, decoder_layerdrop=0.5, dropout=0.0)
    source, target = batch()
    results = {tuple(model(source, None, target).logits[0, 0].tolist()) for _ in range(20)}
    assert len(results) > 4
    model.eval()
    assert torch.equal(model(source, None, target).logits, model(source, None, target).logits)


@torch.no_grad()
def test_layers_to_keep_prunes_a_deeper_checkpoint() -> None:
    deep = make(encoder_layers=4, decoder_layers=3, encoder_normalize_before=True).eval()
    pruned = make(
        encoder_layers=4,
        encoder_layers_to_keep="1,3",
        decoder_layers=3,
        decoder_layers_to_keep="0",
        encoder_normalize_before=True,
    ).eval()
    assert (len(pruned.encoder.layers), len(pruned.decoder.layers)) == (2, 1)
    pruned.load_state_dict(deep.state_dict())
    deep.encoder.layers = type(deep.encoder.layers)([deep.encoder.layers[1], deep.encoder.layers[3]])
    deep.decoder.layers = type(deep.decoder.layers)([deep.decoder.layers[0]])
    source, target = batch()
    torch.testing.assert_close(pruned(source, None, target).logits, deep(source, None, target).logits)
    again = make(encoder_layers=4, encoder_layers_to_keep="1,3", decoder_layers=1, encoder_normalize_before=True)
    again.load_state_dict(pruned.state_dict())  # one that is pruned already is taken as it is


def test_a_seed_draws_the_same_parameters_in_the_same_order() -> None:
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # The source embedding is the first thing that is drawn: once by the table's constructor, then with its own width.
    torch.manual_seed(1)
    torch.empty(24, 16).normal_()
    expected = torch.empty(24, 16).normal_(0, 16**-0.5)
    expected[PAD] = 0
    assert torch.equal(first["encoder.embed_tokens.weight"], expected)


def test_state_loads_into_another_instance() -> None:
    model, other = make(), make(dropout=0.0)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict())
    source, target = batch()
    assert torch.equal(
        model.eval()(source, None, target).logits,
        other.eval()(source, None, target).logits,
    )


def test_positions_bound_the_model() -> None:
    model = make(encoder_learned_pos=True, max_source_positions=5, max_target_positions=7)
    assert model.max_positions() == (5, 7)
    with pytest.raises(DataError, match="6 tokens does not fit this model's 5 learned positions"):
        model.encoder(batch()[0])


def test_half_precision_has_no_nan() -> None:
    model = make().eval().to(torch.bfloat16)
    source, target = batch()
    with torch.no_grad():
        assert model(source, None, target).logits.isfinite().all()
        cache = model.decoder.new_cache(2, 5)
        assert model.decoder(target, model.encoder(source), cache=cache).logits.dtype == torch.bfloat16


def test_pretrained_vectors_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("1 16\nw3 " + " ".join(["0.5"] * 16) + "\n", encoding="utf-8")
    model = make(encoder_embed_path=str(file), decoder_embed_path=str(file))
    assert model.encoder.embed_tokens.weight[4 + 3].tolist() == [0.5] * 16
    assert model.decoder.embed_tokens.weight[4 + 3].tolist() == [0.5] * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"encoder_embed_dim": 18},
            "model.encoder_embed_dim=18 is not divisible by model.encoder_attention_heads=4; make it 20",
        ),
        ({"share_all_embeddings": True, "encoder_embed_dim": 8}, "encoder_embed_dim=8, decoder_embed_dim=16"),
        ({"share_decoder_input_output_embed": True, "decoder_output_dim": 8}, "decoder_output_dim=8"),
        ({"share_all_embeddings": True, "decoder_output_dim": 8}, "share_all_embeddings=true needs target embedding"),
        ({"share_all_embeddings": True, "decoder_embed_path": "x"}, "leave decoder_embed_path out"),
        ({"encoder_layers_to_keep": "0,2"}, "encoder_layers_to_keep='0,2' is not a rising list of layers between 0"),
        ({"decoder_layers_to_keep": "first"}, "decoder_layers_to_keep='first'"),
        ({"cross_self_attention": True, "encoder_embed_dim": 8}, "needs encoder and decoder of one width"),
        ({"adaptive_input": True}, r"takes its cutoffs from model\.adaptive_softmax_cutoff, which is not given"),
        ({**ADAPTIVE, "share_all_embeddings": True}, "adaptive_input=true has no table to share"),
        ({"adaptive_softmax_cutoff": "8,200"}, "adaptive_softmax_cutoff='8,200' does not cut the vocabulary"),
        ({"tie_adaptive_weights": True}, r"tie_adaptive_weights=true needs model\.adaptive_input=true"),
        ({"activation_fn": "rely"}, "unknown activation function 'rely'; did you mean 'relu'"),
    ],
)
def test_options_that_do_not_fit_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize("option", ["share_all_embeddings", "merge_src_tgt_embed"])
def test_sharing_needs_one_dictionary(option: str) -> None:
    config = TransformerConfig(_name="transformer", **{**SIZES, option: True})
    with pytest.raises(ConfigError, match=f"{option}=true needs one dictionary.*24 symbols.*25.*--joined-dictionary"):
        TransformerModel.build(config, task(dictionary(20), dictionary(21)))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="2 problems") as error:
        make(encoder_embed_dim=18, decoder_attention_heads=5)
    assert len(error.value.problems) == 2


def test_every_option_is_documented() -> None:
    for item in dataclasses.fields(TransformerConfig):
        if item.name != "_name":
            assert option_info(item).help


def test_a_cache_of_another_model_is_refused() -> None:
    model = make()
    with pytest.raises(TypeError, match="made by its new_cache; got object"):
        model.decoder(batch()[1], None, cache=object())  # type: ignore[arg-type]
