from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from seqkit.modules.attention import MultiheadAttention, causal_bias, padding_mask_to_bias
from seqkit.modules.cache import MASKED


def by_hand(module: MultiheadAttention, query: Tensor, source: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax(QK'/sqrt(D))V head by head, from the definition."""
    width = module.embed_dim // module.num_heads
    heads, weights = [], []
    for head in range(module.num_heads):
        part = slice(head * width, (head + 1) * width)
        q = query @ module.q_proj.weight[part].T + module.q_proj.bias[part]
        k = source @ module.k_proj.weight[part].T + module.k_proj.bias[part]
        v = source @ module.v_proj.weight[part].T + module.v_proj.bias[part]
        scores = q @ k.transpose(1, 2) / math.sqrt(width)
        if mask is not None:
            scores = scores.masked_fill(mask, float("-inf"))
        weights.append(scores.softmax(-1))
        heads.append(weights[-1] @ v)
    result = torch.cat(heads, -1) @ module.out_proj.weight.T + module.out_proj.bias
    return result, torch.stack(weights, 1)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("kind", ["none", "causal", "padding"])
def test_equals_the_definition(kind: str, need_weights: bool) -> None:
    torch.manual_seed(0)
    module = MultiheadAttention(12, 3)
    x = torch.randn(2, 5, 12)
    padding = torch.tensor([[False] * 5, [True] * 2 + [False] * 3])
    if kind == "causal":
        expected, weights = by_hand(module, x, x, torch.ones(5, 5, dtype=torch.bool).triu(1))
        ours, our_weights = module(x, is_causal=True, need_weights=need_weights)
    elif kind == "padding":
        expected, weights = by_hand(module, x, x, padding[:, None, :])
        ours, our_weights = module(x, mask=padding_mask_to_bias(padding, x.dtype), need_weights=need_weights)
    else:
        expected, weights = by_hand(module, x, x, None)
        ours, our_weights = module(x, need_weights=need_weights)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    if need_weights:
        torch.testing.assert_close(our_weights, weights, rtol=1e-5, atol=1e-6)
    else:
        assert our_weights is None


@pytest.mark.parametrize("need_weights", [False, True])
def test_rows_share_their_sentences_source(need_weights: bool) -> None:
    torch.manual_seed(0)
    module = MultiheadAttention(8, 2, kdim=6, vdim=6)
    query, source = torch.randn(6, 4, 8), torch.randn(2, 5, 6)
    mask = padding_mask_to_bias(torch.tensor([[False] * 5, [False] * 3 + [True] * 2]), query.dtype)
    ours, weights = module(query, source, mask=mask, need_weights=need_weights)
    repeated, repeated_weights = module(
        query, source.repeat_interleave(3, 0), mask=mask.repeat_interleave(3, 0), need_weights=need_weights
    )
    torch.testing.assert_close(ours, repeated)
    if need_weights:
        torch.testing.assert_close(weights, repeated_weights)
        assert weights.shape == (6, 2, 4, 5)


def test_dropout_acts_in_training_alone_and_not_on_the_weights_returned() -> None:
    torch.manual_seed(0)
    module = MultiheadAttention(8, 2, dropout=0.5)
    x = torch.randn(2, 6, 8)
    dropped, weights = module(x, need_weights=True)
    again, _ = module(x)
    assert not torch.equal(dropped, again)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 6))
    module.eval()
    torch.testing.assert_close(module(x)[0], module(x, need_weights=True)[0])


def test_a_row_in_which_all_is_masked_stays_finite() -> None:
    x = torch.randn(1, 3, 8)
    mask = padding_mask_to_bias(torch.ones(1, 3, dtype=torch.bool), x.dtype)
    assert MultiheadAttention(8, 2)(x, mask=mask)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_what_is_masked_has_weight_zero_in_every_type(dtype: torch.dtype) -> None:
    scores = torch.tensor([10.0, -10.0, 5.0], dtype=dtype) + torch.tensor([0.0, 0.0, MASKED], dtype=dtype)
    assert scores.softmax(-1)[2] == 0
    assert causal_bias(2, dtype, torch.device("cpu")).isfinite().all()


def test_initial_weights_have_fairseqs_bounds() -> None:
    module = MultiheadAttention(64, 4)
    joint = math.sqrt(6 / (64 + 64)) / math.sqrt(2)
    for projection in (module.q_proj, module.k_proj, module.v_proj):
        assert 0.95 * joint < projection.weight.abs().max() <= joint
    assert module.out_proj.weight.abs().max() > 1.2 * joint
    assert not module.out_proj.bias.any()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width 10 cannot be shared out to 4 heads"):
        MultiheadAttention(10, 4)


def test_rows_must_be_a_multiple_of_the_sources() -> None:
    with pytest.raises(ValueError, match="3 query rows cannot be shared out to 2 sources"):
        MultiheadAttention(8, 2)(torch.randn(3, 1, 8), torch.randn(2, 5, 8))
