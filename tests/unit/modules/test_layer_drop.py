from __future__ import annotations

import torch
from torch import nn

from seqkit.modules.layer_drop import LayerDropList


def test_all_layers_in_evaluation_and_without_dropping() -> None:
    dropping = LayerDropList([nn.Identity() for _ in range(4)], p=0.9).eval()
    assert [place for place, _ in dropping.active()] == [0, 1, 2, 3]
    assert len(list(LayerDropList([nn.Identity() for _ in range(4)]).active())) == 4


def test_layers_are_dropped_in_training_with_probability_p() -> None:
    torch.manual_seed(0)
    layers = LayerDropList([nn.Identity() for _ in range(10)], p=0.3)
    kept = [[place for place, _ in layers.active()] for _ in range(200)]
    share = sum(len(places) for places in kept) / 2000
    assert 0.66 < share < 0.74
    assert len({tuple(places) for places in kept}) > 50
    assert all(places == sorted(places) for places in kept)
