"""PLY of Gaussians: nothing is lost, meshes are told apart, variants of other programs are read."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.codecs import ply
from neuralfields.codecs.splats import format_of, read_gaussians
from neuralfields.errors import InputError
from neuralfields.mesh.files import write_mesh
from neuralfields.mesh.mesh import Mesh
from tests.support.splat_files import assert_within
from tests.support.splats import random_gaussians

NAMES = [*ply.NEEDED[:6], "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]


def write_rows(
    path: Path, table: np.ndarray, names: list[str], form: str = "binary_little_endian", more: str = ""
) -> Path:
    """A PLY as another program writes it: float32 columns in any byte order or text."""
    head = f"ply\nformat {form} 1.0\n{more}element vertex {len(table)}\n"
    head += "".join(f"property float {name}\n" for name in names) + "end_header\n"
    if form == "ascii":
        text = io.StringIO()
        np.savetxt(text, table, "%.9g")
        body = text.getvalue().encode()
    else:
        body = table.astype("<f4" if "little" in form else ">f4").tobytes()
    path.write_bytes(head.encode() + body)
    return path


def same_bits(one, other) -> None:
    for name in ("means", "scales", "rotations", "opacities", "harmonics"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_same_bits_come_back(degree, tmp_path: Path):
    before = replace(random_gaussians(50, degree, extra=("confidence",)), antialiased=degree == 1)
    path = tmp_path / "a.ply"
    ply.write(before, path)
    after = ply.read(path)
    same_bits(before, after)
    assert torch.equal(after.extra["confidence"], before.extra["confidence"])
    assert after.antialiased == before.antialiased and after.notes == ()


def test_harmonics_are_stored_channel_by_channel(tmp_path: Path):
    """Fault 24: f_rest_0..14 are red's, in the order of the harmonics."""
    before = random_gaussians(1, 3)
    ply.write(before, tmp_path / "a.ply")
    row = np.frombuffer((tmp_path / "a.ply").read_bytes().split(b"end_header\n", 1)[1], "<f4")
    assert len(row) == 62
    h = before.harmonics[0].numpy()
    assert row[6:9].tolist() == h[0].tolist()
    assert row[9:24].tolist() == h[1:, 0].tolist() and row[24:39].tolist() == h[1:, 1].tolist()
    assert row[54:].tolist() == [before.opacities[0], *before.scales[0], *before.rotations[0]]


def test_extra_properties_of_every_type_stay(tmp_path: Path):
    count = 9
    kinds = {"a": torch.uint8, "b": torch.int16, "c": torch.int32, "d": torch.float64, "e": torch.int8}
    extra = {name: (torch.arange(count) + 100).to(kind) for name, kind in kinds.items()}
    extra["wide"] = torch.zeros(count, 2)  # not one number a Gaussian: a PLY has no place for it
    ply.write(replace(random_gaussians(count), extra=extra), tmp_path / "a.ply")
    after = ply.read(tmp_path / "a.ply")
    assert list(after.extra) == list(kinds)
    assert all(torch.equal(after.extra[name], extra[name]) and after.extra[name].dtype == kinds[name] for name in kinds)


@pytest.mark.parametrize("form", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_every_byte_order_and_text_are_read(form, tmp_path: Path):
    before = random_gaussians(20, 0)
    table = torch.cat(
        [before.means, before.harmonics[:, 0], before.opacities[:, None], before.scales, before.rotations], 1
    ).numpy()
    path = write_rows(tmp_path / "a.ply", table, NAMES, form)
    assert format_of(path) == "ply"
    same_bits(before, ply.read(path))
    crlf = path.read_bytes().split(b"end_header\n", 1)
    path.write_bytes(crlf[0].replace(b"\n", b"\r\n") + b"end_header\r\n" + crlf[1])
    same_bits(before, ply.read(path))


def test_flat_gaussians_and_degree_4_are_read_with_a_note(tmp_path: Path):
    table = np.random.default_rng(0).standard_normal((5, 14 + 72)).astype(np.float32)
    names = NAMES + [f"f_rest_{i}" for i in range(72)]
    found = ply.read(write_rows(tmp_path / "a.ply", table, names))
    assert found.degree == 3 and "degree 4" in found.notes[0]
    for channel in range(3):
        rest = torch.from_numpy(table[:, 14 + 24 * channel : 14 + 24 * channel + 15])
        assert torch.equal(found.harmonics[:, 1:, channel], rest)
    flat = [name for name in NAMES if name != "scale_2"]
    found = ply.read(write_rows(tmp_path / "b.ply", table[:, :13], flat))
    assert "2DGS" in found.notes[0] and torch.allclose(found.scales[:, 2].exp(), torch.tensor(1e-6))


@pytest.mark.parametrize("comment", ["comment SplatRenderMode: mip\n", "comment antialiased 1\n"])
def test_the_render_mode_is_carried(comment, tmp_path: Path):
    table = np.ones((2, 14), np.float32)
    assert ply.read(write_rows(tmp_path / "a.ply", table, NAMES, more=comment)).antialiased
    assert not ply.read(write_rows(tmp_path / "b.ply", table, NAMES)).antialiased


def test_a_mesh_is_no_splat(tmp_path: Path):
    path = tmp_path / "mesh.ply"
    write_mesh(path, Mesh(np.eye(3), np.array([[0, 1, 2]]), None))
    assert format_of(path) is None and not ply.recognises(path)
    with pytest.raises(InputError, match="is a PLY of a mesh"):
        read_gaussians(path)
    with pytest.raises(InputError, match=r"have no f_dc_0.*is it a mesh"):
        ply.read(path)


def test_known_files_read(shared_data: Path):
    """Counts and properties are those that plyfile found (the files' NOTICE)."""
    folder = shared_data / "splats" / "splat_small"
    if not folder.is_dir():
        pytest.skip("no splats in the shared data")
    for name, count, extra in (
        ("pc_short_100_sh3.ply", 100, []), ("fruit_drops_4721_sh3.ply", 4721, ["transform"]),
        ("kacytran_iter7000_9080_sh3.ply", 9080, []),
    ):  # fmt: skip
        found = read_gaussians(folder / name)
        assert (len(found), found.degree, list(found.extra), found.notes) == (count, 3, extra, ())
        found.require_sound()
    lengths = read_gaussians(folder / "fruit_drops_4721_sh3.ply").rotations.norm(dim=1)
    assert float((lengths - 1).abs().max()) > 0.1  # unnormalised ones are kept as they are


def test_a_known_file_comes_back_with_its_extra_property(shared_data: Path, tmp_path: Path):
    path = shared_data / "splats" / "splat_small" / "fruit_drops_4721_sh3.ply"
    if not path.is_file():
        pytest.skip("no splats in the shared data")
    before = read_gaussians(path)
    ply.write(before, tmp_path / "a.ply")
    after = read_gaussians(tmp_path / "a.ply")
    same_bits(before, after)
    assert torch.equal(before.extra["transform"], after.extra["transform"])
    assert_within(before, after)
