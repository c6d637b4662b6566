"""A list of layers some of which are left out at random in training (LayerDrop, Fan et al., 2019).

Knows nothing of what the layers are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn


class LayerDropList(nn.ModuleList):
    """A `ModuleList` which, in training, yields each layer with probability 1 - p.

    Args:
        layers: the modules.
        p: probability of leaving a layer out in one pass.
    """

    def __init__(self, layers: Iterable[nn.Module], p: float = 0.0) -> None:
        super().__init__(layers)
        self.p = p

    def active(self) -> Iterator[tuple[int, nn.Module]]:
        """The layers of one forward pass, each with its place in the list."""
        dropped = torch.empty(len(self)).uniform_() <= self.p if self.training and self.p > 0 else None
        for place, layer in enumerate(self):
            if dropped is None or not dropped[place]:
                yield place, layer
