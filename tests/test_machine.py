"""What a command asks of the machine."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, torch
from neuralfields.fields.mlp import Config, Mlp
from neuralfields.machine import keep_memory

torch.set_num_threads(1)
field, x = Mlp(Config(frequencies=4.0, layers=2, width=64)), torch.rand(1 << 15, 3)
directions = torch.nn.functional.normalize(torch.randn(1 << 15, 3), dim=1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        log_density, rgb = field.decode(field.features(x), directions)
        (log_density.sum() + rgb.sum()).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
plain = faults()
keep_memory()
faults()
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in its own way")
def test_memory_that_was_freed_is_kept():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert plain > 1000 and kept < 0.5 * plain
