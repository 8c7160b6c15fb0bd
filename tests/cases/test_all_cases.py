"""The inputs that people bring, in `../shared/cases` (or NEURALFIELDS_CASES): each meets what its README expects.

A case is a folder with a README: a command and what is expected of it. Here each has one function, of the folder's
number, in which a copy of the folder is met by the command; a new case without a function fails.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neuralfields import cli
from neuralfields.captures.readers import read_scene
from neuralfields.mesh.files import read_mesh
from neuralfields.mesh.mesh import checked
from neuralfields.poses.photos import photo_files
from neuralfields.signals.readers import read_signal
from neuralfields.signals.sound import resampled

REPOSITORY = Path(__file__).parents[2]
SMALL = ("--threads", "1", "--quiet", "--field", "hash", "--set", "levels=4", "table=12", "finest=64", "hidden=32")


@dataclass(frozen=True)
class Nf:
    """`nf` in this process: its words in, exit code, standard output and standard error out."""

    capsys: pytest.CaptureFixture[str]
    model: Path

    def __call__(self, *words: object, code: int = 0) -> str:
        """All that is said, of a command that ends with that code, in one clear line where that is not 0."""
        got = cli.main([str(word) for word in words])
        out, err = self.capsys.readouterr()
        assert got == code, err
        assert "Traceback" not in err and "internal error" not in err
        if code:
            assert out == "" and err.startswith("nf: error: ") and err.count("\n") == 1
        return out + err


def case_01(nf: Nf, folder: Path) -> None:
    """Images of COLMAP's text without their second line are all read."""
    assert "12 photos, 10 to train on" in nf("check", folder)


def masked(meaning: str) -> Callable[[Nf, Path], None]:
    """Masks in the names of another program are used."""

    def case(nf: Nf, folder: Path) -> None:
        assert f"masks: 12, {meaning} is ignored" in nf("check", folder)
        assert f"12, {meaning} is ignored" in nf("fit", folder, "--dry-run")

    return case


def case_03(nf: Nf, folder: Path) -> None:
    """A capture about the origin is fitted: what 03a is compared with."""
    words = ("fit", folder, "--steps", 60, "--out", folder / "a.nf", "--recipe", "samples=4096", *SMALL, "--json")
    result = json.loads(nf(*words))
    assert result["steps"] == 60 and result["psnr"] > 6


def case_03a(nf: Nf, folder: Path) -> None:
    """Cameras in UTM metres keep their distances from each other to a thousandth of the scene."""
    assert "in double precision" in nf("check", folder)

    def distances(path: Path) -> np.ndarray:
        centres = np.stack([frame.camera.centre for frame in read_scene(path).frames]).astype(np.float32)
        return np.linalg.norm(centres[:, None] - centres, axis=2)

    near = next(folder.parent.glob("01-*"))
    assert np.abs(distances(folder) - distances(near)).max() < 1e-3


def case_04a(nf: Nf, folder: Path) -> None:
    """A room from inside is unbounded in either dialect."""
    assert read_scene(folder).bounds.contraction == "cube"
    text = json.loads((folder / "transforms.json").read_text())
    focal = 32 / np.tan(text.pop("camera_angle_x") / 2)
    text |= {"fl_x": focal, "fl_y": focal, "cx": 32, "cy": 24, "w": 64, "h": 48}
    before = read_scene(folder).bounds
    (folder / "transforms.json").write_text(json.dumps(text))
    assert read_scene(folder).bounds == before


def case_04c(nf: Nf, folder: Path) -> None:
    """A box that no camera sees is warned of."""
    for words in (("check", folder), ("fit", folder, "--dry-run")):
        assert "cameras see nothing of the box" in (said := nf(*words)) and "drop aabb_scale" in said


def case_05a(nf: Nf, folder: Path) -> None:
    """The fit repeats the warning of the check."""
    for words in (("check", folder), ("fit", folder, "--dry-run")):
        assert "have OpenCV axes (z forward)" in nf(*words)


def case_06(nf: Nf, folder: Path) -> None:
    """Frames 1, 2, ... 12 get brighter and brighter."""
    values = read_signal(folder, "video").values
    assert len(values) == 12 and (np.diff(values.reshape(12, -1).float().mean(1).numpy()) > 0).all()


def case_07(nf: Nf, folder: Path) -> None:
    """A film of 720 lines says BT.709 and limited range, and is so."""
    av = pytest.importorskip("av")
    from neuralfields.pictures.film import write_video

    write_video(folder / "a.mp4", [np.full((720, 1280, 3), (220, 30, 30), np.uint8)] * 2)
    with av.open(str(folder / "a.mp4")) as film:
        context = film.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.color_primaries) == (1, 1, 1)
        shown = next(film.decode(video=0)).to_ndarray(format="rgb24", src_colorspace="ITU709")
    assert np.abs(shown.astype(int) - (220, 30, 30)).max() <= 4


def case_08(nf: Nf, folder: Path) -> None:
    """9 kHz are no tone at a rate of 8000 samples a second."""
    pytest.importorskip("av")
    signal = read_signal(folder / "tone.wav")
    count = round(len(signal.values) * 8000 / signal.facts.rate)
    low = resampled(signal.values, count).numpy()
    heard = np.abs(np.fft.rfft(low[:, 0] * np.hanning(len(low))))
    hertz = np.fft.rfftfreq(len(low), 1 / 8000)
    assert heard[np.abs(hertz - 1000) < 20].max() < 0.01 * heard[np.abs(hertz - 500) < 20].max()


def case_10(nf: Nf, folder: Path) -> None:
    """A concave polygon is the same body as its triangles."""
    polygon, triangles = (checked(read_mesh(folder / name), name)[0] for name in ("Lpoly.obj", "Ltri.obj"))
    assert polygon.volume() == pytest.approx(triangles.volume(), rel=1e-6)
    assert polygon.areas().sum() == pytest.approx(triangles.areas().sum(), rel=1e-6)


def case_13(nf: Nf, folder: Path) -> None:
    """STL is read; other suffixes are named for what they are."""
    assert "shape" in nf("fit", folder / "cube.stl", "--dry-run")
    shutil.copy(folder / "cube.stl", folder / "a.gltf")
    assert "no glTF that is read" in nf("fit", folder / "a.gltf", "--dry-run", code=3)
    for suffix in (".fbx", ".dae", ".3mf"):
        shutil.copy(folder / "cube.stl", folder / f"a{suffix}")
        assert "a mesh, of a format that is not read; meshes are read from" in nf("fit", folder / f"a{suffix}", code=3)
    shutil.copy(folder / "cube.stl", folder / "a.gif")
    assert "an animation, of a format that is not read" in nf("fit", folder / "a.gif", code=3)


def case_14(nf: Nf, folder: Path) -> None:
    """The cameras of a transforms file are a path."""
    words = ("--width", 16, "--height", 12, "--quiet", "--json")
    assert json.loads(nf("render", nf.model, folder / "out", "--path", folder / "transforms.json", *words))["frames"]


def case_15(nf: Nf, folder: Path) -> None:
    """Depth as numbers, one a pixel."""
    words = ("--path", "held-out", "--what", "depth", "--quiet", "--width", 16, "--height", 12)
    nf("render", nf.model, folder / "depth.npy", *words)
    depth = np.load(folder / "depth_0000.npy")
    assert depth.dtype == np.float32 and depth.shape[-2:] == (12, 16)


def case_16(nf: Nf, folder: Path) -> None:
    """Frames with a time: fitted as a scene that moves, or as a still one where that is asked for."""
    moving, still = (read_scene(folder).bounds, read_scene(folder).still().bounds)
    assert moving.times is not None and still.times is None
    assert "times: from 0 to 1, in which the scene moves; nf fit --still takes none" in nf("check", folder)
    for words in ((), ("--still",)):
        nf("fit", folder, "--dry-run", "--field", "kplanes", *words)


def case_17b(nf: Nf, folder: Path) -> None:
    """Depth files: said, and how they are used."""
    for words in (("check", folder), ("fit", folder, "--dry-run")):
        assert "12 frames name depth files" in nf(*words)


def case_18(nf: Nf, folder: Path) -> None:
    """Metashape's file is named, not passed over."""
    assert "cameras.xml: Metashape's, but holds no aligned camera" in nf("fit", folder, "--dry-run", code=3)


def case_18b(nf: Nf, folder: Path) -> None:
    """RealityCapture's file is named, with the export that is read."""
    said = nf("fit", folder, "--dry-run", code=3)
    assert "cameras.csv looks like RealityCapture's poses" in said and "COLMAP" in said


def case_18c(nf: Nf, folder: Path) -> None:
    """The model under distorted/sparse/0 is found."""
    assert "12 photos" in nf("check", folder)


def case_21(nf: Nf, folder: Path) -> None:
    """Frames of uneven rates keep their times: 6.5 s stay about 6.5 s."""
    pytest.importorskip("av")
    signal = read_signal(folder / "vfr.mp4")
    assert len(signal.values) / signal.facts.fps == pytest.approx(6.5, abs=0.6)


def case_22(nf: Nf, folder: Path) -> None:
    """A room's mesh says what it leaves out, and a box takes it in."""
    out = folder / "room.nf"
    nf("fit", folder, "--steps", 60, "--out", out, "--recipe", "samples=4096", *SMALL)
    words = ("export", out, folder / "a.ply", "--resolution", 24, "--threshold", 0.5, "--overwrite")
    assert "--box for more" in nf(*words)
    side = read_scene(folder).bounds.side
    assert "--box for more" not in nf(*words, "--box", "-5,-4,-5,5,4,5")
    assert np.abs(read_mesh(folder / "a.ply").vertices).max() > side / 2 + 0.5


def case_23(nf: Nf, folder: Path) -> None:
    """A matrix K of each frame is read."""
    assert "12 photos of 64x48, perspective, field of view 56.1 x 43.6" in nf("check", folder)


def case_25(nf: Nf, folder: Path) -> None:
    """A finished fit is prolonged."""
    out, capture = folder / "a.nf", folder.with_name("03-twin-around-the-origin")
    words = ("fit", capture, "--out", out, "--recipe", "samples=4096", *SMALL, "--json")
    assert json.loads(nf(*words, "--steps", 10))["steps"] == 10
    assert json.loads(nf(*words, "--steps", 20, "--resume"))["steps"] == 20


def case_26(nf: Nf, folder: Path) -> None:
    """Photos of both cameras' folders are found."""
    found = photo_files(folder)
    assert len(found) == 12 and {path.parent.name for path in found} == {"cam0", "cam1"}
    assert "has no poses yet; run nf poses" in nf("fit", folder, "--dry-run", code=2)


def case_28(nf: Nf, folder: Path) -> None:
    """What a message advises is there: links into a store are followed with --allow-outside."""
    for link in (folder / "cap" / "images").iterdir():
        if not link.is_symlink():  # a copy of the cases without their links
            target = link.read_text()
            link.unlink()
            link.symlink_to(target)
    words = ("render", nf.model, folder / "out", "--scene", folder / "cap", "--frames", 1, "--width", 16, "--quiet")
    said = nf(*words, code=3)
    assert "--allow-outside" in said
    nf(*words, "--allow-outside")


def case_29(nf: Nf, folder: Path) -> None:
    """The same command again loses nothing: what lies in the checkpoint's place is not touched."""
    capture = folder.with_name("03-twin-around-the-origin")
    (folder / "a.nf.checkpoint").write_bytes(b"mine")
    said = nf("fit", capture, "--out", folder / "a.nf", "--steps", 3, *SMALL, code=2)
    assert "is in the place of the checkpoint" in said
    assert (folder / "a.nf.checkpoint").read_bytes() == b"mine"


def case_30(nf: Nf, folder: Path) -> None:
    """Hostile files: one line each, and a far camera ends."""
    far = ("render", nf.model, folder / "out", "--path", folder / "far_camera_1e6.json")
    assert "over 10000 times the scene's side away" in nf(*far)
    assert "cx is 1e+300" in nf("check", folder / "raw-5867__transforms.json", code=3)
    assert "is no vertex or face" in nf("fit", folder / "obj" / "raw-52__a.obj", "--dry-run", code=3)
    assert "object missing required field `frames`" in nf("fit", folder / "minimal_poses.json", "--dry-run", code=3)
    shutil.copy(folder / "mem-2438__a.img", folder / "a.png")
    nf("fit", folder / "a.png", "--dry-run", code=3)
    pytest.importorskip("av")
    assert "states no sample rate" in nf("fit", folder / "raw-289__a.wav", "--dry-run", code=3)
    nf("fit", folder / "raw-117__a.mp4", "--dry-run")


CASES = {name[5:]: case for name, case in list(globals().items()) if name.startswith("case_")}
CASES |= {"02a": masked("black"), "02d": masked("white"), "02e": masked("black")}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all cases that may be changed."""
    folder = Path(os.environ.get("NEURALFIELDS_CASES", REPOSITORY.parent / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip("the cases are not on this machine (set NEURALFIELDS_CASES)")
    copy = tmp_path_factory.mktemp("cases") / "cases"
    shutil.copytree(folder, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    return copy


SLOW = ("03", "22", "25")  # fits and meshes, each of which has tests of its own too


@pytest.mark.parametrize(
    "number", [pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES]
)
def test_a_case_is_met_as_its_readme_expects(
    number: str,
    cases: Path,
    tmp_path: Path,
    small_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [path for path in cases.iterdir() if re.match(rf"{number}(-|$)", path.name)]
    assert len(found) == 1, f"no case {number}"
    monkeypatch.chdir(tmp_path)
    CASES[number](Nf(capsys, small_file), found[0])


def test_every_case_has_its_test(cases: Path) -> None:
    numbers = {path.name.partition("-")[0] for path in cases.iterdir() if path.is_dir()}
    assert numbers == set(CASES)
