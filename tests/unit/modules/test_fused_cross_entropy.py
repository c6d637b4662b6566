import pytest
import torch
import torch.nn.functional as F

from seqkit.modules import fused_cross_entropy as module
from seqkit.modules.fused_cross_entropy import fused_cross_entropy, fused_linear_cross_entropy

PAD = 1


def problem(rows=13, vocabulary=11, channels=6, dtype=torch.float64, padded=True):
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(rows, channels, generator=generator, dtype=dtype)
    weight = torch.randn(vocabulary, channels, generator=generator, dtype=dtype)
    bias = torch.randn(vocabulary, generator=generator, dtype=dtype)
    target = torch.randint(2, vocabulary, (rows,), generator=generator)
    if padded:
        target[::4] = PAD
    return features, weight, bias, target


def by_definition(logits, target, smoothing):
    logp = F.log_softmax(logits, -1)
    scored = target.ne(PAD)
    nll = -logp.gather(1, target.unsqueeze(1)).squeeze(1) * scored
    each = smoothing / (logits.size(1) - 1)
    return (1 - smoothing - each) * nll - each * logp.sum(-1) * scored, nll


@pytest.fixture(params=[1, 5, 10**6], ids=lambda rows: f"chunks of {rows}")
def chunks(request, monkeypatch):
    monkeypatch.setattr(module, "_chunk_rows", lambda *_: request.param)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.usefixtures("chunks")
def test_equals_the_definition(smoothing):
    features, weight, _, target = problem()
    logits = (features @ weight.t()).requires_grad_()
    expected, expected_nll = by_definition(logits, target, smoothing)
    (expected_grad,) = torch.autograd.grad(expected.sum(), logits)
    loss, nll = fused_cross_entropy(logits=logits, target=target, ignore_index=PAD, label_smoothing=smoothing)
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(loss, expected.sum())
    torch.testing.assert_close(nll, expected_nll.sum())
    torch.testing.assert_close(grad, expected_grad)
    assert not nll.requires_grad


@pytest.mark.usefixtures("chunks")
def test_each_position_has_its_own_gradient():
    features, weight, _, target = problem()
    logits = (features @ weight.t()).requires_grad_()
    expected, expected_nll = by_definition(logits, target, 0.2)
    factors = torch.linspace(-1, 2, len(target), dtype=torch.float64)
    (expected_grad,) = torch.autograd.grad((expected * factors).sum(), logits)
    loss, nll = fused_cross_entropy(
        logits=logits.view(1, *logits.shape),
        target=target.view(1, -1),
        ignore_index=PAD,
        label_smoothing=0.2,
        reduce=False,
    )
    (grad,) = torch.autograd.grad((loss * factors).sum(), logits)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, expected_nll)
    torch.testing.assert_close(grad, expected_grad)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("chunk_rows", [1, 4, 100])
@pytest.mark.parametrize("padded", [False, True])
def test_linear_equals_plain_path(smoothing, with_bias, chunk_rows, padded):
    features, weight, bias, target = problem(padded=padded)
    inputs = [tensor.clone().requires_grad_() for tensor in (features, weight, bias)][: 3 if with_bias else 2]
    logits = F.linear(*inputs)
    expected, expected_nll = fused_cross_entropy(
        logits=logits, target=target, ignore_index=PAD, label_smoothing=smoothing
    )
    expected_grads = torch.autograd.grad(expected * 3, inputs)
    loss, nll = fused_linear_cross_entropy(
        features=inputs[0],
        weight=inputs[1],
        bias=inputs[2] if with_bias else None,
        target=target,
        ignore_index=PAD,
        label_smoothing=smoothing,
        chunk_rows=chunk_rows,
    )
    grads = torch.autograd.grad(loss * 3, inputs)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, expected_nll)
    for grad, right in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, right)


def test_linear_in_float32_is_within_a_millionth():
    features, weight, _, target = problem(rows=300, vocabulary=500, channels=32, dtype=torch.float32)
    exact = [tensor.double().requires_grad_() for tensor in (features, weight)]
    expected, _ = by_definition(F.linear(*exact), target, 0.1)
    expected_grads = torch.autograd.grad(expected.sum(), exact)
    inputs = [tensor.requires_grad_() for tensor in (features, weight)]
    loss, _ = fused_linear_cross_entropy(
        features=inputs[0], weight=inputs[1], target=target, ignore_index=PAD, label_smoothing=0.1
    )
    torch.testing.assert_close(loss.double(), expected.sum(), rtol=1e-6, atol=0)
    for grad, right in zip(torch.autograd.grad(loss, inputs), expected_grads, strict=True):
        assert float((grad - right).norm() / right.norm()) < 1e-6


@pytest.mark.parametrize("path", ["logits", "linear"])
def test_only_padding(path):
    features, weight, _, target = problem()
    target.fill_(PAD)
    features.requires_grad_()
    if path == "logits":
        loss, nll = fused_cross_entropy(logits=F.linear(features, weight), target=target, ignore_index=PAD)
    else:
        loss, nll = fused_linear_cross_entropy(features=features, weight=weight, target=target, ignore_index=PAD)
    assert loss.item() == nll.item() == 0
    loss.backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_extreme_logits_and_masked_words():
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, float("-inf"), 3.0], [float("-inf")] * 3]).requires_grad_()
    target = torch.tensor([1, 2, 0])
    loss, nll = fused_cross_entropy(logits=logits, target=target, ignore_index=0, reduce=False)
    torch.testing.assert_close(nll, torch.tensor([2e4, 0.048587, 0.0]))
    loss.sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[2].tolist() == [0.0, 0.0, 0.0]
    weight = torch.tensor([[1e4], [-1e4], [0.0]])
    loss, _ = fused_linear_cross_entropy(
        features=torch.ones(1, 1), weight=weight, target=torch.tensor([1]), ignore_index=0
    )
    assert loss.item() == 2e4


def test_ignore_index_outside_the_vocabulary():
    logits = torch.randn(3, 5, requires_grad=True)
    target = torch.tensor([2, -100, 4])
    loss, _ = fused_cross_entropy(logits=logits, target=target, ignore_index=-100)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, ignore_index=-100, reduction="sum"))
    loss.backward()
    assert torch.equal(logits.grad[1], torch.zeros(5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("overwrite", [False, True])
def test_half_precision_logits_are_scored_in_float32(dtype, overwrite):
    features, weight, _, target = problem(dtype=torch.float32)
    features = features.to(dtype).requires_grad_()
    logits = F.linear(features, weight.to(dtype))
    logits.retain_grad()
    exact = logits.detach().float().requires_grad_()
    expected, _ = by_definition(exact, target, 0.1)
    scale = 1024.0
    (expected_grad,) = torch.autograd.grad(expected.sum() * scale, exact)
    loss, nll = fused_cross_entropy(
        logits=logits, target=target, ignore_index=PAD, label_smoothing=0.1, overwrite_logits=overwrite
    )
    assert loss.dtype == nll.dtype == torch.float32
    torch.testing.assert_close(loss, expected.sum())
    (loss * scale).backward()
    assert logits.grad.dtype == dtype
    torch.testing.assert_close(logits.grad.float(), expected_grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("shape", [(13,), (1, 13)])
def test_gradient_is_written_over_the_logits(shape):
    features, weight, _, target = problem()
    features = features.view(*shape, -1).requires_grad_()
    target = target.view(shape)
    grads = []
    for overwrite in (False, True):
        logits = F.linear(features, weight)
        before = logits.detach().clone()
        loss, _ = fused_cross_entropy(logits=logits, target=target, ignore_index=PAD, overwrite_logits=overwrite)
        assert torch.equal(logits.detach(), before), "nothing is written before backward"
        (grad,) = torch.autograd.grad(loss, features)
        assert torch.equal(logits.detach(), before) is not overwrite
        grads.append(grad)
    assert torch.equal(*grads)


def test_logits_that_are_still_needed_are_not_overwritten():
    features, weight, _, target = problem()
    features.requires_grad_()
    capped = torch.tanh(F.linear(features, weight))
    before = capped.detach().clone()
    fused_cross_entropy(logits=capped, target=target, ignore_index=PAD, overwrite_logits=True)[0].backward()
    assert torch.equal(capped.detach(), before)
    leaf = F.linear(features, weight).detach().requires_grad_()
    before = leaf.detach().clone()
    fused_cross_entropy(logits=leaf, target=target, ignore_index=PAD, overwrite_logits=True)[0].backward()
    assert torch.equal(leaf.detach(), before)


@pytest.mark.parametrize("path", ["logits", "linear"])
def test_without_gradients(path):
    features, weight, _, target = problem()
    weight.requires_grad_()
    with torch.no_grad():
        if path == "logits":
            loss, _ = fused_cross_entropy(logits=F.linear(features, weight), target=target, ignore_index=PAD)
        else:
            loss, _ = fused_linear_cross_entropy(features=features, weight=weight, target=target, ignore_index=PAD)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, by_definition(F.linear(features, weight), target, 0.0)[0].sum())


def test_frozen_projection():
    features, weight, _, target = problem()
    features.requires_grad_()
    fused_linear_cross_entropy(features=features, weight=weight, target=target, ignore_index=PAD)[0].backward()
    assert features.grad is not None
    assert weight.grad is None


def test_tied_weight_gathers_both_gradients():
    _, weight, _, target = problem()
    tokens = target.clone()
    grads = []
    for linear in (False, True):
        tied = weight.clone().requires_grad_()
        features = F.embedding(tokens, tied)
        if linear:
            loss, _ = fused_linear_cross_entropy(features=features, weight=tied, target=target, ignore_index=PAD)
        else:
            loss, _ = fused_cross_entropy(logits=F.linear(features, tied), target=target, ignore_index=PAD)
        loss.backward()
        grads.append(tied.grad)
    torch.testing.assert_close(*grads)
