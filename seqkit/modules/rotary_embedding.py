"""Rotary position embedding (Su et al., 2021), and the ways to stretch it over longer texts.

Channel pairs (i, i + D/2) of each head's queries and keys are turned by the angle position · f_i with
f_i = theta ** (-2 i / D), so that their product depends on the distance alone. For texts longer than those of training:

- `linear`: f / factor (Chen et al., 2023, position interpolation);
- `ntk`: theta · factor ** (D / (D - 2)), which slows down low frequencies most ("NTK-aware");
- `dynamic`: as `ntk`, with a factor that grows with the text's length L: factor · L / original - (factor - 1), and
  only where L is above `original`. While a text is written token by token, L is its length so far, and what was read
  before is not turned anew;
- `yarn`: low frequencies as `linear`, high ones unchanged, a ramp between them, and queries and keys multiplied by
  0.1 · ln(factor) + 1 (Peng et al., 2023);
- `llama3`: the same idea with the ramp on wavelengths (Grattafiori et al., 2024).

Knows nothing of attention. Axes: B batch, T length, H heads, D head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SCALINGS: tuple[str, ...] = ("none", "linear", "ntk", "dynamic", "yarn", "llama3")


@dataclass(frozen=True)
class RotaryScaling:
    """How rotary embedding is stretched.

    Attributes:
        kind: one of `SCALINGS`.
        factor: how many times longer texts become.
        original: length of the texts that the model was first trained on.
        low_frequency_factor, high_frequency_factor: `llama3`: wavelengths above original/low are stretched, those
            below original/high are kept.
        beta_fast, beta_slow: `yarn`: channels that turn more than `beta_fast` times over `original` positions are
            kept, those that turn fewer than `beta_slow` times are stretched.
        attention_factor: `yarn`: on queries and keys; None for the rule above.
    """

    kind: str = "none"
    factor: float = 1.0
    original: int = 2048
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None


_FIRST_SIZE = 256


class Rotation:
    """The turn of each position of a batch.

    Args:
        cosines: (…, T, 1, D).
        sines: (…, T, 1, D/2).
    """

    def __init__(self, cosines: Tensor, sines: Tensor) -> None:
        self.cosines = cosines
        self.sines = sines

    def __call__(self, x: Tensor) -> Tensor:
        """Turn the heads of queries or keys (B, T, H, D)."""
        turned: Tensor = _Rotate.apply(  # type: ignore[no-untyped-call]
            x, self.cosines.to(x.dtype), self.sines.to(x.dtype)
        )
        return turned

    def after(self, skip: int) -> Rotation:
        """The turns of the positions from the `skip`-th on."""
        return Rotation(self.cosines[..., skip:, :, :], self.sines[..., skip:, :, :])


class RotaryEmbedding(nn.Module):
    """Rotations by position; a table that is computed, not trained, and not saved, and that grows as needed.

    Args:
        head_dim: D, even.
        theta: base of the frequencies.
        scaling: for texts longer than those of training.

    Raises:
        ValueError: an odd `head_dim`, or an unknown kind of scaling.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, head_dim: int, theta: float = 10000.0, scaling: RotaryScaling | None = None) -> None:
        super().__init__()
        scaling = RotaryScaling() if scaling is None else scaling
        if head_dim % 2:
            raise ValueError(f"rotary embedding turns pairs of channels, so a head's width {head_dim} must be even")
        if scaling.kind not in SCALINGS:
            raise ValueError(f"unknown rotary scaling {scaling.kind!r}; there are: {', '.join(SCALINGS)}")
        self.head_dim = head_dim
        self.theta = theta
        self.scaling = scaling
        self.register_buffer("cosines", torch.empty(0, head_dim), persistent=False)
        self.register_buffer("sines", torch.empty(0, head_dim // 2), persistent=False)

    def forward(
        self, length: int, positions: Tensor | None = None, text_length: Tensor | int | None = None
    ) -> Rotation:
        """The rotations of a batch.

        Args:
            length: positions lie below this.
            positions: (B, T) int64, from 0; None: 0, 1, … `length` - 1 in every row.
            text_length: how long the texts are, (B,) or one number for all, which `dynamic` scaling asks for;
                None: `length`.
        """
        if self.is_dynamic:
            lengths = torch.as_tensor(length if text_length is None else text_length, device=self.cosines.device)
            if bool((lengths > self.scaling.original).any()):
                return self._stretched(length, positions, lengths)
        # Threads that decode side by side may get here together: each goes on with tables that it has checked.
        cosines, sines = self.cosines, self.sines
        if length > min(cosines.size(0), sines.size(0)):
            size = max(length, 2 * cosines.size(0), _FIRST_SIZE)
            with torch.inference_mode(False):  # training may go on with the tables
                angles = torch.arange(size, dtype=torch.float).unsqueeze(1) * self.frequencies()
                new_cosines, new_sines = self._table(angles)
                cosines, sines = new_cosines.to(cosines), new_sines.to(sines)
            self.cosines, self.sines = cosines, sines
        if positions is None:
            return Rotation(cosines[:length].unsqueeze(1), sines[:length].unsqueeze(1))
        return Rotation(cosines[positions].unsqueeze(2), sines[positions].unsqueeze(2))

    @property
    def is_dynamic(self) -> bool:
        """Whether a position's rotation depends on how long the text is."""
        return self.scaling.kind == "dynamic"

    def frequencies(self) -> Tensor:
        """(D/2,) float32: the angle per position of each pair of channels; `dynamic` ones for short texts."""
        scaling = self.scaling
        if scaling.kind == "ntk":
            return self._powers(self.theta * scaling.factor ** (self.head_dim / (self.head_dim - 2)))
        plain = self._powers(self.theta)
        if scaling.kind in ("none", "dynamic"):
            return plain
        stretched = plain / scaling.factor
        if scaling.kind == "linear":
            return stretched
        if scaling.kind == "yarn":
            kept = 1 - self._yarn_ramp()
        else:
            low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
            kept = ((scaling.original * plain / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
        return stretched * (1 - kept) + plain * kept

    def magnitude(self) -> float:
        """What queries and keys are multiplied by."""
        if self.scaling.kind != "yarn":
            return 1.0
        if self.scaling.attention_factor is not None:
            return self.scaling.attention_factor
        return 0.1 * math.log(self.scaling.factor) + 1.0 if self.scaling.factor > 1 else 1.0

    def _powers(self, theta: float | Tensor) -> Tensor:
        """theta ** (-2 i / D) for every pair i: (…, D/2) of a number or of (…, 1)."""
        exponents = torch.arange(0, self.head_dim, 2, dtype=torch.float) / self.head_dim
        if isinstance(theta, Tensor):
            return theta.pow(-exponents.to(theta.device))
        return torch.tensor(theta, dtype=torch.float).pow(-exponents)

    def _yarn_ramp(self) -> Tensor:
        """(D/2,) from 0 (frequencies that are kept) to 1 (those that are stretched)."""

        def pair_that_turns(times: float) -> float:
            ratio = self.scaling.original / (times * 2 * math.pi)
            return self.head_dim * math.log(ratio) / (2 * math.log(self.theta))

        first = max(math.floor(pair_that_turns(self.scaling.beta_fast)), 0)
        last = min(math.ceil(pair_that_turns(self.scaling.beta_slow)), self.head_dim - 1)
        pairs = torch.arange(self.head_dim // 2, dtype=torch.float)
        return ((pairs - first) / max(last - first, 1e-3)).clamp(0, 1)

    def _stretched(self, length: int, positions: Tensor | None, lengths: Tensor) -> Rotation:
        """`dynamic` scaling: each row's frequencies are those of its own length."""
        original, factor = self.scaling.original, self.scaling.factor
        growth = (factor * lengths.float() / original - (factor - 1)).clamp(min=1.0)
        theta = self.theta * growth ** (self.head_dim / (self.head_dim - 2))
        frequencies = self._powers(theta.view(-1, 1, 1))
        if positions is None:
            positions = torch.arange(length, device=frequencies.device).unsqueeze(0)
        cosines, sines = self._table(positions.unsqueeze(-1).float() * frequencies)
        return Rotation(cosines.to(self.cosines).unsqueeze(2), sines.to(self.sines).unsqueeze(2))

    def _table(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines (…, D), each one twice, and sines (…, D/2) of angles (…, D/2)."""
        magnitude = self.magnitude()
        cosines = angles.cos() * magnitude
        return torch.cat((cosines, cosines), dim=-1), angles.sin() * magnitude


class _Rotate(torch.autograd.Function):
    """The turn, whose gradient is the turn back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _rotated(x, cosines, sines, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _rotated(grad, cosines, sines, -1), None, None


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor, sense: int) -> Tensor:
    half = x.size(-1) // 2
    result = x * cosines
    result[..., :half].addcmul_(x[..., half:], sines, value=-sense)
    result[..., half:].addcmul_(x[..., :half], sines, value=sense)
    return result
