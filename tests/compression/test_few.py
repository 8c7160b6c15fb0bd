"""Scenes that leave an encoder little to count: one Gaussian, two, and many that are all alike."""

from pathlib import Path

import pytest
import torch

from neuralfields.codecs.splats import read_gaussians, write_gaussians
from neuralfields.errors import InputError, UsageError
from neuralfields.gaussians import Gaussians
from tests.support.splats import random_gaussians

FORMATS = (".nfz", ".sog", ".spz", ".compressed.ply", ".ply")


def alike(count: int) -> Gaussians:
    """The same Gaussian so many times, at one place."""
    return random_gaussians(1, 3).take(torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "gaussians", [random_gaussians(1, 3), random_gaussians(2, 3), alike(300)], ids=("one", "two", "alike")
)
def test_few_and_equal_gaussians_come_back(tmp_path: Path, suffix: str, gaussians: Gaussians) -> None:
    write_gaussians(gaussians, tmp_path / f"a{suffix}")
    again = read_gaussians(tmp_path / f"a{suffix}")
    again.require_sound()
    assert len(again) == len(gaussians)
    order, other = again.means.sum(1).argsort(), gaussians.means.sum(1).argsort()
    assert torch.allclose(again.means[order], gaussians.means[other], atol=0.02)


@pytest.mark.parametrize("suffix", FORMATS)
def test_none_at_all_are_read_back_or_refused(tmp_path: Path, suffix: str) -> None:
    none = random_gaussians(1, 1).take(torch.zeros(0, dtype=torch.int64))
    try:
        write_gaussians(none, tmp_path / f"a{suffix}")
        assert len(read_gaussians(tmp_path / f"a{suffix}")) == 0
    except (InputError, UsageError) as error:
        assert "\n" not in str(error)
