"""Niantic's .spz in all its versions, and its axes."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import ply, spz
from neuralfields.codecs.splats import format_of, read_gaussians
from neuralfields.errors import InputError
from neuralfields.gaussians import flipped
from tests.support.splat_files import assert_within, judge, judged
from tests.support.splats import random_gaussians

HARMONICS = {"degree_1": 2**-5 + 1 / 128, "degree_2": 2**-4 + 1 / 128, "degree_3": 2**-4 + 1 / 128}
FINE = {f"degree_{d}": 2**-8 + 1 / 128 for d in range(1, 4)}


def fitting(count: int, degree: int):
    """Gaussians whose harmonics lie within what .spz holds."""
    found = random_gaussians(count, degree)
    found.harmonics[:, 1:].clamp_(-1, 1)
    found.harmonics[:, 0].clamp_(-3.3, 3.3)
    found.scales.clamp_(-10, 5.9)
    return found


def within(before, after, fraction: int, **more: float) -> None:
    limits = {"means": 2.0 ** -(fraction + 1) * 1.001 + 1e-6, "scales": spz.LOG + 1e-6, "angle": spz.ANGLE * 1.01}
    limits |= {"opacity": 1 / 510 + 1e-6, "degree_0": spz.CONSTANT + 1e-5}
    assert_within(before, after, **(limits | HARMONICS | more))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_what_comes_back_is_within_its_steps(version, degree, tmp_path: Path):
    before = replace(fitting(400, degree), antialiased=degree == 2)
    path = tmp_path / "a.spz"
    spz.write(before, path, version)
    assert format_of(path) == "spz"
    after = read_gaussians(path)
    within(before, after, 12)
    assert after.antialiased == before.antialiased and after.degree == degree
    spz.write(before, path, version, bits=(8, 8))
    within(before, spz.read(path), 12, **FINE)


@pytest.mark.parametrize(("size", "fraction"), [(1e-3, 18), (0.9, 15), (7.9, 12), (300.0, 12), (5000.0, 10), (8e6, 0)])
def test_steps_follow_the_size_of_the_scene(size, fraction, tmp_path: Path):
    before = fitting(50, 0)
    before.means[:] = before.means / before.means.abs().max() * size
    spz.write(before, tmp_path / "a.spz")
    assert gzip.decompress((tmp_path / "a.spz").read_bytes())[13] == fraction
    after = spz.read(tmp_path / "a.spz")
    assert float((before.means - after.means).abs().max()) <= 2.0 ** -(fraction + 1) + size * 1e-7
    with pytest.raises(InputError, match="smaller"):
        spz.write(replace(before, means=before.means * 1e11), tmp_path / "b.spz")


def by_hand(version: int, means: bytes, rotation: bytes, rest: bytes = b"", flags: int = 0) -> bytes:
    """One Gaussian: opaque, grey, scales e^-2."""
    degree = {0: 0, 9: 1}[len(rest)]
    head = b"NGSP" + struct.pack("<IIBBBB", version, 1, degree, 12, flags, 0)
    return head + means + b"\xff" + b"\x80\x80\x80" + b"\x80\x80\x80" + rotation + rest


FIXED = b"".join(struct.pack("<i", v)[:3] for v in (4096, -8192, 2048))  # 1, -2, 0.5


def test_the_layout_is_as_stated_and_the_axes_are_turned(tmp_path: Path):
    path = tmp_path / "a.spz"
    half = round(0.5 * 511 * 2**0.5)
    turn = 3  # w is left out; x = 0.5, y = -0.5, z = 0.5
    for value, sign in ((half, 0), (half, 1), (half, 0)):
        turn = turn << 10 | sign << 9 | value
    rest = bytes([192, 128, 128, 128, 192, 128, 128, 128, 192])  # Y_1 of red, Y_2 of green, Y_3 of blue are 0.5
    path.write_bytes(gzip.compress(by_hand(3, FIXED, struct.pack("<I", turn), rest)))
    found = spz.read(path)
    assert found.means.tolist() == [[1, 2, -0.5]]  # y and z point the other way here
    torch.testing.assert_close(found.rotations, torch.tensor([[0.5, 0.5, 0.5, -0.5]]), atol=2e-3, rtol=0)
    assert torch.equal(found.scales, torch.full((1, 3), -2.0)) and found.opacity()[0] > 0.99999
    # the harmonic of -y turns its sign, that of z too, that of -x does not
    expected = torch.tensor([[-0.5, 0, 0], [0, -0.5, 0], [0, 0, 0.5]])
    torch.testing.assert_close(found.harmonics[0, 1:], expected, atol=1e-7, rtol=0)


def test_older_versions(tmp_path: Path):
    path = tmp_path / "a.spz"
    path.write_bytes(gzip.compress(by_hand(2, FIXED, bytes([191, 64, 191]))))
    found = spz.read(path)
    expected = torch.tensor([[0.5, 191 / 127.5 - 1, 1 - 64 / 127.5, 1 - 191 / 127.5]])
    torch.testing.assert_close(found.rotations[:, 1:], expected[:, 1:])
    torch.testing.assert_close(found.rotations.norm(dim=1), torch.ones(1))
    halves = np.array([1, -2, 0.5], "<f2").tobytes()
    path.write_bytes(gzip.compress(by_hand(1, halves, bytes([128, 128, 128]))))
    assert spz.read(path).means.tolist() == [[1, 2, -0.5]]


def test_version_2_is_within_its_angle(tmp_path: Path):
    before = random_gaussians(300, 0)
    unit = torch.nn.functional.normalize(flipped(before, "yz").rotations, dim=1)
    unit = unit * torch.where(unit[:, :1] < 0, -1, 1)
    codes = ((unit[:, 1:] + 1) * 127.5).round().to(torch.uint8).numpy()
    head = b"NGSP" + struct.pack("<IIBBBB", 2, 300, 0, 12, 0, 0)
    body = bytes(9 * 300) + bytes([128]) * 7 * 300 + codes.tobytes()
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + body))
    after = spz.read(tmp_path / "a.spz")
    kept = replace(after, rotations=before.rotations)
    assert_within(kept, after, angle=spz.ANGLE_2)


def test_other_axes_by_the_extension(tmp_path: Path):
    """RDF (6) are ours, LUF (7) those of glTF."""
    before, path = fitting(30, 3), tmp_path / "a.spz"
    spz.write(flipped(before, "yz"), path)  # so the file's numbers are those of `before`
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[14] |= spz.EXTENDED
    for axes, turned in ((6, ""), (7, "xy"), (4, "yz"), (0, "yz")):
        record = struct.pack("<III", spz.AXES, 4, axes)
        other = struct.pack("<II", 0x00010001, 5) + b"other"
        path.write_bytes(gzip.compress(bytes(plain) + other + record))
        within(flipped(before, turned), spz.read(path), 12)
    path.write_bytes(gzip.compress(bytes(plain) + struct.pack("<III", spz.AXES, 4, 9)))
    with pytest.raises(InputError, match="axes are of kind 9"):
        spz.read(path)


def test_degree_4_is_read_as_3(tmp_path: Path):
    head = b"NGSP" + struct.pack("<IIBBBB", 3, 2, 4, 12, 0, 0)
    body = bytes(9 * 2) + bytes([255] * 2) + bytes([128] * 12) + bytes(8) + bytes(range(144))
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + body))
    found = spz.read(tmp_path / "a.spz")
    assert found.degree == 3 and "degree 4" in found.notes[0]
    assert float(found.harmonics[1, 15, 0].abs()) == abs(72 + 42 - 128) / 128  # the second's own, not the first's


@pytest.mark.parametrize("name", ["minimal-v2", "minimal-v3", "minimal-v4"])
def test_known_files_read_as_the_judge_reads_them(name, shared_data: Path, tmp_path: Path):
    path = shared_data / "splats" / "splat_small" / "splat_transform_fixtures" / f"{name}.spz"
    if not path.is_file():
        pytest.skip("no splats in the shared data")
    found = read_gaussians(path)
    assert len(found) == 4 and found.require_sound() is found
    torch.testing.assert_close(found.means.abs().max(), torch.tensor(1.0))
    assert_within(found, ply.read(judged(judge(), path, tmp_path / "a.ply")))


@pytest.mark.parametrize("version", [3, 4])
def test_the_outside_judge_reads_and_writes_the_same(version, tmp_path: Path):
    command = judge()
    before = fitting(300, 3)
    spz.write(before, tmp_path / "a.spz", version)
    ours, theirs = spz.read(tmp_path / "a.spz"), ply.read(judged(command, tmp_path / "a.spz", tmp_path / "b.ply"))
    assert_within(ours, theirs, opacity=1e-5)
    ply.write(before, tmp_path / "c.ply")
    written = judged(command, tmp_path / "c.ply", tmp_path / "d.spz", "--spz-version", str(version))
    within(before, spz.read(written), 12)
