"""What a command asks of the machine."""

import platform
import subprocess
import sys

import pytest

# Three blocks of 24 MB, together more than twice the largest, are given back by glibc whenever they are freed. Asked of
# the C library itself: what a tensor allocates beside its numbers may lie above them and hold them by chance.
SCRIPT = """
import ctypes, resource
from neuralfields.gpu.device import keep_memory

libc, size = ctypes.CDLL(None), 24 << 20
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        blocks = [libc.malloc(size) for _ in range(3)]
        for block in blocks:
            libc.memset(block, 1, size)
        for block in blocks:
            libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
plain = faults()
keep_memory()
faults()
print(plain, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_memory_that_was_freed_is_kept():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert plain > 100 and kept < 0.1 * plain  # 144 where the kernel hands out large pages, else 73,728
