import torch

from seqkit.interop.fairseq.state_dict import upgrade_state_dict


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
