"""A layer of long short-term memory (Hochreiter and Schmidhuber, 1997), for one step and for a whole sequence.

Knows nothing of embeddings, attention or caches. Axes: B batch, T length, I input width, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSTMLayer(nn.LSTMCell):
    """One layer of LSTM whose weights start uniformly between -0.1 and 0.1.

        i, f, o = sigmoid(W x + U h),  g = tanh(W x + U h)
        c' = f · c + i · g,  h' = o · tanh(c')

    Calling the layer runs one step: `layer(x (B, I), (h, c))` gives `(h', c')`, each (B, H).

    Args:
        input_size: I.
        hidden_size: H.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def sequence(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """All steps at once.

        Args:
            x: (B, T, I).
            state: h and c, each (B, H), before the first step.

        Returns:
            h of every step (B, T, H), and h and c after the last.
        """
        hidden, cell = state
        if x.size(1) == 1:
            hidden, cell = self(x.squeeze(1), state)
            return hidden.unsqueeze(1), (hidden, cell)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        # arguments: has biases, one layer, no dropout between layers, training, one direction, batch first
        output, hidden, cell = torch.lstm(
            x, (hidden.unsqueeze(0), cell.unsqueeze(0)), weights, True, 1, 0.0, self.training, False, True
        )
        return output, (hidden.squeeze(0), cell.squeeze(0))
