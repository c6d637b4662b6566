import pytest
import torch
from torch import nn

from seqkit.optim.clip import clip_factor, gradient_norm, gradients, scale_and_clip, scale_gradients


def some():
    return [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]


def test_norm_of_all_together():
    assert gradient_norm(some()).item() == 5.0
    assert gradient_norm([]).item() == 0.0


def test_norm_of_half_precision_does_not_overflow():
    norm = gradient_norm([torch.full((4,), 60000.0, dtype=torch.float16)])
    assert norm.dtype == torch.float32
    assert norm.item() == 120000.0


def test_gradients_are_those_there_are():
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    params[1].grad = torch.ones(2)
    assert [grad.tolist() for grad in gradients(params)] == [[1.0, 1.0]]


@pytest.mark.parametrize("scale", [0.5, torch.tensor(0.5)])
def test_scaled_then_clipped(scale):
    grads = some()
    norm = scale_and_clip(grads, scale=scale, max_norm=1.0)
    assert norm.item() == 2.5, "the norm is that after scaling and before clipping"
    expected = 0.5 / (2.5 + 1e-6)
    torch.testing.assert_close(grads, [grad * expected for grad in some()])


def test_small_gradients_are_not_enlarged():
    grads = some()
    assert scale_and_clip(grads, max_norm=10.0).item() == 5.0
    torch.testing.assert_close(grads, some())
    assert clip_factor(torch.tensor(0.0), 1.0).item() == 1.0


def test_no_clipping_without_bound():
    grads = some()
    scale_and_clip(grads, scale=2.0)
    torch.testing.assert_close(grads, [grad * 2 for grad in some()])


def test_mixed_precision_gradients():
    grads = [torch.ones(2), torch.ones(2, dtype=torch.bfloat16)]
    scale_gradients(grads, torch.tensor(0.5))
    assert [grad.dtype for grad in grads] == [torch.float32, torch.bfloat16]
    assert all(grad.tolist() == [0.5, 0.5] for grad in grads)
    assert gradient_norm(grads).item() == pytest.approx(1.0, rel=1e-6)


def test_what_is_not_finite_stays_so():
    grads = [torch.tensor([float("inf"), 1.0])]
    assert not scale_and_clip(grads, max_norm=1.0).isfinite()
    assert not torch.isfinite(grads[0]).all()
