"""Memory of a command's process. Knows nothing of what the command does.

Training and decoding on a CPU make and free tensors of many megabytes at every step. glibc gives each of them back to
the kernel at once, and the next one costs a page fault for every 4 KiB: a fifth of the time of a small model.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Names and numbers of glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_LARGEST_BLOCK = 1 << 30
_LARGEST_BLOCK_OF_OLD_GLIBC = 32 << 20


def keep_freed_memory() -> bool:
    """Make the C library keep what is freed for the next allocation instead of returning it to the kernel.

    Returns:
        Whether it could be set: only on Linux with glibc. Elsewhere nothing changes.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) or mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK_OF_OLD_GLIBC)
    return bool(kept and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_TOP_PAD, 64 << 20))


def return_freed_memory() -> bool:
    """Return to the kernel once what has been freed up to now: what a large corpus took while it was ordered.

    Returns:
        Whether there was anything to return; False where the C library is another than glibc.
    """
    malloc_trim = _of_glibc("malloc_trim")
    return malloc_trim is not None and bool(malloc_trim(0))


def _of_glibc(name: str) -> Any:
    """A function of the C library, None where that is not glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None
