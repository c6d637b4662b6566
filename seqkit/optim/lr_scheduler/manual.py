"""Rates given by hand for epochs and updates.

Knows nothing of losses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from seqkit.config.base import Config, option
from seqkit.errors import ConfigError
from seqkit.optim.lr_scheduler._rates import some_rates
from seqkit.optim.lr_scheduler.base import LRScheduler, register_lr_scheduler


@dataclass
class ManualConfig(Config):
    """Options of `Manual`."""

    epoch2lr: dict[str, float] = option(
        {}, "rates by epoch: {'1': 0.3, '3-5': 0.1, '7,9': 0.02}; each lasts to the next"
    )
    update2lr: dict[str, float] = option({}, "rates by number of updates done, written alike")
    lr: list[float] = option([0.25], "rate where none is given by hand", follows="optimization.lr")


@register_lr_scheduler("manual", config=ManualConfig)
class Manual(LRScheduler):
    """The rate given for the last epoch or update named so far; before the first one named, the rate stays.

    Raises:
        ConfigError: a key is not a number, a range (`3-5`) or a list (`7,9`).
    """

    def __init__(self, config: ManualConfig, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(config, optimizer)
        self.by_epoch = _expand(config.epoch2lr, "epoch2lr")
        self.by_update = _expand(config.update2lr, "update2lr")
        self.base = self.by_epoch.get(1, self.by_update.get(1, some_rates(config.lr)[0]))
        self.lr = self.base

    def step_begin_epoch(self, epoch: int) -> float:
        self.base = self._take(self.by_epoch, epoch)
        return self.base

    def step_update(self, num_updates: int) -> float:
        return self._take(self.by_update, num_updates)

    def state_dict(self) -> dict[str, Any]:
        return {"lr": self.base}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.base = state.get("lr", self.base)

    def _take(self, table: dict[int, float], now: int) -> float:
        named = [key for key in table if key <= now]
        if named:
            self.lr = table[max(named)]
        return self.lr


def _expand(table: dict[str, float], name: str) -> dict[int, float]:
    expanded: dict[int, float] = {}
    for key, rate in table.items():
        text = str(key).replace(" ", "")
        try:
            if "," in text:
                numbers = [int(part) for part in text.split(",")]
            elif "-" in text:
                first, last = text.split("-")
                numbers = list(range(int(first), int(last) + 1))
            else:
                numbers = [int(text)]
        except ValueError:
            raise ConfigError(
                f"lr_scheduler.{name} has the key {key!r}; a key is a number, a range (3-5) or a list (7,9)"
            ) from None
        expanded.update(dict.fromkeys(numbers, float(rate)))
    return expanded
