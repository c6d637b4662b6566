"""Telling errors that come from want of memory from others: PyTorch has a type of its own only for those of a GPU.

Knows nothing of what the memory was wanted for.
"""

from __future__ import annotations

import torch

_SAID_OF_IT = (
    "DefaultCPUAllocator: ",  # followed by "can't allocate memory" or "not enough memory", as the platform has it
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory to be had, on a GPU or in main memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAID_OF_IT)
