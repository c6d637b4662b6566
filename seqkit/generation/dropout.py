"""Dropout that stays active while decoding, for samples of a model's uncertainty (Gal and Ghahramani, 2016).

Knows nothing of search.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

from torch import nn


def dropout_owners(model: nn.Module) -> dict[str, list[nn.Dropout]]:
    """The dropout modules of a model, by the name of the class whose part they are."""
    found: dict[str, list[nn.Dropout]] = {}
    for owner in model.modules():
        for child in owner.children():
            if isinstance(child, nn.Dropout):
                found.setdefault(type(owner).__name__, []).append(child)
    return found


@contextlib.contextmanager
def evaluating(
    models: Sequence[nn.Module], *, retain_dropout: bool = False, retain_in: Collection[str] | None = None
) -> Iterator[None]:
    """All models in evaluation mode, and back again.

    Args:
        models: whose mode is changed.
        retain_dropout: dropout stays active.
        retain_in: only in modules of classes with these names; None for all.
    """
    modes = [(module, module.training) for model in models for module in model.modules()] if retain_dropout else []
    were_training = [model for model in models if model.training]
    for model in models if retain_dropout else were_training:
        model.eval()
    if retain_dropout:
        for model in models:
            for owner, modules in dropout_owners(model).items():
                for dropout in modules if retain_in is None or owner in retain_in else ():
                    dropout.train()
    try:
        yield
    finally:
        if retain_dropout:
            for module, training in modes:
                module.training = training
        else:
            for model in were_training:
                model.train()
