"""The judge of memory sees what is freed again, and whatever the process had before."""

import subprocess
import sys

import numpy as np
import pytest

from neuralfields.gpu.device import keep_memory
from tests.support.peak import MEASURED, at_most


@pytest.mark.serial
def test_a_peak_that_is_gone_is_seen_and_one_of_before_is_not():
    keep_memory()
    before = [np.ones(2_000_000) for _ in range(20)]  # below the size that the C library gives back at once
    del before
    with at_most(50e6):
        np.ones(2_000_000)
    with pytest.raises(AssertionError, match="MB"), at_most(50e6):
        np.ones(20_000_000)
    with at_most(50e6):
        np.ones(2_000_000)


@pytest.mark.serial
def test_a_child_is_measured_without_its_parents_peak():
    np.ones(60_000_000)
    done = subprocess.run([sys.executable, "-c", MEASURED, "true"], capture_output=True, text=True)
    assert done.returncode == 0 and 0 < int(done.stderr) < 100e6
    done = subprocess.run([sys.executable, "-c", MEASURED, "false"], capture_output=True, text=True)
    assert done.returncode == 1
