import platform
import subprocess
import sys

import pytest

from seqkit_cli._memory import return_freed_memory

# In a process of its own: what is set cannot be taken back. The page faults of the second half are what it saves.
CODE = """
import resource
from seqkit_cli._memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(40 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
assert keep_freed_memory()
faults()
print(without, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_blocks_are_used_again() -> None:
    output = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True).stdout
    without, kept = map(int, output.split())
    assert kept < without / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_returned_once() -> None:
    code = (
        "import sys\n"
        "from seqkit_cli._memory import keep_freed_memory, return_freed_memory\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "keep_freed_memory()\n"
        "blocks = [bytearray(1 << 20) for _ in range(64)]\n"
        "blocks.clear()\n"
        "kept = resident()\n"
        "assert return_freed_memory()\n"
        "assert kept - resident() > 32 << 20, (kept, resident())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_another_c_library_returns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not return_freed_memory()
