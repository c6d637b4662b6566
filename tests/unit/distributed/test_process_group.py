"""A group of one process: what travels is what comes back. Several processes: tests/integration/test_distributed.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist

from seqkit.distributed.process_group import (
    InconsistentGradientsError,
    ProcessGroup,
    _require_equal,
    _vector,
    backend_for,
)
from seqkit.distributed.watch import Watch
from seqkit.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def group() -> Iterator[ProcessGroup]:
    store = dist.HashStore()
    made = ProcessGroup(store, 0, 1, device=CPU, backend="gloo", watch=Watch(store, 0, 1))
    yield made
    made.close()
    assert not dist.is_initialized()


def share(group: ProcessGroup, logging: list[dict[str, Any]], **options: Any) -> Any:
    return group.share_update(logging, 7, torch.tensor(2.0), **{"exhausted": False, **options})


def test_figures_are_added_up(group: ProcessGroup) -> None:
    logging = [{"loss": torch.tensor(1.5), "ntokens": 3}, {"loss": torch.tensor([2.0]), "ntokens": 4, "extra": True}]
    sums = share(group, logging)
    assert sums.logging == [{"extra": 1.0, "loss": 3.5, "ntokens": 7.0}]
    assert sums.sample_size == 7
    assert not sums.exhausted


def test_figures_that_nobody_has_are_left_out(group: ProcessGroup) -> None:
    share(group, [{"loss": 1.0, "seldom": 2}])
    assert share(group, [{"loss": 1.0}]).logging == [{"loss": 1.0}]
    assert share(group, []).logging == []


def test_large_counts_stay_exact(group: ProcessGroup) -> None:
    count = 2**52 + 1
    assert share(group, [{"ntokens": count}]).logging == [{"ntokens": float(count)}]


def test_figures_that_cannot_be_summed(group: ProcessGroup) -> None:
    logging = [{"words": ["a"], "loss": torch.tensor(1.0)}]
    assert share(group, logging, can_be_summed=False).logging == logging
    with pytest.raises(TypeError, match=r"a figure of type list cannot be summed .*logging_can_be_summed=False"):
        share(group, logging)


def test_exhaustion_and_notices(group: ProcessGroup) -> None:
    group.notice = 15
    assert share(group, [], exhausted=True).exhausted
    assert group.heard == 15
    group.notice = 0
    share(group, [])
    assert group.heard == 0


def test_steps_of_validation(group: ProcessGroup) -> None:
    steps = [[{"loss": torch.tensor(2.0), "n": 1}], [], [{"n": 3}]]
    assert group.share_steps(steps) == [[{"loss": 2.0, "n": 1.0}], [], [{"n": 3.0}]]
    assert group.share_steps([]) == []
    texts = [[{"text": "a"}], []]
    assert group.share_steps(texts, can_be_summed=False) == texts


def test_agreements(group: ProcessGroup) -> None:
    assert group.largest(5) == 5
    assert group.any(True)
    assert not group.any(False)
    assert group.gather_texts("x") == ["x"]
    value = {"a": torch.arange(3), "b": [None, 1.5, "x"]}
    assert group.from_main(value) is value
    group.barrier("the end")


def test_vector_mixes_numbers_and_tensors() -> None:
    vector = _vector([1, torch.tensor(2.0), True, torch.tensor([4], dtype=torch.int64)], CPU)
    assert vector.tolist() == [1, 2, 1, 4]
    assert vector.dtype == torch.float64


class TestNorms:
    def test_equal(self) -> None:
        _require_equal([2.0, 2.0, 2.0], "update 4")
        _require_equal([2.0, 2.0 * (1 + 1e-7)], "update 4")
        _require_equal([0.0, 0.0], "update 4")
        _require_equal([math.nan, math.inf], "update 4")  # overflow is everybody's

    @pytest.mark.parametrize("odd", [2.5, math.nan, math.inf, 0.0])
    def test_who_differs_is_named(self, odd: float) -> None:
        with pytest.raises(
            InconsistentGradientsError, match=r"update 4: inconsistent gradients: rank 2 differs from the others"
        ):
            _require_equal([2.0, 2.0, odd, 2.0], "update 4")

    def test_all_norms_are_told(self) -> None:
        with pytest.raises(InconsistentGradientsError, match=r"norms: rank 0: 2, rank 1: 3\).*legacy_ddp"):
            _require_equal([2.0, 3.0], "update 4")


def test_backends() -> None:
    assert backend_for("nccl", CPU) == "gloo"
    assert backend_for("gloo", torch.device("cuda", 0)) == "gloo"
    with pytest.raises(ConfigError, match="distributed_backend=carrier_pigeon is not in this PyTorch"):
        backend_for("carrier_pigeon", torch.device("cuda", 0))
