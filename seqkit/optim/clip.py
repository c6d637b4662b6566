"""Clipping: the norm of all gradients together, and scaling them by it.

Norms are computed in float32. Knows nothing of optimizers or precision policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def gradients(params: Iterable[Tensor]) -> list[Tensor]:
    """The gradients of those parameters that have one."""
    return [param.grad for param in params if param.grad is not None]


def gradient_norm(grads: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together: a float32 scalar on the device (0 where there are none)."""
    if not grads:
        return torch.zeros(())
    norms: list[Tensor] = []
    for device in dict.fromkeys(grad.device for grad in grads):
        held = [grad for grad in grads if grad.device == device]
        norms.extend(norm.to(grads[0].device) for norm in torch._foreach_norm(held, 2, dtype=torch.float32))
    return torch.linalg.vector_norm(torch.stack(norms))  # type: ignore[no-any-return]


def scale_gradients(grads: Sequence[Tensor], factor: float | Tensor) -> None:
    """Multiply gradients in place by a number or a scalar tensor on their device."""
    if not grads or (not isinstance(factor, Tensor) and factor == 1):
        return
    if not isinstance(factor, Tensor):
        torch._foreach_mul_(list(grads), factor)
        return
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for grad in grads:
        groups.setdefault((grad.device, grad.dtype), []).append(grad)
    for (device, _), held in groups.items():
        torch._foreach_mul_(held, factor.to(device))


def clip_factor(norm: Tensor, max_norm: float) -> Tensor:
    """What gradients of norm `norm` are multiplied by: max_norm / (norm + 1e-6), at most 1."""
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)


def scale_and_clip(grads: Sequence[Tensor], *, scale: float | Tensor = 1.0, max_norm: float = 0.0) -> Tensor:
    """Multiply gradients by `scale` and then clip them, in one pass over them.

    Args:
        grads: gradients, changed in place.
        scale: e.g. 1 / (sample size * loss scale); at least 0.
        max_norm: largest norm after scaling; 0: no clipping.

    Returns:
        the norm after scaling and before clipping, a float32 scalar on the device. Where it is not finite, the
        gradients are not finite afterwards either.
    """
    norm = gradient_norm(grads) * scale
    scale_gradients(grads, clip_factor(norm, max_norm) * scale if max_norm > 0 else scale)
    return norm
