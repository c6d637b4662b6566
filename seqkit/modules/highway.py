"""Highway layers: a gate decides how much of the input is transformed (Srivastava et al., 2015).

    y = g · x + (1 - g) · relu(W x)    with g = sigmoid(V x)

Knows nothing of where it is used. Axes: … any leading axes, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Highway(nn.Module):
    """A stack of highway layers of one width.

    Args:
        input_dim: C.
        num_layers: how many.
    """

    def __init__(self, input_dim: int, num_layers: int = 1) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(input_dim, 2 * input_dim) for _ in range(num_layers)])
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            # At first the input is carried rather than transformed.
            nn.init.constant_(layer.bias[input_dim:], 1)
            nn.init.zeros_(layer.bias[:input_dim])
            nn.init.xavier_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) to (…, C)."""
        for layer in self.layers:
            transformed, gate = layer(x).chunk(2, dim=-1)
            gate = torch.sigmoid(gate)
            x = gate * x + (1 - gate) * torch.relu(transformed)
        return x
