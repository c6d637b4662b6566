import torch
from torch import nn

from seqkit.optim.nag import NAG


def test_two_steps_by_hand_with_a_change_of_rate():
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = NAG([weight], lr=0.1, momentum=0.5, weight_decay=0.2)
    weight.grad = torch.tensor([2.0])
    optimizer.step()
    value = 1.0 * (1 - 0.1 * 0.2) - 1.5 * 0.1 * 2
    buffer = -0.1 * 2
    torch.testing.assert_close(weight.detach(), torch.tensor([value]))
    optimizer.param_groups[0]["lr"] = 0.05
    optimizer.step()
    value = value * (1 - 0.05 * 0.2) + 0.25 * 0.5 * buffer - 1.5 * 0.05 * 2
    torch.testing.assert_close(weight.detach(), torch.tensor([value]))
    torch.testing.assert_close(
        optimizer.state[weight]["momentum_buffer"], torch.tensor([0.5 * 0.5 * buffer - 0.05 * 2])
    )
    assert optimizer.param_groups[0]["lr_old"] == 0.05
