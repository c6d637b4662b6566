"""Exponential moving average of a model's weights (Polyak and Juditsky, 1992).

    average <- decay * average + (1 - decay) * weight

Sees named tensors. Knows nothing of optimizers or checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqkit.config.sections import EMAConfig
from seqkit.errors import CheckpointError


class ExponentialMovingAverage:
    """Keeps the average of a model's weights, on the model's device.

    Before `ema_start_update` it is a plain copy. Weights that the model has under several names are averaged once;
    buffers and integers are copied.

    Args:
        model: the model whose weights are averaged; the average starts from them.
        config: the section `ema`.
    """

    def __init__(self, model: nn.Module, config: EMAConfig) -> None:
        self.config = config
        self.decay = 0.0 if config.ema_start_update > 0 else config.ema_decay
        self._model = model
        self._averages: dict[str, Tensor] = {}
        self._waiting = 0
        self.take({})

    @torch.no_grad()
    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Set the average to `weights`; what they lack is taken from the model.

        Raises:
            CheckpointError: a shape is not the model's.
        """
        self._averages = {}
        for name, tensor in self._distinct():
            source = weights.get(name, tensor)
            if source.shape != tensor.shape:
                raise CheckpointError(
                    f"the averaged weight {name} is {list(source.shape)}, the model's is {list(tensor.shape)}; "
                    "the average is of another model or vocabulary"
                )
            dtype = torch.float32 if self.config.ema_fp32 and tensor.is_floating_point() else tensor.dtype
            self._averages[name] = source.detach().to(device=tensor.device, dtype=dtype, copy=True)

    def seed(self, weights: Mapping[str, Tensor], where: str) -> None:
        """Begin anew from another model's weights (`ema_seed_model`).

        Args:
            where: the checkpoint's name, for messages.

        Raises:
            CheckpointError: the model has parameters that the weights lack, or of other shapes.
        """
        missing = [name for name, _ in self._model.named_parameters() if name not in weights]
        if missing:
            shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
            raise CheckpointError(
                f"ema.ema_seed_model={where} lacks {len(missing)} of the model's parameters ({shown}); give a "
                "checkpoint of the same architecture"
            )
        self.take(weights)

    @torch.no_grad()
    def step(self, num_updates: int) -> None:
        """Average in the model's weights after update `num_updates`."""
        self.decay = 0.0 if num_updates < self.config.ema_start_update else self.config.ema_decay
        self._waiting += 1
        if self._waiting < self.config.ema_update_freq:
            return
        self._waiting = 0
        trained = {name for name, _ in self._model.named_parameters()}
        groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for name, tensor in self._distinct():
            average = self._averages[name]
            if name in trained and tensor.is_floating_point():
                averages, weights = groups.setdefault(average.dtype, ([], []))
                averages.append(average)
                weights.append(tensor.to(average.dtype))
            else:
                average.copy_(tensor)
        for averages, weights in groups.values():
            if averages[0].is_cuda:
                torch._foreach_mul_(averages, self.decay)
                torch._foreach_add_(averages, weights, alpha=1 - self.decay)
                continue
            # On a CPU there is nothing to win, and half precision is rounded once more on that way.
            for average, weight in zip(averages, weights, strict=True):
                average.mul_(self.decay).add_(weight, alpha=1 - self.decay)

    def weights(self, *, full_precision: bool = False) -> dict[str, Tensor]:
        """The averaged weights under all of the model's names.

        Args:
            full_precision: as they are kept (float32 with `ema_fp32`), not in the model's precision.
        """
        name_of = {id(tensor): name for name, tensor in self._distinct()}
        result: dict[str, Tensor] = {}
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            average = self._averages[name_of[id(tensor)]]
            result[name] = average if full_precision else average.to(tensor.dtype)
        return result

    @property
    def waiting(self) -> int:
        """Updates since the average was last moved, where `ema_update_freq` is above 1."""
        return self._waiting

    @waiting.setter
    def waiting(self, updates: int) -> None:
        self._waiting = updates

    def _distinct(self) -> list[tuple[str, Tensor]]:
        """The model's state, each tensor once, under its first name."""
        seen: set[int] = set()
        found = []
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                found.append((name, tensor))
        return found
