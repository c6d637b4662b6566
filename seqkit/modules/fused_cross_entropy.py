"""Cross-entropy with label smoothing in few passes over the logits, and without whole logits where that is faster.

Sees logits (or features and the projection to the vocabulary) and target indices. Knows nothing of models, batches
or logging. Axes: N positions, C channels, V vocabulary.

The loss of a position with target t (Szegedy et al., 2016, section 7, in fairseq's form) is

    (1 - e - e') * nll + e' * sum_v(-log p_v)        with nll = -log p_t and e' = e / (V - 1)

and its gradient is p_v - e' for every word v, less 1 - e - e' for t: so log-probabilities need not be kept.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CACHED_ELEMENTS = 2**22
"""Elements of a chunk on a CPU: some megabytes, which stay in its cache from one pass to the next."""
_DEVICE_ELEMENTS = 2**25
"""Elements of a chunk elsewhere: enough to keep an accelerator busy, little enough to bound its memory."""
_UNLIKELY = 1e-30
"""Below this, a probability in float32 may have lost digits."""
_KEEPS_NO_OUTPUT = {"MmBackward0", "AddmmBackward0", "IndexBackward0", "IndexSelectBackward0"}
_VIEWS = {"UnsafeViewBackward0", "ViewBackward0"}


def fused_cross_entropy(
    *,
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    label_smoothing: float = 0.0,
    reduce: bool = True,
    overwrite_logits: bool = False,
) -> tuple[Tensor, Tensor]:
    """Loss and negative log-likelihood from logits of any precision; computed in float32 (or float64).

    Args:
        logits: (..., V).
        target: (...) int64.
        ignore_index: positions with this target count nothing.
        label_smoothing: probability mass e spread over the other V - 1 words.
        reduce: sum over positions; otherwise one value for each, flattened to (N,).
        overwrite_logits: let backward write the gradient into the memory of `logits`, which nobody may read then.
            It is not done where the operation that made the logits needs them itself.

    Returns:
        loss and nll in nats; nll cannot be differentiated.
    """
    vocabulary = logits.size(-1)
    overwrite = overwrite_logits and _may_overwrite(logits)
    loss, nll = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits.reshape(-1, vocabulary), target.reshape(-1), ignore_index, label_smoothing, overwrite
    )
    return (loss.sum(), nll.sum()) if reduce else (loss, nll)


def fused_linear_cross_entropy(
    *,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    target: Tensor,
    ignore_index: int,
    label_smoothing: float = 0.0,
    chunk_rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`fused_cross_entropy` of `features @ weight.T + bias`, a few rows at a time: whole logits never exist.

    Positions that are ignored are left out of the matrix products. The gradients are computed along with the loss.

    Args:
        features: (..., C), float32 or float64.
        weight: (V, C) of the same precision.
        bias: (V,), or none.
        target: (...) int64.
        ignore_index: positions with this target count nothing.
        label_smoothing: probability mass e spread over the other V - 1 words.
        chunk_rows: positions taken at a time; default: what stays in the cache.

    Returns:
        summed loss and summed nll in nats; nll cannot be differentiated.
    """
    flat_features = features.reshape(-1, features.size(-1))
    flat_target = target.reshape(-1)
    scored = flat_target.ne(ignore_index)
    if not bool(scored.all()):
        rows = scored.nonzero().squeeze(1)
        flat_features, flat_target = flat_features.index_select(0, rows), flat_target.index_select(0, rows)
    inputs = (flat_features, weight) if bias is None else (flat_features, weight, bias)
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    rows_at_once = chunk_rows or _chunk_rows(weight.size(0), weight.device)
    loss, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        flat_features, weight, bias, flat_target, label_smoothing, rows_at_once, wanted
    )
    return loss, nll


def _chunk_rows(vocabulary: int, device: torch.device) -> int:
    elements = _CACHED_ELEMENTS if device.type == "cpu" else _DEVICE_ELEMENTS
    return max(64, elements // max(1, vocabulary))


def _may_overwrite(logits: Tensor) -> bool:
    """Whether these logits come from an operation that does not look at them again in its backward pass."""
    function = logits.grad_fn
    while function is not None and function.name() in _VIEWS:
        function = function.next_functions[0][0]
    return function is not None and function.name() in _KEEPS_NO_OUTPUT and logits.is_contiguous()


def _smoothing(label_smoothing: float, vocabulary: int) -> tuple[float, float]:
    """Weight of the target's log-probability and of each word's."""
    each = label_smoothing / (vocabulary - 1) if label_smoothing else 0.0
    return 1.0 - label_smoothing - each, each


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class _CrossEntropy(torch.autograd.Function):
    """Keeps the logits and each row's log-partition; the gradient is made in backward, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, logits_NV: Tensor, target_N: Tensor, ignore_index: int, label_smoothing: float, overwrite: bool
    ) -> tuple[Tensor, Tensor]:
        rows, vocabulary = logits_NV.shape
        dtype = _precise(logits_NV.dtype)
        on_target, on_each = _smoothing(label_smoothing, vocabulary)
        ignored_N = target_N.eq(ignore_index)
        # An ignore_index outside the vocabulary must not be used as an index.
        column_N1 = target_N.masked_fill(ignored_N, 0).unsqueeze(1)
        loss_N = torch.empty(rows, dtype=dtype, device=logits_NV.device)
        nll_N, partition_N = torch.empty_like(loss_N), torch.empty_like(loss_N)
        step = _chunk_rows(vocabulary, logits_NV.device)
        for start in range(0, rows, step):
            chunk = slice(start, start + step)
            logp_RV = torch.log_softmax(logits_NV[chunk], -1, dtype=dtype)
            target_logp = logp_RV.gather(1, column_N1[chunk]).squeeze(1)
            nll_N[chunk] = -target_logp
            loss_N[chunk] = -on_target * target_logp
            if on_each:
                loss_N[chunk] -= on_each * logp_RV.sum(-1)
            # From each row's likeliest word, whose log-probability has the smallest rounding error.
            partition_N[chunk] = logits_NV[chunk].amax(-1).to(dtype) - logp_RV.amax(-1)
        loss_N.masked_fill_(ignored_N, 0.0)
        nll_N.masked_fill_(ignored_N, 0.0)
        ctx.save_for_backward(logits_NV, partition_N, column_N1, ignored_N)
        ctx.on_target, ctx.on_each, ctx.overwrite = on_target, on_each, overwrite
        ctx.mark_non_differentiable(nll_N)
        return loss_N, nll_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss_N: Tensor, _grad_nll: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits_NV, partition_N, column_N1, ignored_N = ctx.saved_tensors
        rows, vocabulary = logits_NV.shape
        dtype = partition_N.dtype
        factor_N1 = grad_loss_N.to(dtype).masked_fill(ignored_N, 0.0).unsqueeze(1)
        grad_NV = logits_NV.detach() if ctx.overwrite else torch.empty_like(logits_NV)
        step = _chunk_rows(vocabulary, logits_NV.device)
        for start in range(0, rows, step):
            chunk = slice(start, start + step)
            target_R1 = column_N1[chunk]
            in_place = grad_NV.dtype == dtype
            grad_RV = torch.sub(
                logits_NV[chunk], partition_N[chunk].unsqueeze(1), **({"out": grad_NV[chunk]} if in_place else {})
            ).exp_()
            if ctx.on_each:
                grad_RV.sub_(ctx.on_each)
            grad_RV.scatter_add_(1, target_R1, grad_RV.new_full((), -ctx.on_target).expand_as(target_R1))
            grad_RV.mul_(factor_N1[chunk])
            if not in_place:
                grad_NV[chunk] = grad_RV
        # A row that is ignored may hold infinities, of which 0 times is not 0.
        grad_NV.masked_fill_(ignored_N.unsqueeze(1), 0.0)
        return grad_NV, None, None, None, None


class _LinearCrossEntropy(torch.autograd.Function):
    """Projects, scores and differentiates one chunk of rows while it is in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        features_NC: Tensor,
        weight_VC: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        label_smoothing: float,
        chunk_rows: int,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        rows, vocabulary = len(features_NC), len(weight_VC)
        on_target, on_each = _smoothing(label_smoothing, vocabulary)
        buffer = features_NC.new_empty(min(rows, chunk_rows), vocabulary)
        nll_N, target_logit_N = features_NC.new_empty(rows), features_NC.new_empty(rows)
        grad_features = torch.empty_like(features_NC) if wanted else None
        grad_weight = torch.zeros_like(weight_VC) if wanted else None
        grad_bias = torch.zeros_like(bias_V) if wanted and bias_V is not None else None
        for start in range(0, rows, chunk_rows):
            chunk = slice(start, start + chunk_rows)
            features_RC = features_NC[chunk]
            target_R1 = target_N[chunk].unsqueeze(1)
            chunk_RV = buffer[: len(features_RC)]
            if bias_V is None:
                torch.mm(features_RC, weight_VC.t(), out=chunk_RV)
            else:
                torch.addmm(bias_V, features_RC, weight_VC.t(), out=chunk_RV)
            target_logit_N[chunk] = chunk_RV.gather(1, target_R1).squeeze(1)
            torch.softmax(chunk_RV, -1, out=chunk_RV)
            target_prob = chunk_RV.gather(1, target_R1).squeeze(1)
            nll_N[chunk] = -target_prob.log()
            unlikely = (target_prob < _UNLIKELY).nonzero().squeeze(1)
            if len(unlikely):
                # Too small for its logarithm to be exact; the likeliest word's probability is at least 1/V.
                prob, likeliest = chunk_RV[unlikely].max(-1)
                logit = (features_RC[unlikely] * weight_VC[likeliest]).sum(-1)
                if bias_V is not None:
                    logit = logit + bias_V[likeliest]
                nll_N[start + unlikely] = logit - target_logit_N[start + unlikely] - prob.log()
            if grad_features is None or grad_weight is None:
                continue
            chunk_RV.scatter_add_(1, target_R1, chunk_RV.new_full((), -on_target).expand_as(target_R1))
            torch.mm(chunk_RV, weight_VC, out=grad_features[chunk])
            grad_weight.addmm_(chunk_RV.t(), features_RC)
            if grad_bias is not None:
                grad_bias += chunk_RV.sum(0)
        nll = nll_N.sum()
        loss = on_target * nll
        if on_each:
            # What every word has alike is not added to each logit's gradient, but to the products with them.
            weight_sum_C, features_sum_C = weight_VC.sum(0), features_NC.sum(0)
            logit_sum = features_sum_C @ weight_sum_C
            if bias_V is not None:
                logit_sum = logit_sum + rows * bias_V.sum()
            loss = loss + on_each * (vocabulary * (nll + target_logit_N.sum()) - logit_sum)
            if grad_features is not None and grad_weight is not None:
                grad_features.sub_(weight_sum_C, alpha=on_each)
                grad_weight.sub_(features_sum_C, alpha=on_each)
            if grad_bias is not None:
                grad_bias.sub_(rows * on_each)
        ctx.save_for_backward(grad_features, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, _grad_nll: Tensor) -> tuple[Any, ...]:
        grads = ctx.saved_tensors
        if grad_loss.device.type != "cpu" or grad_loss.item() != 1.0:
            grads = [None if grad is None else grad * grad_loss for grad in grads]
        return (*grads, None, None, None, None)
