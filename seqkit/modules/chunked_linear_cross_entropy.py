"""Cross-entropy of features and a projection, some positions at a time, in any precision and on any device.

Whole logits, which with a vocabulary of 128,000 words take more memory than the rest of a model, never exist. Sees
features, the projection's weights and target indices. Knows nothing of models, batches or logging.
Axes: N positions, R positions of a chunk, C channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqkit.modules.fused_cross_entropy import fused_linear_cross_entropy


def chunked_linear_cross_entropy(
    *,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    target: Tensor,
    ignore_index: int,
    label_smoothing: float = 0.0,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """`seqkit.modules.fused_cross_entropy.fused_cross_entropy` of `features @ weight.T + bias`, summed.

    Beside the gradients of its inputs it takes memory for `chunk_size` rows of logits. The gradients are computed along
    with the loss. In half precision, and under autocast, the matrix products are in that precision (those of float16
    gradients, which it could not hold, in float32), and the softmax is in float32.

    Args:
        features: (..., C).
        weight: (V, C).
        bias: (V,), or none.
        target: (...) int64.
        ignore_index: positions with this target count nothing.
        label_smoothing: probability mass e spread over the other V - 1 words.
        chunk_size: positions taken at a time, R.

    Returns:
        summed loss and summed nll in nats; nll cannot be differentiated.
    """
    precision = _matrix_precision(features, weight)
    if precision in (torch.float32, torch.float64) and features.dtype == weight.dtype == precision:
        return fused_linear_cross_entropy(
            features=features,
            weight=weight,
            bias=bias,
            target=target,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            chunk_rows=chunk_size,
        )
    flat_features, flat_target = _scored(features, target, ignore_index)
    inputs = [tensor for tensor in (flat_features, weight, bias) if tensor is not None]
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    loss, nll = _ChunkedLinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        flat_features, weight, bias, flat_target, label_smoothing, chunk_size, precision, wanted
    )
    return loss, nll


@torch.no_grad()
def count_correct(
    *,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    target: Tensor,
    ignore_index: int,
    chunk_size: int,
) -> tuple[Tensor, Tensor]:
    """How many targets are the likeliest word, and how many there are; the arguments are as above."""
    flat_features, flat_target = _scored(features, target, ignore_index)
    correct = torch.zeros((), dtype=torch.int64, device=features.device)
    for start in range(0, len(flat_target), chunk_size):
        chunk = slice(start, start + chunk_size)
        best = torch.nn.functional.linear(flat_features[chunk], weight, bias).argmax(-1)
        correct += (best == flat_target[chunk]).sum()
    return correct, torch.tensor(len(flat_target), device=features.device)


def _scored(features: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Features (N, C) and targets (N,) of the positions that count."""
    flat = target.reshape(-1)
    rows = flat.ne(ignore_index).nonzero().squeeze(1)
    return features.reshape(-1, features.size(-1)).index_select(0, rows), flat.index_select(0, rows)


def _matrix_precision(features: Tensor, weight: Tensor) -> torch.dtype:
    device = features.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return torch.promote_types(features.dtype, weight.dtype)


class _ChunkedLinearCrossEntropy(torch.autograd.Function):
    """Half precision in the products, float32 in the softmax and in what is summed over chunks."""

    @staticmethod
    def forward(
        ctx: Any,
        features_NC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        label_smoothing: float,
        chunk_size: int,
        precision: torch.dtype,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        device = features_NC.device
        ctx.dtypes = (features_NC.dtype, weight_VC.dtype, None if bias_V is None else bias_V.dtype)
        vocabulary = len(weight_VC)
        on_each = label_smoothing / (vocabulary - 1) if label_smoothing else 0.0
        on_target = 1.0 - label_smoothing - on_each
        backward_precision = torch.float32 if precision == torch.float16 else precision
        loss = torch.zeros((), device=device)
        nll = torch.zeros((), device=device)
        grad_features = torch.empty_like(features_NC, dtype=torch.float32) if wanted else None
        grad_weight = torch.zeros_like(weight_VC, dtype=torch.float32) if wanted else None
        grad_bias = torch.zeros_like(bias_V, dtype=torch.float32) if wanted and bias_V is not None else None
        with torch.autocast(device.type, enabled=False):
            weight = weight_VC.to(precision)
            for start in range(0, len(features_NC), chunk_size):
                chunk = slice(start, start + chunk_size)
                features_RC = features_NC[chunk].to(precision)
                target_R1 = target_N[chunk].unsqueeze(1)
                logits_RV = torch.mm(features_RC, weight.t()).float()
                if bias_V is not None:
                    logits_RV += bias_V
                partition_R1 = logits_RV.logsumexp(-1, keepdim=True)
                chunk_nll = (partition_R1 - logits_RV.gather(1, target_R1)).sum()
                nll += chunk_nll
                loss += on_target * chunk_nll
                if on_each:
                    loss += on_each * (vocabulary * partition_R1.sum() - logits_RV.sum())
                if grad_features is None or grad_weight is None:
                    continue
                grad_RV = logits_RV.sub_(partition_R1).exp_()
                if on_each:
                    grad_RV.sub_(on_each)
                grad_RV.scatter_add_(1, target_R1, grad_RV.new_full((), -on_target).expand_as(target_R1))
                if grad_bias is not None:
                    grad_bias += grad_RV.sum(0)
                grad_RV = grad_RV.to(backward_precision)
                grad_features[chunk] = torch.mm(grad_RV, weight.to(backward_precision))
                grad_weight += torch.mm(grad_RV.t(), features_RC.to(backward_precision))
        ctx.save_for_backward(grad_features, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _grad_nll: Tensor) -> tuple[Any, ...]:
        # Scaled in float32, before a loss scale could be needed in vain.
        grads = [
            None if grad is None else (grad * grad_loss).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*grads, None, None, None, None, None)
