from __future__ import annotations

import torch

from seqkit.checkpoint.staging import Staging, available_memory, tensors_in
from seqkit.checkpoint.state import CheckpointState


def _state() -> CheckpointState:
    tied = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    return CheckpointState(
        config={"task": {"_name": "x"}},
        model={"embed": tied, "output": tied, "turned": torch.arange(6.0).reshape(2, 3).t()},
        optimizer={"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2, dtype=torch.bfloat16)}}},
        metrics={"meters": [("loss", {"sum": 1.5})]},
        extra={"pair": (torch.ones(1), None)},
    )


def test_a_copy_shares_nothing_with_the_original() -> None:
    state = _state()
    copy = Staging().copy(state)
    with torch.no_grad():
        for _, tensor in tensors_in(state):
            tensor.fill_(7)
    state.metrics["meters"][0][1]["sum"] = 9.0
    expected = _state()
    assert [place for place, _ in tensors_in(copy)] == [place for place, _ in tensors_in(expected)]
    for (_, one), (_, other) in zip(tensors_in(copy), tensors_in(expected), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert not one.requires_grad
    assert copy.metrics == {"meters": [("loss", {"sum": 1.5})]}
    assert copy.model["embed"] is copy.model["output"]
    assert copy.extra["pair"][1] is None


def test_memory_is_used_again() -> None:
    staging, state = Staging(), _state()
    first = staging.copy(state)
    assert staging.memory_needed(state) == 0
    state.model["turned"] = torch.zeros(4)
    del state.extra["pair"]
    second = staging.copy(state)
    assert second.model["embed"].data_ptr() == first.model["embed"].data_ptr()
    assert second.model["turned"].tolist() == [0.0] * 4
    staging.release()
    assert staging.memory_needed(state) == 24 + 16 + 4 + 4


def test_available_memory() -> None:
    found = available_memory()
    assert found is None or found > 1 << 20
