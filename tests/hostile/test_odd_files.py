"""Files that no reader expects: each is met with one line and an exit code, at once, whatever it holds."""

import json
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from neuralfields import cli
from neuralfields.captures.images import read_image
from neuralfields.captures.transforms import read_transforms
from neuralfields.codecs import describe_any, load_any
from neuralfields.errors import InputError, PosesNotFoundError
from neuralfields.files import printable
from neuralfields.mesh.files import read_mesh
from neuralfields.poses.find import accepted
from neuralfields.signals.sound import read_sound_signal, wav
from tests.support.make_media import deep_png
from tests.support.peak import at_most


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A reader that waits for a pipe would wait for ever."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(50)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


PIPES = {
    "a.nf": ("info", "a.nf"),
    "b.ingp": ("render", "b.ingp", "out.png"),
    "c.ply": ("info", "c.ply"),
    "a.png": ("fit", "a.png"),
    "a.exr": ("fit", "a.exr"),
    "a.wav": ("fit", "a.wav"),
    "a.mp4": ("fit", "a.mp4"),
    "a.obj": ("fit", "a.obj"),
    "transforms.json": ("check", "transforms.json"),
    "c/transforms.json": ("check", "c"),
    "d/sparse/0/cameras.txt": ("check", "d"),
    "e/poses_bounds.npy": ("check", "e"),
    "f/poses.json": ("fit", "f"),
    "photos/1.jpg": ("poses", "photos"),
}


@pytest.mark.parametrize("name", PIPES)
def test_a_pipe_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / name)
    if name.startswith("d/"):
        for other in ("images.txt", "points3D.txt"):
            (tmp_path / name).with_name(other).write_text("# none\n")
    assert cli.main([*PIPES[name]]) in (2, 3, 4)
    err = capsys.readouterr().err
    assert err.startswith("nf: error: ") and err.count("\n") == 1


def test_texts_of_others_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name may hold an escape sequence that clears the screen, or turns the text around."""
    bad = tmp_path / "a\x1b[2J\x1b]0;title\x07\u202ejpg"
    bad.mkdir()
    assert cli.main(["check", str(bad)]) == 3
    shown = capsys.readouterr().err
    assert "\\x1b[2J" in shown and "\\u202e" in shown and shown.rstrip("\n").isprintable()
    frames = [{"file_path": f"{i}\x1b[31m.png", "transform_matrix": torch.eye(4).tolist()} for i in range(3)]
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 9.0, "frames": frames}))
    assert cli.main(["check", str(tmp_path / "transforms.json")]) == 3
    assert "\x1b" not in capsys.readouterr().err
    assert printable("ein Öl\nΩ 写真") == "ein Öl\nΩ 写真"


def test_names_of_any_length_leave_one_line_that_can_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [{"file_path": "a.png", "transform_matrix": torch.eye(4).tolist()}] * 3
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 9.0, "camera_model": "x" * 9000, "frames": frames}))
    assert cli.main(["check", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert said.startswith("nf: error: ") and said.endswith("are\n") and len(said) < 1300 and " ... " in said


@pytest.mark.parametrize("index", ["1" * 200, "-" + "1" * 200, "1" * 5000, "99999999999999999999"])
def test_an_index_of_many_digits(tmp_path: Path, index: str) -> None:
    (tmp_path / "a.obj").write_text(f"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 {index}\n")
    with pytest.raises(InputError, match=r"a\.obj, line 4: .* is no vertex or face; export the mesh again"):
        read_mesh(tmp_path / "a.obj")


@pytest.mark.parametrize("name", ["cx", "cy"])
@pytest.mark.parametrize("value", [1e300, -1e300, 1e9])
def test_a_principal_point_beyond_reason(tmp_path: Path, name: str, value: float) -> None:
    frame = {"file_path": "a.png", "transform_matrix": torch.eye(4).tolist(), "k4": 0.1}
    (tmp_path / "transforms.json").write_text(json.dumps({"fl_x": 9.0, name: value, "frames": [frame] * 3}))
    with pytest.raises(InputError, match=f"{name} is .*; the principal point in pixels is needed"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("angle", [0.0, 1e-320, 4.0])
def test_an_angle_of_view_that_no_lens_has_is_named(tmp_path: Path, angle: float):
    """The least number above 0 made the focal length infinite."""
    frame = {"file_path": "a.png", "transform_matrix": torch.eye(4).tolist()}
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": angle, "frames": [frame] * 3}))
    with pytest.raises(InputError, match=r"camera_angle_x is .*; an angle in radians between 0\.0001 and pi is needed"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("scale", [0.0, 1e-320, 1e300])
def test_a_scale_that_no_world_has_is_named(tmp_path: Path, scale: float):
    """The least number above 0 made the cube infinite."""
    frames = [{"file_path": f"{i}.png", "transform_matrix": torch.eye(4).tolist()} for i in range(3)]
    for frame in frames:
        Image.new("RGB", (8, 6)).save(tmp_path / frame["file_path"])
    given = {"fl_x": 9.0, "aabb_scale": 4, "scale": scale, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(given))
    with pytest.raises(InputError, match=r"scale is .*; a number between 1e-9 and 1e9 is needed"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("value", ["a text", 3, [1, 2], {"a": 1}, None, True])
def test_weights_that_are_no_tensors(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.pt"
    torch.save({"network_fn_state_dict": {"pts_linears.0.weight": value}}, path)
    for use in (describe_any, load_any):
        with pytest.raises(InputError, match=r"is a \w+, a tensor is needed"):
            use(path)


@pytest.mark.parametrize(
    "text",
    [
        '{"level":"doubtful","reasons":3}', '{"level":"doubtful","reasons":[3]}', '{"level":3,"reasons":[]}', "[]",
        '{"level":"doubtful"}', "[" * 100_000, '{"reasons":' * 50_000, "\xff", "", "3",
        '{"level":"doubtful","reasons":null}',
    ],
)  # fmt: skip
def test_a_report_of_poses_that_is_none_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "poses.json").write_text(text, encoding="latin-1")
    accepted(tmp_path, False)
    (tmp_path / "poses.json").write_text('{"level": "doubtful", "reasons": ["few"], "more": 1}')
    with pytest.raises(PosesNotFoundError, match="the poses are doubtful: few"):
        accepted(tmp_path, False)


def test_a_sound_without_a_rate(tmp_path: Path) -> None:
    pytest.importorskip("av")
    data = bytearray(wav(torch.rand(2000, 1).numpy(), 8000))
    for rate, tag in ((0, 1), (8000, 0x5A5A)):  # no rate; a coding that no decoder knows
        data[24:28], data[20:22] = struct.pack("<I", rate), struct.pack("<H", tag)
        (tmp_path / "a.wav").write_bytes(data)
        with pytest.raises(InputError, match=r"a\.wav: "):
            read_sound_signal(tmp_path / "a.wav")


def test_a_chunk_that_claims_more_than_the_file_has(tmp_path: Path) -> None:
    """Pillow would ask for as many bytes as the chunk says before it looks: 4 GB for a file of 800 bytes."""
    data = bytearray(deep_png(torch.zeros(4, 4, 3).numpy()).replace(b"\x10\x02\0\0\0", b"\x08\x02\0\0\0", 1))
    at = data.index(b"IDAT")
    data[at - 4 : at] = b"\xff\xff\xff\xff"
    (tmp_path / "a.png").write_bytes(data)
    with at_most(50e6), pytest.raises(InputError, match="damaged or cut short"):
        read_image(tmp_path / "a.png")
