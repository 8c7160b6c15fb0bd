"""PlayCanvas's compressed PLY: bits and chunks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import compressed_ply, ply
from neuralfields.codecs.splats import format_of, read_gaussians
from neuralfields.errors import InputError
from neuralfields.gaussians import DC
from tests.support.splat_files import along_the_curve, assert_within, beside, extent, judge, judged
from tests.support.splats import random_gaussians


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [1, 256, 700])
def test_what_comes_back_is_within_half_a_step_of_its_chunk(degree, count, tmp_path: Path):
    before = random_gaussians(count, degree)
    path = tmp_path / "a.compressed.ply"
    compressed_ply.write(before, path)
    assert format_of(path) == "compressed_ply"
    before, after = along_the_curve(before), read_gaussians(path)
    for begin in range(0, count, compressed_ply.CHUNK):
        chunk = slice(begin, begin + compressed_ply.CHUNK)
        was, found = before.take(chunk), after.take(chunk)
        for axis, steps in enumerate(compressed_ply.STEPS):
            for part in ("means", "scales"):
                one, other = getattr(was, part)[:, axis], getattr(found, part)[:, axis]
                assert float((one - other).abs().max()) <= extent(one) / steps / 2 + 2e-6
        constant = max(extent(was.harmonics[:, 0, c]) for c in range(3))
        rest = {f"degree_{d}": compressed_ply.HARMONIC for d in range(1, 4)}
        assert_within(
            was, found, means=1, scales=1, angle=compressed_ply.ANGLE * 1.01, opacity=1 / 510 + 1e-6,
            degree_0=constant / 510 + 1e-5, **rest,
        )  # fmt: skip


def test_the_layout_is_as_stated(tmp_path: Path):
    """A file made by hand: one chunk without colours, one Gaussian."""
    names = [*compressed_ply.ENDS, *compressed_ply.SCALE_ENDS]
    head = "ply\nformat binary_little_endian 1.0\nelement chunk 1\n" + "".join(f"property float {n}\n" for n in names)
    head += "element vertex 1\n" + "".join(f"property uint {n}\n" for n in compressed_ply.PACKED) + "end_header\n"
    ends = np.array([0, 0, 0, 2047, 1023, 2047, 0, 0, 0, 2047, 1023, 2047], "<f4")
    turn = 2 << 30 | 1023 << 20 | 0 << 10 | 511  # y is left out: w = sqrt 1/2, x = -sqrt 1/2, z nearly 0
    packed = np.array([5 << 21 | 6 << 11 | 7, turn, 8 << 21 | 9 << 11 | 10, 0xFF003366], "<u4")
    (tmp_path / "a.ply").write_bytes(head.encode() + ends.tobytes() + packed.tobytes())
    found = read_gaussians(tmp_path / "a.ply")
    assert found.means.tolist() == [[5, 6, 7]] and found.scales.tolist() == [[8, 9, 10]]
    half = 0.5**0.5
    torch.testing.assert_close(found.rotations, torch.tensor([[half, -half, 0.0, 0.0]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(found.opacity(), torch.tensor([0x66 / 255]))
    torch.testing.assert_close(found.harmonics[0, 0] * DC + 0.5, torch.tensor([1.0, 0.0, 0x33 / 255]))


def test_a_known_file_reads(shared_data: Path):
    path = shared_data / "splats" / "splat_small" / "guitar.compressed.ply"
    if not path.is_file():
        pytest.skip("no splats in the shared data")
    found = read_gaussians(path)
    assert (len(found), found.degree, found.notes) == (90854, 0, ())
    found.require_sound()


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"element chunk 1", b"element chunk 2", "vertices, 2 chunks"),
        (b"uint packed_scale", b"float packed_scale", "not whole numbers|cut short"),
        (b"float max_z", b"float mox_z", "max_z"),
        (b"binary_little_endian", b"binary_big_endian", "little-endian"),
        (b"uchar f_rest_8\n", b"uchar f_rest_8\nproperty uchar f_rest_9\n", "has 10 harmonics"),
    ],
)
def test_what_does_not_match_is_refused(old, new, match, tmp_path: Path):
    path = tmp_path / "a.compressed.ply"
    compressed_ply.write(random_gaussians(10, 1), path)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(InputError, match=match):
        compressed_ply.read(path)


def test_the_outside_judge_reads_and_writes_the_same(tmp_path: Path):
    command = judge()
    before = random_gaussians(600, 3)
    compressed_ply.write(before, tmp_path / "a.compressed.ply")
    theirs = ply.read(judged(command, tmp_path / "a.compressed.ply", tmp_path / "b.ply"))
    assert_within(compressed_ply.read(tmp_path / "a.compressed.ply"), theirs, opacity=1e-5)
    ply.write(before, tmp_path / "c.ply")
    written = judged(command, tmp_path / "c.ply", tmp_path / "d.compressed.ply")
    ours = compressed_ply.read(written)
    assert_within(ours, ply.read(judged(command, written, tmp_path / "e.ply")), opacity=1e-5)
    most = {"means": 0.02, "scales": 0.01, "angle": compressed_ply.ANGLE * 1.01, "opacity": 0.003, "degree_0": 0.02}
    assert_within(before, beside(before, ours), **most, degree_1=1 / 32, degree_2=1 / 32, degree_3=1 / 32)
