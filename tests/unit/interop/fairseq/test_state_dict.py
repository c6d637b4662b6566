import torch

from seqkit.interop.fairseq.state_dict import (
    upgrade_state_dict,
    with_plain_embedding,
    without_final_norms,
    without_unused_scales,
)


def test_buffers_without_parameters_are_left_out() -> None:
    state = {
        "encoder.version": torch.tensor([3.0]),
        "encoder.embed_positions._float_tensor": torch.zeros(1),
        "encoder.embed_tokens.weight": torch.zeros(4, 2),
    }
    assert list(upgrade_state_dict(state, {})) == ["encoder.embed_tokens.weight"]


def test_packed_projections_are_split_into_query_key_value() -> None:
    packed = torch.arange(12.0).reshape(6, 2)
    upgraded = upgrade_state_dict({"decoder.layers.0.self_attn.in_proj_weight": packed}, {})
    prefix = "decoder.layers.0.self_attn."
    assert [name.removeprefix(prefix) for name in upgraded] == ["q_proj.weight", "k_proj.weight", "v_proj.weight"]
    assert torch.equal(torch.cat(list(upgraded.values())), packed)


def test_numbered_layer_norms_get_their_names() -> None:
    state = {
        "encoder.layers.1.layer_norms.1.weight": torch.ones(2),
        "decoder.layers.0.layer_norms.1.bias": torch.ones(2),
        "decoder.layers.0.layer_norms.2.bias": torch.ones(2),
    }
    assert list(upgrade_state_dict(state, {})) == [
        "encoder.layers.1.final_layer_norm.weight",
        "decoder.layers.0.encoder_attn_layer_norm.bias",
        "decoder.layers.0.final_layer_norm.bias",
    ]


def test_a_tied_output_projection_is_filled_in() -> None:
    embedding = torch.ones(4, 2)
    config = {"model": {"share_decoder_input_output_embed": True}}
    upgraded = upgrade_state_dict({"decoder.embed_tokens.weight": embedding}, config)
    assert upgraded["decoder.output_projection.weight"] is embedding


def test_a_recurrent_model_uses_its_embedding_itself() -> None:
    config = {"model": {"_name": "lstm_lm", "share_decoder_input_output_embed": True}}
    assert list(upgrade_state_dict({"decoder.embed_tokens.weight": torch.ones(4, 2)}, config)) == [
        "decoder.embed_tokens.weight"
    ]


def test_biases_that_dynamic_convolutions_never_set_are_left_out() -> None:
    state = {
        "decoder.layers.0.conv.conv_bias": torch.ones(1),
        "decoder.layers.0.conv.weight_linear.weight": torch.ones(1),
    }
    assert list(upgrade_state_dict(state, {})) == ["decoder.layers.0.conv.weight_linear.weight"]


def test_an_output_embedding_of_its_own_becomes_the_projection() -> None:
    weight = torch.ones(4, 2)
    assert upgrade_state_dict({"decoder.embed_out": weight}, {}) == {"decoder.output_projection.weight": weight}


def test_normalised_convolutions_measured_by_position_give_the_same_weights() -> None:
    direction, length = torch.randn(3, 2, 5), torch.rand(3, 1, 1)
    effective = length * direction / direction.norm(dim=(1, 2), keepdim=True)
    prefix = "decoder.convolutions.0.weight"
    state = upgrade_state_dict({f"{prefix}_g": length, f"{prefix}_v": direction}, {})
    again = state[f"{prefix}_g"] * state[f"{prefix}_v"] / state[f"{prefix}_v"].norm(dim=(0, 1), keepdim=True)
    assert state[f"{prefix}_g"].shape == (1, 1, 5)
    torch.testing.assert_close(again, effective)
    assert upgrade_state_dict(state, {})[f"{prefix}_v"] is state[f"{prefix}_v"]


def test_pre_norm_models_of_before_there_were_final_norms_are_told_by_what_they_lack() -> None:
    model = {"encoder_normalize_before": True, "decoder_normalize_before": True}
    state = {f"{side}.layers.0.fc1.weight": torch.ones(1) for side in ("encoder", "decoder")}
    assert without_final_norms(state, model) == {"no_encoder_final_norm": True, "no_decoder_final_norm": True}
    assert without_final_norms(state | {"encoder.layer_norm.weight": torch.ones(1)}, model) == {
        "no_decoder_final_norm": True
    }
    assert without_final_norms(state, {}) == {}
    convolutions = {f"{side}.layers.0.linear1.weight": torch.ones(1) for side in ("encoder", "decoder")}
    assert without_final_norms(state | convolutions, model) == {}
    assert without_final_norms(state, {"decoder_normalize_before": True, "no_decoder_final_norm": True}) == {}


def test_what_fairseq_passed_over_of_a_target_embedding() -> None:
    state = {"encoder.embed_tokens.weight": torch.zeros(4, 8), "decoder.embed_tokens.weight": torch.zeros(4, 8)}
    given = {"decoder_embed_dim": 8, "decoder_input_dim": 16, "adaptive_input": True}
    assert with_plain_embedding(state, given) == {"adaptive_input": False, "decoder_input_dim": 8}
    assert with_plain_embedding(state, {"decoder_input_dim": 8, "adaptive_input": False}) == {}
    del state["encoder.embed_tokens.weight"]  # of a language model they are heeded
    assert with_plain_embedding(state, given) == {}


def test_the_map_that_an_lstm_with_an_adaptive_softmax_never_used_is_left_out() -> None:
    state = {"decoder.additional_fc.weight": torch.ones(2, 2), "decoder.additional_fc.bias": torch.ones(2)}
    config = {"model": {"_name": "lstm_lm"}}
    assert upgrade_state_dict(state, config) == state
    state["decoder.adaptive_softmax.head.weight"] = torch.ones(2, 2)
    assert list(upgrade_state_dict(state, config)) == ["decoder.adaptive_softmax.head.weight"]


def test_second_copies_of_an_encoder_layer_are_left_out() -> None:
    """fairseq 0.12.2 has them in every Transformer's file, beside the weights themselves."""
    prefix = "encoder.layers.3."
    own = {f"{prefix}{name}.weight": torch.ones(2, 2) for name in ("self_attn.q_proj", "fc1", "fc2")}
    names = [f"{name}_{kind}" for name in ("in_proj", "out_proj", "fc1", "fc2") for kind in ("weight", "bias")]
    copies = {f"{prefix}{name}": torch.zeros(6, 2) for name in names}
    assert list(upgrade_state_dict({**copies, **own}, {})) == list(own)


def test_factors_that_fairseq_did_not_build_are_switched_off() -> None:
    model = {"scale_heads": True, "scale_fc": True, "scale_attn": False, "scale_resids": True}
    state = {"decoder.layers.0.ffn_layernorm.weight": torch.ones(2)}
    assert without_unused_scales(state, model) == {"scale_heads": False, "scale_resids": False}
