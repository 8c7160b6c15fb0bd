"""GaussianSplats3D's .ksplat, made by hand: there is no other writer here."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import ksplat, ply
from neuralfields.codecs.splats import format_of, read_gaussians
from neuralfields.gaussians import DC, Gaussians
from tests.support.splat_files import assert_within, judge, judged
from tests.support.splats import random_gaussians

CAPACITY, SIDE = 8, 5.0


def write(path: Path, gaussians: Gaussians, level: int, ends: tuple[float, float] = (-1.5, 1.5)) -> Gaussians:
    """Sections of 20 in buckets: full ones of 8, then partial ones of 3 and 1; as it was, and the room twice that."""
    sections = [gaussians.take(slice(begin, begin + 20)) for begin in range(0, len(gaussians), 20)]
    head = bytearray(ksplat.HEADER)
    head[1] = 1
    struct.pack_into("<4IH", head, 4, len(sections), len(sections), len(gaussians), len(gaussians), level)
    struct.pack_into("<2f", head, 36, *ends)
    heads, bodies = [], []
    for part in sections:
        text = bytearray(ksplat.SECTION)
        struct.pack_into("<4IfH", text, 0, 20, 40, CAPACITY, 4, SIDE, 12)
        struct.pack_into("<I", text, 24, 0)
        struct.pack_into("<2IH", text, 32, 2, 2, part.degree)
        heads.append(bytes(text))
        bucket = np.array([0] * 8 + [1] * 8 + [2] * 3 + [3], int)
        means = part.means.numpy().astype(np.float64)
        centres = np.stack([means[bucket == b].mean(0) for b in range(4)]).astype("<f4")
        rows = np.zeros(40, ksplat._row(level, part.degree))
        steps = (means - centres[bucket]) / (SIDE / 2) * ksplat.HALF_STEPS + ksplat.HALF_STEPS
        rows["means"][:20] = np.rint(steps) if level else means
        rows["scales"][:20] = part.scales.exp()
        rows["rotation"][:20] = part.rotations
        rows["colour"][:20, :3] = np.rint((part.harmonics[:, 0].numpy() * DC + 0.5) * 255)
        rows["colour"][:20, 3] = np.rint(part.opacity().numpy() * 255)
        bands = [part.harmonics[:, d * d : (d + 1) ** 2].transpose(1, 2).flatten(1) for d in range(1, part.degree + 1)]
        rest = torch.cat([torch.zeros(20, 0), *bands], 1).numpy()
        rows["rest"][:20] = np.rint((rest - ends[0]) / (ends[1] - ends[0]) * 255) if level == 2 else rest
        bodies.append(np.array([3, 1], "<u4").tobytes() + centres.tobytes() + rows.tobytes())
    path.write_bytes(bytes(head) + b"".join(heads) + b"".join(bodies))
    return gaussians


def fitting(degree: int) -> Gaussians:
    found = random_gaussians(60, degree)
    found.means[:] = found.means.sort(0).values / 8  # so that a bucket's lie near one another
    found.harmonics[:, 0].clamp_(-0.49 / DC, 0.49 / DC)
    found.harmonics[:, 1:].clamp_(-1.5, 1.5)
    return found


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_every_level_and_degree_reads(level, degree, tmp_path: Path):
    path = tmp_path / "a.ksplat"
    before = write(path, fitting(degree), level)
    assert format_of(path) == "ksplat"
    after = read_gaussians(path)
    rest = {f"degree_{d}": (1e-6, 1e-3, 3 / 510 + 1e-6)[level] for d in range(1, 4)}
    limits = {"opacity": 1 / 510 + 1e-6, "degree_0": 1 / 510 / DC + 1e-5, "scales": 1e-3 if level else 1e-5}
    limits |= {"means": SIDE / 4 / ksplat.HALF_STEPS + 1e-6 if level else 0.0, "angle": 2e-3 if level else 1e-6}
    assert_within(before, after, **(limits | rest))


def test_a_known_file_reads(shared_data: Path):
    path = shared_data / "splats" / "splat_small" / "splat_transform_fixtures" / "minimal.ksplat"
    if not path.is_file():
        pytest.skip("no splats in the shared data")
    found = read_gaussians(path)
    assert len(found) == 4 and found.require_sound() is found
    assert_within(found, read_gaussians(path.with_suffix(".splat")))  # the same four splats in both


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_outside_judge_reads_the_same(level, tmp_path: Path):
    """Degree 2: beyond it the judge says itself that it does not know the order."""
    command, path = judge(), tmp_path / "a.ksplat"
    write(path, fitting(2), level)
    assert_within(ksplat.read(path), ply.read(judged(command, path, tmp_path / "b.ply")), scales=2e-6)
