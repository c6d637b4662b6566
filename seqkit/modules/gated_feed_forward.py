"""A feed-forward sublayer with a gate (SwiGLU and its siblings: Shazeer, 2020).

    y = W_down (f(W_gate x) · (W_up x))

Knows nothing of layers. Axes: … any leading axes, C channels, F inner width.
"""

from __future__ import annotations

from torch import Tensor, nn

from seqkit.modules.activation import activation
from seqkit.modules.dropout import Dropout


class GatedFeedForward(nn.Module):
    """Two linear maps multiplied, one of them through an activation, and a linear map back; no biases.

    Args:
        embed_dim: C.
        ffn_dim: F.
        activation_name: f, as of `seqkit.modules.activation`; `swish` makes it SwiGLU.
        dropout: on the product.
    """

    def __init__(self, embed_dim: int, ffn_dim: int, *, activation_name: str = "swish", dropout: float = 0.0) -> None:
        super().__init__()
        # W_gate above W_up.
        self.gate_up_proj = nn.Linear(embed_dim, 2 * ffn_dim, bias=False)
        self.down_proj = nn.Linear(ffn_dim, embed_dim, bias=False)
        self.activation_fn = activation(activation_name)
        self.dropout_module = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) to (…, C)."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        result: Tensor = self.down_proj(self.dropout_module(self.activation_fn(gate) * up))
        return result
