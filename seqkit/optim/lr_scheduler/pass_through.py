"""No schedule: every group of parameters keeps the rate that its optimizer was made with.

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass

from seqkit.config.base import Config
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class PassThroughConfig(Config):
    """`PassThrough` has no options."""


@register_lr_scheduler("pass_through", config=PassThroughConfig)
class PassThrough(LRScheduler):
    """Leaves the learning rates to the optimizer, for optimizers that set their own."""
