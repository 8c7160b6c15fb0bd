"""The .splat format: 32 bytes a Gaussian."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import splat
from neuralfields.errors import InputError
from neuralfields.gaussians import DC
from tests.support.splat_files import assert_within, judge, judged
from tests.support.splats import random_gaussians

BYTE = 1 / 510 + 1e-6


def test_what_comes_back_is_within_its_bytes(tmp_path: Path):
    before = random_gaussians(500, 0)
    before.harmonics.clamp_(-0.49 / DC, 0.49 / DC)
    splat.write(before, tmp_path / "a.splat")
    assert (tmp_path / "a.splat").stat().st_size == 32 * 500
    after = splat.read(tmp_path / "a.splat")
    assert torch.equal(before.means, after.means)
    assert_within(before, after, angle=splat.ANGLE, opacity=BYTE, degree_0=BYTE / DC, scales=2e-6)


def test_the_layout_is_as_stated(tmp_path: Path):
    row = np.zeros(1, splat.ROW)
    row["means"], row["scales"] = [1, 2, 3], [0.1, 0.2, 0.3]
    row["colour"], row["rotation"] = [255, 0, 128, 51], [128, 128, 0, 128]
    (tmp_path / "a.splat").write_bytes(row.tobytes())
    found = splat.read(tmp_path / "a.splat")
    assert found.means.tolist() == [[1, 2, 3]] and found.rotations.tolist() == [[0, 0, -1, 0]]
    torch.testing.assert_close(found.scales.exp(), torch.tensor([[0.1, 0.2, 0.3]]))
    torch.testing.assert_close(found.opacity(), torch.tensor([0.2]))
    torch.testing.assert_close(found.base_colour(), torch.tensor([[1.0, 0.0, 128 / 255]]))


def test_colours_out_of_range_are_clipped_and_opaque_stays_opaque(tmp_path: Path):
    before = random_gaussians(3, 0)
    before.harmonics[:] = torch.tensor([[[9.0]], [[-9.0]], [[0.0]]])
    before.opacities[:] = torch.tensor([40.0, -40.0, 0.0])
    splat.write(before, tmp_path / "a.splat")
    after = splat.read(tmp_path / "a.splat")
    torch.testing.assert_close(after.base_colour()[:, 0], torch.tensor([1.0, 0.0, 128 / 255]))
    assert bool(torch.isfinite(after.opacities).all()) and after.opacity()[0] > 0.99999


def test_a_broken_row_is_refused(tmp_path: Path):
    (tmp_path / "a.splat").write_bytes(bytes(33))
    with pytest.raises(InputError, match="33 bytes are no whole number of rows of 32"):
        splat.read(tmp_path / "a.splat")


def test_the_outside_judge_reads_the_same(tmp_path: Path):
    """Its zero of a quaternion lies between two bytes, ours at 128 as the format's first writer has it."""
    command = judge()
    before = random_gaussians(100, 0)
    splat.write(before, tmp_path / "a.splat")
    from neuralfields.codecs import ply

    theirs = ply.read(judged(command, tmp_path / "a.splat", tmp_path / "b.ply"))
    assert_within(splat.read(tmp_path / "a.splat"), theirs, angle=0.02)
