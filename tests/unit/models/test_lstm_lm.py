"""The LSTM language model: its options, and decoding step by step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from seqkit.config.root import root_from_dict
from seqkit.errors import ConfigError
from seqkit.models.lstm_lm import LSTMLanguageModel
from tests.unit.models.language_models import DictionaryTask, assert_decodes_as_a_whole, language_model

TINY = {"decoder_embed_dim": 6, "decoder_hidden_size": 8, "decoder_out_embed_dim": 6, "decoder_layers": 3}
TOKENS = torch.tensor([[2, 5, 6, 7, 8, 9], [2, 10, 11, 4, 4, 5]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"residuals": True},
        {"share_decoder_input_output_embed": True},
        {"decoder_hidden_size": 6},
        {"criterion": "adaptive_loss", "adaptive_softmax_cutoff": "5,10"},
    ],
)
def test_it_decodes_step_by_step(options: dict[str, object]) -> None:
    assert_decodes_as_a_whole(language_model("lstm_lm", **{**TINY, **options}), TOKENS)


def test_it_is_a_stack_of_lstm_layers() -> None:
    model = language_model("lstm_lm", **TINY)
    assert isinstance(model, LSTMLanguageModel)
    decoder = model.decoder
    reference = nn.LSTM(6, 8, 3, batch_first=True)
    with torch.no_grad():
        for place, layer in enumerate(decoder.layers):
            for name, parameter in layer.named_parameters():
                getattr(reference, f"{name}_l{place}").copy_(parameter)
    hidden, _ = reference(decoder.embed_tokens(TOKENS))
    assert decoder.additional_fc is not None
    assert decoder.fc_out is not None
    torch.testing.assert_close(model(TOKENS).logits, decoder.fc_out(decoder.additional_fc(hidden)))


def test_residuals_add_the_state_of_one_step_before() -> None:
    model = language_model("lstm_lm", **{**TINY, "decoder_layers": 2, "residuals": True})
    assert isinstance(model, LSTMLanguageModel)
    first, second = model.decoder.layers
    x = model.decoder.embed_tokens(TOKENS)
    states = [(torch.zeros(2, 8), torch.zeros(2, 8)) for _ in range(2)]
    tops = []
    for step in range(6):
        before = states[0][0]
        states[0] = first(x[:, step], states[0])
        states[1] = second(states[0][0] + before, states[1])
        tops.append(states[1][0])
    assert model.decoder.additional_fc is not None
    expected = model.decoder.additional_fc(torch.stack(tops, dim=1))
    torch.testing.assert_close(model(TOKENS, features_only=True).logits, expected)


def test_the_softmax_is_adaptive_with_adaptive_loss_alone() -> None:
    def adaptive(criterion: str) -> bool:
        mapping = {"task": "language_modeling", "model": {"_name": "lstm_lm", **TINY}, "criterion": criterion}
        root = root_from_dict(mapping, missing_allowed=True)
        assert root.model is not None
        return language_model("lstm_lm", DictionaryTask(60000), **vars(root.model)).adaptive_softmax is not None

    assert not adaptive("cross_entropy")
    with pytest.raises(ConfigError, match="adaptive_softmax_cutoff='10000,50000,200000' does not cut the vocabulary"):
        adaptive("adaptive_loss")
    cut = {**TINY, "criterion": "adaptive_loss", "adaptive_softmax_cutoff": "5,10"}
    model = language_model("lstm_lm", **cut)
    assert model.adaptive_softmax is not None
    torch.testing.assert_close(
        model.normalized_probs(model(TOKENS).logits, log_probs=False).sum(-1), torch.ones(TOKENS.shape)
    )


def test_dropout_options_and_positions_follow() -> None:
    mapping = {
        "task": {"_name": "language_modeling", "tokens_per_sample": 77},
        "model": {"_name": "lstm_lm", "dropout": 0.3, "decoder_dropout_in": 0.2},
    }
    root = root_from_dict(mapping, missing_allowed=True)
    config = root.model
    assert vars(config)["decoder_dropout_in"] == 0.2
    assert vars(config)["decoder_dropout_out"] == 0.3
    assert language_model("lstm_lm", **vars(config)).max_positions() == 77
    assert language_model("lstm_lm", **{**vars(config), "max_target_positions": 12}).max_positions() == 12


def test_pretrained_vectors_are_read(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("1 6\nw3 1 2 3 4 5 6\n", encoding="utf-8")
    model = language_model("lstm_lm", **TINY, decoder_embed_path=str(file))
    assert isinstance(model, LSTMLanguageModel)
    assert model.decoder.embed_tokens.weight[7].tolist() == [1, 2, 3, 4, 5, 6]


def test_sharing_needs_equal_widths() -> None:
    with pytest.raises(ConfigError, match="decoder_embed_dim=6, decoder_out_embed_dim=7"):
        language_model("lstm_lm", **{**TINY, "decoder_out_embed_dim": 7}, share_decoder_input_output_embed=True)
