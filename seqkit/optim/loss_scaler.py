"""Dynamic loss scale for float16 training (Micikevicius et al., 2018).

Sees the norm of the gradients. Knows nothing of models, or of how parameters are kept.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from seqkit.errors import SeqkitError


class MinimumLossScaleError(SeqkitError, FloatingPointError):
    """Gradients overflow even at the smallest loss scale."""


class DynamicLossScaler:
    """A factor on the loss that keeps small float16 gradients from vanishing: halved on overflow, doubled later.

    Args:
        init_scale: the scale to begin with.
        scale_factor: what it is multiplied or divided by.
        scale_window: updates without overflow after which it rises.
        tolerance: share of updates since the last change that may overflow before it falls; 0: none.
        threshold: it never falls below this; `None`: no such bound.
        min_loss_scale: training is given up when it would fall to this.
    """

    def __init__(
        self,
        init_scale: float = 2.0**15,
        scale_factor: float = 2.0,
        scale_window: int = 2000,
        tolerance: float = 0.0,
        threshold: float | None = None,
        min_loss_scale: float = 1e-4,
    ) -> None:
        self.loss_scale = float(init_scale)
        self.scale_factor = scale_factor
        self.scale_window = scale_window
        self.tolerance = tolerance
        self.threshold = threshold
        self.min_loss_scale = min_loss_scale
        self._updates = 0
        self._last_overflow = -1
        self._last_change = -1
        self._overflows = 0

    def scale(self, loss: Tensor) -> Tensor:
        """The loss times the scale, to be differentiated."""
        return loss * self.loss_scale

    def update(self) -> None:
        """An update was done without overflow."""
        if (self._updates - self._last_overflow) % self.scale_window == 0:
            self.loss_scale *= self.scale_factor
            self._last_change = self._updates
        self._updates += 1

    def check_overflow(self, grad_norm: float) -> None:
        """Lower the scale if the gradients are not finite.

        Args:
            grad_norm: the gradients' norm, scaled or not.

        Raises:
            OverflowError: they are not finite: leave this update out and go on.
            MinimumLossScaleError: (also a `FloatingPointError`) the scale cannot fall any further.
        """
        if math.isfinite(grad_norm):
            return
        before = self.loss_scale
        # At least 1: an overflow right after a change would otherwise divide by zero.
        since_change = max(1, self._updates - self._last_change)
        self._last_overflow = self._updates
        self._overflows += 1
        if self._overflows / since_change >= self.tolerance:
            self.loss_scale /= self.scale_factor
            if self.threshold is not None:
                self.loss_scale = max(self.loss_scale, self.threshold)
            self._last_change = self._updates
            self._overflows = 0
        if self.loss_scale <= self.min_loss_scale:
            self.loss_scale = before
            raise MinimumLossScaleError(
                f"minimum loss scale reached: float16 gradients overflow even at a loss scale of {before:g}, and half "
                f"of it is not above common.min_loss_scale={self.min_loss_scale:g}. Training has probably diverged. "
                "Lower the learning rate, set optimization.clip_norm, give the schedule a longer warm-up, raise "
                "optimization.update_freq, or use common.bf16, which needs no loss scale"
            )
        self._updates += 1
        raise OverflowError(f"gradients overflowed; the loss scale is now {self.loss_scale:g}")

    def state_dict(self) -> dict[str, Any]:
        """The scale and the counters that decide when it changes."""
        return {
            "loss_scale": self.loss_scale,
            "updates": self._updates,
            "last_overflow": self._last_overflow,
            "last_change": self._last_change,
            "overflows": self._overflows,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned. (fairseq keeps the scale alone: counting then begins anew.)"""
        self.loss_scale = float(state["loss_scale"])
        self._updates = state.get("updates", 0)
        self._last_overflow = state.get("last_overflow", -1)
        self._last_change = state.get("last_change", -1)
        self._overflows = state.get("overflows", 0)
