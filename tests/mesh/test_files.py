"""OBJ and PLY files: what is read, what comes back, what is refused."""

import re
import struct

import numpy as np
import pytest

from neuralfields import cli
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
    with pytest.raises(UsageError, match=r"read from \.obj, \.ply, \.stl, \.off, \.glb and \.gltf"):
        read_mesh(tmp_path / "a.fbx")
    with pytest.raises(InputError, match="no such file"):
        read_mesh(tmp_path / "a.obj")
    with pytest.raises(UsageError, match=r"written as \.obj or \.ply"):
        write_mesh(tmp_path / "a.stl", box())


L = [(0, 0), (3, 0), (3, 1), (1, 1), (1, 3), (0, 3)]  # of area 5; a fan from (0, 0) is right, from (3, 0) it is not


def prism(turn: int) -> tuple[list[tuple[float, float, float]], list[list[int]]]:
    """A prism over the L, its polygons beginning at the given corner."""
    corners, count = [*L[turn:], *L[:turn]], len(L)
    vertices = [(x, y, z) for z in (0.0, 1.0) for x, y in corners]
    sides = [[i, (i + 1) % count, (i + 1) % count + count, i + count] for i in range(count)]
    return vertices, [list(range(count))[::-1], list(range(count, 2 * count)), *sides]


@pytest.mark.parametrize("turn", range(6))
@pytest.mark.parametrize("suffix", [".obj", ".ply", ".off"])
def test_concave_polygons_keep_their_outline(tmp_path, turn, suffix):
    vertices, faces = prism(turn)
    places, rows = [" ".join(map(str, v)) for v in vertices], [" ".join(map(str, [len(f), *f])) for f in faces]
    text = {
        ".obj": [*(f"v {p}" for p in places), *("f " + " ".join(str(i + 1) for i in f) for f in faces)],
        ".ply": [HEAD.format("ascii").replace("vertex 8", "vertex 12") + FACES.replace("face 6", "face 8").strip()],
        ".off": ["OFF # a comment", f"{len(places)} {len(rows)} 0"],
    }[suffix]
    text += [] if suffix == ".obj" else places + rows
    (tmp_path / f"a{suffix}").write_text("\n".join(text))
    mesh = read_mesh(tmp_path / f"a{suffix}")
    assert len(mesh.faces) == 4 + 4 + 12
    assert mesh.volume() == pytest.approx(5) and faults(mesh).watertight
    assert mesh.areas().sum() == pytest.approx(2 * 5 + 12)  # triangles beyond the outline would add to it


def test_a_spiral_is_clipped_without_overlap(tmp_path):
    angle = np.linspace(0, 4 * np.pi, 60)
    spiral = [np.stack([r * np.cos(angle), r * np.sin(angle)], 1) for r in (1 + angle, 1.8 + angle)]
    outline = np.concatenate([spiral[1], spiral[0][::-1]])
    x, y = outline.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    lines = [f"v {a} {b} {0.3 * a}" for a, b in outline] + ["f " + " ".join(map(str, range(1, len(outline) + 1)))]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    assert read_mesh(tmp_path / "a.obj").areas().sum() == pytest.approx(area * np.sqrt(1.09))


def test_obj_with_comments_continued_lines_and_colours_of_bytes(tmp_path):
    lines = ["v 0 0 0 255 0 0 # red", "v 1 0 0 0 \\", "  255 0", "v 0 1 0 0 0 51", "f 1 2 \\", "3 # whole"]
    (tmp_path / "a.obj").write_text("\n".join(lines))
    mesh = read_mesh(tmp_path / "a.obj")
    assert mesh.faces.tolist() == [[0, 1, 2]]
    assert mesh.colours.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 51]]


@pytest.mark.parametrize("text", [True, False])
def test_stl(tmp_path, text):
    corners = box(False).corners.astype("<f4")
    if text:
        body = "".join(
            "facet normal 0 0 0\nouter loop\n"
            + "".join(f"vertex {x} {y} {z}\n" for x, y, z in triangle)
            + "endloop\nendfacet\n"
            for triangle in corners
        )
        data = f"solid a\n{body}endsolid a\n".encode()
    else:
        rows = b"".join(bytes(12) + triangle.tobytes() + bytes(2) for triangle in corners)
        data = b"solid, says a binary one".ljust(80) + struct.pack("<I", len(corners)) + rows
    (tmp_path / "a.stl").write_bytes(data)
    mesh = read_mesh(tmp_path / "a.stl")
    assert mesh.volume() == pytest.approx(6) and faults(mesh).watertight and len(mesh.vertices) == 8
    (tmp_path / "b.stl").write_bytes(data[: len(data) // 2] if not text else data.replace(b"vertex", b"vert", 1))
    with pytest.raises(InputError):
        read_mesh(tmp_path / "b.stl")


def test_off_that_lies_is_refused(tmp_path):
    for number, text in enumerate(
        ["OFF\n9 9 0\n0 0 0\n", "OFF\n-1 2 0\n", "COFF\n", "OFF\n1 1 0\n0 0 0\n3 0 0\n", "OFF"]
    ):
        (tmp_path / f"{number}.off").write_text(text)
    for number in (0, 1, 2, 4):
        with pytest.raises(InputError):
            read_mesh(tmp_path / f"{number}.off")


@pytest.mark.parametrize(("suffix", "says"), [(".fbx", "a mesh, .*read from .obj"), (".gif", "an animation, .*frames")])
def test_other_files_are_named_for_what_they_are(tmp_path, capsys, suffix, says):
    (tmp_path / f"a{suffix}").write_bytes(b"glTF")
    assert cli.main(["fit", str(tmp_path / f"a{suffix}"), "--dry-run"]) == 3
    assert re.search(says, capsys.readouterr().err)
