"""A layer of LSTM: the sequence is the steps one after the other."""

from __future__ import annotations

import torch

from seqkit.modules.recurrent import LSTMLayer


def test_a_sequence_is_its_steps() -> None:
    torch.manual_seed(1)
    layer = LSTMLayer(3, 5).double()
    x, state = torch.randn(2, 4, 3).double(), (torch.randn(2, 5).double(), torch.randn(2, 5).double())
    output, (hidden, cell) = layer.sequence(x, state)
    for step in range(4):
        state = layer(x[:, step], state)
        torch.testing.assert_close(output[:, step], state[0])
    torch.testing.assert_close(hidden, state[0])
    torch.testing.assert_close(cell, state[1])
    one, _ = layer.sequence(x[:, :1], (hidden, cell))
    assert one.shape == (2, 1, 5)


def test_parameters_start_small_and_all_learn() -> None:
    layer = LSTMLayer(3, 50)
    assert [name for name, _ in layer.named_parameters()] == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert all(parameter.abs().max() <= 0.1 for parameter in layer.parameters())
    output, _ = layer.sequence(torch.randn(2, 4, 3), (torch.zeros(2, 50), torch.zeros(2, 50)))
    output.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())
