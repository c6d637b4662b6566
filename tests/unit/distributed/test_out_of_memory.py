"""Which errors say that memory does not suffice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqkit.distributed.out_of_memory import is_out_of_memory


def test_main_memory() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 50)
    assert is_out_of_memory(error.value)
    with pytest.raises(MemoryError) as numpys:
        np.empty(1 << 50)
    assert is_out_of_memory(numpys.value)


def test_a_gpus() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_others() -> None:
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator: can't allocate memory"))
