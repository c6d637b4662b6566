import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqkit.modules.chunked_linear_cross_entropy import chunked_linear_cross_entropy, count_correct
from seqkit.modules.fused_cross_entropy import fused_cross_entropy

PAD = 1


def problem(dtype: torch.dtype = torch.float32, bias: bool = True) -> dict[str, Tensor | None]:
    torch.manual_seed(3)
    target = torch.randint(0, 50, (3, 7))
    target[0, 4:] = PAD
    return {
        "features": torch.randn(3, 7, 16).to(dtype).requires_grad_(),
        "weight": (torch.randn(50, 16) / 4).to(dtype).requires_grad_(),
        "bias": torch.randn(50).to(dtype).requires_grad_() if bias else None,
        "target": target,
    }


def whole(inputs: dict[str, Tensor | None], label_smoothing: float) -> tuple[Tensor, Tensor]:
    logits = F.linear(inputs["features"], inputs["weight"], inputs["bias"])  # type: ignore[arg-type]
    assert inputs["target"] is not None
    return fused_cross_entropy(
        logits=logits, target=inputs["target"], ignore_index=PAD, label_smoothing=label_smoothing
    )


def gradients(inputs: dict[str, Tensor | None], loss: Tensor) -> list[Tensor]:
    wanted = [tensor for tensor in inputs.values() if tensor is not None and tensor.requires_grad]
    return list(torch.autograd.grad(loss, wanted))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 5, 100])
def test_it_equals_the_whole_logits_in_full_precision(label_smoothing: float, bias: bool, chunk_size: int) -> None:
    inputs = problem(bias=bias)
    loss, nll = chunked_linear_cross_entropy(
        **inputs,  # type: ignore[arg-type]
        ignore_index=PAD,
        label_smoothing=label_smoothing,
        chunk_size=chunk_size,
    )
    expected_loss, expected_nll = whole(inputs, label_smoothing)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(nll, expected_nll, rtol=1e-6, atol=0)
    for ours, expected in zip(gradients(inputs, 2 * loss), gradients(inputs, 2 * expected_loss), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_full_precision_as_whole_logits_are(dtype: torch.dtype) -> None:
    inputs = problem(dtype)
    exact = {
        key: value if value is None or not value.is_floating_point() else value.detach().float().requires_grad_()
        for key, value in inputs.items()
    }
    true_loss, _ = whole(exact, 0.1)
    true = gradients(exact, true_loss)
    loss, _ = chunked_linear_cross_entropy(**inputs, ignore_index=PAD, label_smoothing=0.1, chunk_size=4)  # type: ignore[arg-type]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(true_loss.item(), rel=2e-3)
    for ours, expected in zip(gradients(inputs, loss), true, strict=True):
        assert ours.dtype == dtype
        assert float((ours.float() - expected).norm() / expected.norm()) < 1e-2


def test_under_autocast_weights_keep_their_precision() -> None:
    inputs = problem()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = chunked_linear_cross_entropy(**inputs, ignore_index=PAD, chunk_size=4)  # type: ignore[arg-type]
    expected, _ = whole(inputs, 0.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-2)
    for ours, exact in zip(gradients(inputs, loss), gradients(inputs, expected), strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - exact).norm() / exact.norm()) < 2e-2


def test_without_gradients_nothing_is_kept() -> None:
    inputs = problem(torch.bfloat16)
    with torch.no_grad():
        loss, _ = chunked_linear_cross_entropy(**inputs, ignore_index=PAD, chunk_size=4)  # type: ignore[arg-type]
    assert not loss.requires_grad


def test_right_words_are_counted_in_chunks() -> None:
    inputs = problem()
    assert inputs["target"] is not None
    logits = F.linear(inputs["features"], inputs["weight"], inputs["bias"])  # type: ignore[arg-type]
    best = logits.argmax(-1)
    inputs["target"] = torch.where(torch.arange(7) % 2 == 0, best, inputs["target"])
    scored = inputs["target"] != PAD
    correct, total = count_correct(**inputs, ignore_index=PAD, chunk_size=4)  # type: ignore[arg-type]
    assert int(correct) == int((best.eq(inputs["target"]) & scored).sum()) > 0
    assert int(total) == int(scored.sum())


def test_only_padding_gives_zero() -> None:
    inputs = problem(torch.bfloat16)
    inputs["target"] = torch.full((3, 7), PAD)
    loss, nll = chunked_linear_cross_entropy(**inputs, ignore_index=PAD, chunk_size=4)  # type: ignore[arg-type]
    assert float(loss.detach()) == float(nll) == 0.0
    assert all(not grad.any() for grad in gradients(inputs, loss))
