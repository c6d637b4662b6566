import pytest
import torch
from torch import nn

from seqkit.config.validate import build_config
from seqkit.errors import ConfigError
from seqkit.optim.adamw import AdamW
from seqkit.optim.base import get_lr, set_lr
from seqkit.optim.muon import Muon, MuonConfig, newton_schulz
from tests.unit.optim.helpers import parameters, run


@pytest.mark.parametrize("shape", [(3, 8, 5), (3, 5, 8), (1, 6, 6)])
def test_singular_values_become_about_1(shape):
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(shape, generator=generator)
    orthogonal = newton_schulz(matrices, 5)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = torch.linalg.svdvals(orthogonal)
    assert values.min() > 0.5
    assert values.max() < 1.3
    # The singular vectors stay: in their basis the result is diagonal.
    inner = left.mT @ orthogonal @ right.mT
    torch.testing.assert_close(inner, torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1)), rtol=0, atol=1e-4)


def test_is_that_of_pytorch():
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("this PyTorch has no Muon")
    matrices = [nn.Parameter(torch.randn(6, 4)), nn.Parameter(torch.randn(4, 6))]
    copies = [nn.Parameter(matrix.detach().clone()) for matrix in matrices]
    for name in ("original", "match_rms_adamw"):
        settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
        found = run(Muon(matrices, scale=name, ns_dtype="bfloat16", **settings), matrices, 3)
        expected = run(theirs(copies, adjust_lr_fn=name, **settings), copies, 3)
        for value, right in zip(found, expected, strict=True):
            torch.testing.assert_close(value, right, rtol=0.02, atol=2e-3)


def test_embeddings_output_layers_and_vectors_go_to_adamw():
    model = nn.ModuleDict(
        {
            "embed_tokens": nn.Embedding(5, 4),
            "layer": nn.Linear(4, 4),
            "conv": nn.Conv1d(4, 6, 3, bias=False),
            "output_projection": nn.Linear(4, 5, bias=False),
        }
    )
    optimizer = Muon.build(build_config(MuonConfig, {"lr": [0.1]}, where="optimizer"), model.named_parameters())
    assert {group["orthogonal"]: group["param_names"] for group in optimizer.param_groups} == {
        True: ["layer.weight", "conv.weight"],
        False: ["embed_tokens.weight", "layer.bias", "output_projection.weight"],
    }
    for param in model.parameters():
        param.grad = torch.ones_like(param)
    before = model["conv"].weight.detach().clone()
    optimizer.step()
    step = (before - model["conv"].weight.detach()).flatten(1)
    # A gradient of ones has one singular value: the step is that value's matrix, times 0.1 * 0.2 * sqrt(12).
    size = torch.linalg.matrix_norm(step).item()
    assert 0.6 < size / (0.1 * 0.2 * 12**0.5) < 1.3


def test_adamw_part_is_adamw():
    ours, theirs = parameters()[1:2], parameters()[1:2]
    found = run(Muon(ours, lr=0.02, weight_decay=0.1), ours, 4)
    expected = run(AdamW(theirs, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1), theirs, 4)
    assert torch.equal(found[0], expected[0])


def test_the_schedule_keeps_the_relation_of_the_rates():
    optimizer = Muon(parameters(), lr=0.02, adam_lr_scale=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.002])
    set_lr(optimizer, 0.01)
    assert get_lr(optimizer) == 0.01
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.001])


def test_given_groups_are_divided():
    first, second, third = parameters()
    optimizer = Muon([{"params": [first, second], "weight_decay": 0.5}, {"params": [third]}])
    assert [(group["orthogonal"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (True, 0.5),
        (False, 0.5),
        (True, 0.0),
    ]


def test_no_parameters():
    with pytest.raises(ConfigError, match="no parameters"):
        Muon([])


def test_parameters_that_fsdp_spreads_make_the_same_steps():
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    def make():
        torch.manual_seed(0)
        return nn.Linear(4, 3)

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        whole, spread = make(), make()
        fully_shard(spread)
        for model in (whole, spread):
            optimizer = Muon(model.named_parameters(), lr=0.1, weight_decay=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.ones(2, 4)).square().sum().backward()
                optimizer.step()
        for one, other in zip(whole.parameters(), spread.parameters(), strict=True):
            torch.testing.assert_close(one.detach(), other.full_tensor().detach())
    finally:
        dist.destroy_process_group()
