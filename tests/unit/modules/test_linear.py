import torch

from seqkit.modules.linear import TiedLinear, linear_of_any_size


def test_a_layer_may_have_no_inputs_or_outputs():
    assert torch.equal(linear_of_any_size(0, 3, bias=False)(torch.empty(2, 0)), torch.zeros(2, 3))
    assert linear_of_any_size(3, 0)(torch.randn(2, 3)).shape == (2, 0)


def test_a_tied_layer_uses_the_weight_it_was_given():
    weight = torch.nn.Parameter(torch.randn(3, 5))
    x = torch.randn(2, 5)
    torch.testing.assert_close(TiedLinear(weight)(x), x @ weight.T)
    torch.testing.assert_close(TiedLinear(weight, transpose=True)(x[:, :3]), x[:, :3] @ weight)
    assert list(TiedLinear(weight).parameters()) == [weight]
