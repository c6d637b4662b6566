import torch

from seqkit.modules.highway import Highway


def test_an_open_gate_carries_the_input():
    highway = Highway(4, 2)
    for layer in highway.layers:
        torch.nn.init.constant_(layer.bias[4:], 100.0)
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(highway(x), x)


def test_a_closed_gate_transforms_it():
    highway = Highway(4)
    layer = highway.layers[0]
    torch.nn.init.constant_(layer.bias[4:], -100.0)
    x = torch.randn(3, 4)
    torch.testing.assert_close(highway(x), torch.relu(x @ layer.weight[:4].T))
