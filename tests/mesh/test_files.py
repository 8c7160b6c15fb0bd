"""OBJ and PLY files: what is read, what comes back, what is refused."""

import struct

import numpy as np
import pytest

from neuralfields.errors import InputError, UsageError
from neuralfields.mesh.files import read_mesh, write_mesh
from neuralfields.mesh.mesh import faults
from tests.support.shapes import CUBE, QUADS, box


@pytest.mark.parametrize("suffix", [".obj", ".ply"])
@pytest.mark.parametrize("colours", [False, True])
def test_files_come_back(tmp_path, suffix, colours):
    mesh = box(colours)
    write_mesh(tmp_path / f"a{suffix}", mesh)
    again = read_mesh(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.vertices, mesh.vertices)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    if colours:
        np.testing.assert_array_equal(again.colours, mesh.colours)
    else:
        assert again.colours is None


def test_obj_with_polygons_textures_and_negative_indices(tmp_path):
    lines = [f"v {x} {y} {z}" for x, y, z in CUBE] + ["vt 0 0", "vn 0 0 1", "o thing", "# a comment"]
    lines += ["f " + " ".join(f"{c + 1}/1/1" for c in quad) for quad in QUADS[:3]]
    lines += ["f " + " ".join(f"{c - 8}//1" for c in quad) for quad in QUADS[3:]]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.volume() == pytest.approx(6) and faults(mesh).watertight


HEAD = "ply\nformat {} 1.0\nelement vertex 8\nproperty float x\nproperty float y\nproperty float z\n"
LITTLE = "binary_little_endian"
FACES = "element face 6\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("triangles_too", [False, True])
def test_ply_of_every_order(tmp_path, order, triangles_too):
    polygons = [*QUADS[1:], [0, 1, 3], [0, 3, 2]] if triangles_too else QUADS
    head = HEAD.format(order) + FACES.replace("face 6", f"face {len(polygons)}")
    sign = ">" if "big" in order else "<"
    if order == "ascii":
        rows = [*CUBE.tolist(), *([len(p), *p] for p in polygons)]
        body = "\n".join(" ".join(map(str, row)) for row in rows).encode()
    else:
        body = b"".join(struct.pack(sign + "3f", *v) for v in CUBE)
        body += b"".join(struct.pack(f"{sign}B{len(p)}i", len(p), *p) for p in polygons)
    (tmp_path / "a.ply").write_bytes(head.encode() + body)
    mesh = read_mesh(tmp_path / "a.ply")
    assert mesh.volume() == pytest.approx(6) and faults(mesh).watertight
    (tmp_path / "b.ply").write_bytes(head.encode() + body[:-9])
    with pytest.raises(InputError, match=r"element face .* is cut short or damaged"):
        read_mesh(tmp_path / "b.ply")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.obj", b"", "is empty"),
        ("a.obj", b"\x00\x01\x02 rubbish", "no vertices and no faces"),
        ("a.obj", b"v 0 0 0\nv 1 x 0\n", "line 2: 'v 1 x 0' is no vertex"),
        ("a.obj", b"v 0 0\nf 1 1 1\n", "fewer than three coordinates"),
        ("a.ply", b"solid thing", "not a PLY file"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex many\nend_header\n", "'element vertex many' is not"),
        ("a.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty half x\nend_header\n", "not understood"),
        ("a.ply", HEAD.format("ascii").encode() + b"end_header\n" + b"0 0 0\n" * 8, "no faces"),
        ("a.ply", HEAD.replace("8", "999999999999").format(LITTLE).encode() + b"end_header\n", "cut short"),
        ("a.ply", (HEAD.format(LITTLE) + FACES.replace("6", "99999999999")).encode() + bytes(97), "cut short"),
        ("a.ply", (HEAD.format("ascii") + FACES).encode() + b"0 " * 24 + b"3 0 1", "cut short"),
    ],
)  # fmt: skip
def test_hostile_mesh_files_are_refused_in_a_line(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_mesh(tmp_path / name)


def test_other_suffixes_and_missing_files(tmp_path):
    with pytest.raises(UsageError, match=r"read from \.obj and \.ply"):
        read_mesh(tmp_path / "a.stl")
    with pytest.raises(InputError, match="no such file"):
        read_mesh(tmp_path / "a.obj")
    with pytest.raises(UsageError, match=r"written as \.obj or \.ply"):
        write_mesh(tmp_path / "a.stl", box())
