"""Signals: what is read, what a step draws, what a fit of each kind gives back, what is refused."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import neuralfields
from neuralfields import cli, fit, signal_shape, signal_training
from neuralfields.domain import Domain
from neuralfields.errors import InputError, InterruptedFit, UsageError
from neuralfields.marching import march
from neuralfields.mesh import Mesh, SurfaceSampler
from neuralfields.mesh_files import read_mesh, write_mesh
from neuralfields.model import load
from neuralfields.options import FitOptions
from neuralfields.pictures import save_image
from neuralfields.scene import Bounds
from neuralfields.signal_files import read_signal, signal_format
from neuralfields.signal_image import ImageFacts, picture, read_image_signal, upright
from neuralfields.signal_shape import ShapeFacts, ShapeSignal, ring, shape_mesh
from neuralfields.signal_sound import wav
from neuralfields.signal_video import VideoFacts, pictures
from neuralfields.signals import facts_of
from neuralfields.video import write_video
from tests.mesh_judge import PlainDistance
from tests.test_fit import Interrupting
from tests.test_images import png_header
from tests.test_marching import ball
from tests.test_mesh_distance import open3d

SMALL = ("levels=4", "table=10", "base=4", "hidden=16", "code=8")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch):
    """Steps of few samples in one thread."""
    monkeypatch.setattr(signal_training, "SAMPLES", 1 << 11)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def scene_picture(width: int = 48, height: int = 32) -> np.ndarray:
    """Nothing in it is symmetric: red grows to the right, green downwards, a blue block stands at the top left."""
    v, u = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * u / width, 255 * v / height, 0 * u], -1)
    pixels[2:10, 3:15] = (20, 40, 240)
    return pixels.round().astype(np.uint8)


def chosen(path: Path, steps: int = 250, **others) -> FitOptions:
    return FitOptions(scene=path, steps=steps, set=SMALL, threads=1, quiet=True, eval_every=0, **others)


def tone(seconds: float = 0.05, rate: int = 8000) -> np.ndarray:
    """Two channels [T, 2] that differ, at a quarter of full scale."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.25 * np.stack([np.sin(2 * np.pi * 220 * t), np.sin(2 * np.pi * 330 * t) * np.exp(-20 * t)], 1)


# ---------------------------------------------------------------- images


def test_a_picture_comes_back_the_right_way_round(tmp_path, capsys):
    """By the command line: fit, eval, render larger and smaller, export, info."""
    source, out = tmp_path / "scene.png", tmp_path / "a.nf"
    save_image(source, scene_picture())
    words = ["--steps", "200", "--set", *SMALL, "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(source), "--out", str(out), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "image" and report["psnr"] > 30
    assert cli.main(["eval", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == pytest.approx(report["psnr"], abs=1e-6)
    assert cli.main(["render", str(out), str(tmp_path / "big.png"), "--width", "96"]) == 0
    assert cli.main(["export", str(out), str(tmp_path / "small.jpg"), "--height", "16"]) == 0
    assert cli.main(["info", str(out)]) == 0
    assert "signal      image, channels 3, width 48, height 32" in capsys.readouterr().out
    for name, size in (("big.png", (96, 64)), ("small.jpg", (24, 16))):
        with Image.open(tmp_path / name) as image:
            assert image.size == size
            truth = Image.fromarray(scene_picture()).resize(size, Image.Resampling.BOX)
            error = np.asarray(image, dtype=float) - np.asarray(truth, dtype=float)
        assert np.abs(error).mean() < 6


def test_a_smaller_picture_is_an_average(tmp_path):
    """Stripes as fine as pixels become grey, not one of their two colours."""
    stripes = np.zeros((8, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    signal = read_image_signal(saved(tmp_path, stripes))
    model = fit.fit_scene(signal, chosen(signal.root, 250))
    small = picture(model.field, (64, 8), (16, 2))
    assert small.shape == (2, 16, 1) and np.abs(small.astype(int) - 100).max() < 12


def saved(folder: Path, pixels: np.ndarray, name: str = "a.png") -> Path:
    Image.fromarray(pixels).save(folder / name)
    return folder / name


def test_grey_alpha_and_16_bits(tmp_path):
    grey = scene_picture()[..., 0]
    assert read_image_signal(saved(tmp_path, grey)).values.shape == (32, 48, 1)
    deep = read_image_signal(saved(tmp_path, grey.astype(np.uint16) * 257, "b.png"))
    np.testing.assert_array_equal(deep.values[..., 0], grey)
    alpha = np.concatenate([scene_picture(), np.full((32, 48, 1), 255, np.uint8)], 2)
    assert read_image_signal(saved(tmp_path, alpha, "c.png")).domain.channels == 3  # opaque everywhere
    alpha[:5, :5, 3] = 0
    signal = read_image_signal(saved(tmp_path, alpha, "d.png"))
    assert signal.domain == Domain("image", 2, 4, (48, 32)) and signal.facts == ImageFacts(48, 32)
    y = torch.tensor([[0.2, 0.4, 0.6, 0.0], [0.2, 0.4, 0.6, 1.0]])
    wrong = y + torch.tensor([0.5, 0.5, 0.5, 0.0])
    assert signal.loss(wrong, y).tolist() == pytest.approx([0.0, 3 * 0.25 / 4])  # what is clear has no colour


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_stand_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(scene_picture()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        truth = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(read_image_signal(tmp_path / "a.png").values.numpy(), truth)
    np.testing.assert_array_equal(upright(scene_picture(), orientation), truth)


def test_a_step_draws_every_part_of_a_picture_alike(tmp_path):
    signal = read_image_signal(saved(tmp_path, scene_picture()))
    x, y = signal.batch(100, torch.Generator().manual_seed(1))
    again = signal.batch(100, torch.Generator().manual_seed(1))
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    column, row = (x[:, 0] * 48 - 0.5).round().long(), (x[:, 1] * 32 - 0.5).round().long()
    assert torch.equal(y, signal.values[row, column].float() / 255)
    index = row * 48 + column
    assert len(index.unique()) == 100 and bool((index / 15.36 - torch.arange(100)).abs().max() <= 1)
    every, _ = signal.batch(5000, torch.Generator())
    assert len(every) == 48 * 32


def test_the_python_api_fits_a_picture(tmp_path):
    path = saved(tmp_path, scene_picture())
    model = neuralfields.fit(path, steps=40, set=dict(s.split("=") for s in SMALL), threads=1, out=tmp_path / "a.nf")
    assert model.metrics["psnr"] > 15 and model.signal == {"width": 48, "height": 32}
    again = load(tmp_path / "a.nf")
    assert again.field.domain == model.field.domain and again.signal == model.signal
    with pytest.raises(UsageError, match="not looked at from cameras"):
        neuralfields.render(again, ring(Bounds((0.0, 0.0, 0.0), 1.0))[0])


def test_interrupted_and_resumed_the_bits_are_the_same(tmp_path):
    path = saved(tmp_path, scene_picture())
    signal, options = read_image_signal(path), chosen(path, 30, out=tmp_path / "a.nf")
    whole = fit.fit_scene(signal, replace(options, out=None))
    with pytest.raises(InterruptedFit, match="interrupted at step 12"):
        fit.fit_scene(signal, options, Interrupting(12))
    resumed = fit.fit_scene(signal, replace(options, resume=True))
    for name, tensor in whole.field.state_dict().items():
        assert torch.equal(tensor, resumed.field.state_dict()[name])
    other = saved(tmp_path, 255 - scene_picture(), "b.png")
    with pytest.raises(InterruptedFit):
        fit.fit_scene(signal, options, Interrupting(3))
    with pytest.raises(UsageError, match="was made with signal"):
        fit.fit_scene(read_image_signal(other), replace(options, resume=True))


# ---------------------------------------------------------------- videos


def clip(frames: int = 5) -> list[np.ndarray]:
    """The picture, its red channel rising with time."""
    base = scene_picture(32, 24).astype(int)
    return [(base * [k / frames, 1, 1]).astype(np.uint8) for k in range(1, frames + 1)]


def test_a_folder_of_frames_comes_back_in_order(tmp_path, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for k, frame in enumerate(clip()):
        save_image(folder / f"{k:03d}.png", frame)
    words = ["--format", "video", "--steps", "250", "--set", *SMALL, "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(folder), "--out", str(tmp_path / "a.nf"), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "video" and report["psnr"] > 26
    model = load(tmp_path / "a.nf")
    assert model.field.domain.lengths == (32, 24, 5) and model.signal["fps"] == 25.0
    facts = facts_of(model.signal, VideoFacts)
    for seen, truth in zip(pictures(model.field, facts), clip(), strict=True):
        assert np.abs(seen.astype(int) - truth).mean() < 10
    red = [frame[..., 0].mean() for frame in pictures(model.field, facts, (16, 12), 9)]
    assert len(red) == 9 and red == sorted(red)
    assert cli.main(["export", str(tmp_path / "a.nf"), str(tmp_path / "b.mp4"), "--width", "64", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["width"], written["height"], written["frames"], written["fps"]) == (64, 48, 5, 25.0)


def test_a_clip_is_decoded(tmp_path):
    pytest.importorskip("av")
    write_video(tmp_path / "a.mp4", [np.repeat(np.repeat(f, 4, 0), 4, 1) for f in clip()], 10)
    signal = read_signal(tmp_path / "a.mp4", downscale=4)
    assert signal.values.shape == (5, 24, 32, 3) and signal.facts.fps == 10
    assert np.abs(signal.values.numpy().astype(int) - np.stack(clip())).mean() < 6
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:300])
    with pytest.raises(InputError, match="has no video stream; give a clip"):
        read_signal(tmp_path / "cut.mp4")


def test_frames_of_two_sizes_are_refused(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    with pytest.raises(InputError, match="holds no frames"):
        read_signal(folder, "video")
    save_image(folder / "a.png", scene_picture())
    save_image(folder / "b.png", scene_picture(20, 20))
    with pytest.raises(InputError, match="frames of 20x20 and 48x32"):
        read_signal(folder, "video")


# ---------------------------------------------------------------- sounds


def test_a_sound_comes_back(tmp_path, capsys):
    pytest.importorskip("av")
    (tmp_path / "tone.wav").write_bytes(wav(tone(), 8000))
    words = ["--steps", "400", "--set", *SMALL, "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(tmp_path / "tone.wav"), "--out", str(tmp_path / "a.nf"), *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "sound" and report["snr"] > 20
    assert cli.main(["export", str(tmp_path / "a.nf"), str(tmp_path / "b.wav")]) == 0
    again, truth = read_signal(tmp_path / "b.wav"), read_signal(tmp_path / "tone.wav")
    assert again.facts.rate == 8000 and again.values.shape == truth.values.shape == (400, 2)
    assert truth.facts.gain == pytest.approx(0.25, abs=1e-3) and float(truth.values.abs().max()) == 1
    error = again.values * again.facts.gain - truth.values * truth.facts.gain
    snr = -10 * np.log10(float(error.square().mean() / (truth.values * truth.facts.gain).square().mean()))
    assert snr == pytest.approx(report["snr"], abs=0.3)
    assert cli.main(["export", str(tmp_path / "a.nf"), str(tmp_path / "c.wav"), "--rate", "16000"]) == 0
    assert read_signal(tmp_path / "c.wav").values.shape == (800, 2)
    capsys.readouterr()
    assert cli.main(["render", str(tmp_path / "a.nf"), str(tmp_path / "b.png")]) == 2
    assert "holds a field of sound; give a name that ends in .wav" in capsys.readouterr().err


def test_float_sounds_are_read_and_silence_is_refused(tmp_path):
    pytest.importorskip("av")
    samples = tone().astype("<f4")
    path = tmp_path / "a.wav"
    path.write_bytes(float_wav(samples, 8000))
    signal = read_signal(path)
    np.testing.assert_allclose(signal.values.numpy() * signal.facts.gain, samples, atol=1e-6)
    path.write_bytes(float_wav(samples * 0, 8000))
    with pytest.raises(InputError, match="is silent or empty"):
        read_signal(path)
    samples[7, 1] = np.nan
    path.write_bytes(float_wav(samples, 8000))
    with pytest.raises(InputError, match="1 samples are not finite"):
        read_signal(path)


def float_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of 32-bit floats, which the standard library does not write."""
    channels = samples.shape[1]
    head = struct.pack("<HHIIHH", 3, channels, rate, rate * 4 * channels, 4 * channels, 32)
    data = samples.tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


# ---------------------------------------------------------------- shapes


def ball_signal(monkeypatch: pytest.MonkeyPatch, values: str = "distance", colours: bool = False) -> ShapeSignal:
    """A ball of radius 0.3, with brute force in the place of Open3D."""
    monkeypatch.setattr(signal_shape, "MeshDistance", PlainDistance)
    monkeypatch.setattr(signal_shape, "LOOKED_AT", 1 << 9)
    monkeypatch.setattr(signal_shape, "JUDGED", 1 << 10)
    monkeypatch.setattr(signal_shape, "CHAMFER_RESOLUTION", 16)
    monkeypatch.setattr(signal_shape, "CHAMFER_POINTS", 1 << 8)
    mesh = march(ball, 16)
    if colours:
        mesh = Mesh(mesh.vertices, mesh.faces, np.tile(np.uint8([[250, 120, 10]]), (len(mesh.vertices), 1)))
    generator = torch.Generator().manual_seed(0)
    near = SurfaceSampler(mesh).draw(20000, generator).points + 0.02 * torch.randn(20000, 3, generator=generator)
    x = torch.cat([near, torch.rand(5000, 3, generator=generator)])
    y = ball(x)[:, None]
    y = torch.cat([y, torch.tensor([250, 120, 10]).expand(len(x), 3) / 255], 1) if colours else y
    facts = ShapeFacts(values, (0.2, 0.2, 0.2), (0.8, 0.8, 0.8))
    domain, bounds = Domain("shape", 3, 4 if colours else 1), Bounds((1.0, 2.0, 3.0), 10.0)
    parts = (mesh, PlainDistance(mesh), SurfaceSampler(mesh))
    return ShapeSignal("ball", Path("ball.obj"), domain, facts, bounds, *parts, (x, y))


@pytest.mark.parametrize("values", ["distance", "occupancy"])
def test_a_fitted_ball_is_a_ball(monkeypatch, values):
    signal = ball_signal(monkeypatch, values)
    model = fit.fit_scene(signal, replace(chosen(signal.root, 300), set=(*SMALL, "finest=32")))
    assert model.metrics["iou"] > 0.93 and model.metrics["chamfer"] < 0.02
    mesh = shape_mesh(model.field, signal.facts, 24)
    assert np.abs(np.linalg.norm(mesh.vertices - 0.5, axis=1) - 0.3).mean() < 0.01
    assert signal.held_out(model.field) is None if values == "occupancy" else signal.held_out(model.field) > 13
    seen = neuralfields.render(model, model.cameras[0].resized(48, 48))
    assert 0.1 < float((seen.opacity > 0).float().mean()) < 0.6 and len(model.cameras) == 12 and model.held_out == (0,)
    middle = np.linalg.norm(model.cameras[0].centre - (1.0, 2.0, 3.0))
    assert float(seen.depth[24, 24]) == pytest.approx(middle - 3.0, abs=0.3)


def test_colours_of_a_mesh_are_learned(monkeypatch):
    signal = ball_signal(monkeypatch, colours=True)
    model = fit.fit_scene(signal, replace(chosen(signal.root, 200), set=(*SMALL, "finest=32")))
    mesh = shape_mesh(model.field, signal.facts, 24)
    assert np.abs(mesh.colours.astype(int) - (250, 120, 10)).mean() < 12


def test_a_mesh_file_is_fitted_in_its_own_frame(tmp_path, capsys, monkeypatch):
    open3d()
    monkeypatch.setattr(signal_shape, "NEAR", ((0.02, 1 << 13), (0.005, 1 << 13)))
    monkeypatch.setattr(signal_shape, "ANYWHERE", 1 << 12)
    mesh = march(ball, 20)
    moved = Mesh(mesh.vertices * [30.0, 10.0, 20.0] + [100.0, -50.0, 7.0], mesh.faces)
    write_mesh(tmp_path / "egg.ply", moved)
    words = ["--steps", "300", "--set", *SMALL, "finest=32", "--threads", "1", "--quiet", "--json"]
    assert cli.main(["fit", str(tmp_path / "egg.ply"), "--out", str(tmp_path / "a.nf"), *words]) == 0
    assert json.loads(capsys.readouterr().out)["iou"] > 0.9
    assert cli.main(["eval", str(tmp_path / "a.nf"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iou"] > 0.9
    out = str(tmp_path / "b.obj")
    assert cli.main(["export", str(tmp_path / "a.nf"), out, "--resolution", "48"]) == 0
    low, high = read_mesh(tmp_path / "b.obj").box
    np.testing.assert_allclose(low, moved.box[0], atol=0.8)
    np.testing.assert_allclose(high, moved.box[1], atol=0.8)
    what = ["--what", "rgb", "normal", "depth", "--width", "40"]
    assert cli.main(["render", str(tmp_path / "a.nf"), str(tmp_path / "b.png"), *what]) == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (120, 40)


def test_a_sheet_has_no_inside(tmp_path):
    open3d()
    grid = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0), indexing="ij"), -1).reshape(-1, 2)
    vertices = np.concatenate([grid, (grid**2).sum(1, keepdims=True) / 9], 1)
    faces = [[0, 3, 1], [1, 3, 4], [1, 4, 2], [2, 4, 5], [3, 6, 4], [4, 6, 7], [4, 7, 5], [5, 7, 8]]
    write_mesh(tmp_path / "sheet.obj", Mesh(vertices, np.array(faces)))
    with pytest.raises(InputError, match="encloses no volume that rays agree on"):
        read_signal(tmp_path / "sheet.obj")


# ---------------------------------------------------------------- what is refused


def test_kinds_are_told_by_suffix_and_format(tmp_path):
    assert signal_format("a.PNG") == "image" and signal_format("a.obj") == "shape" and signal_format("a.mp4") == "video"
    assert signal_format("a.flac") == "sound" and signal_format("transforms.json") is None
    assert signal_format(tmp_path) is None and signal_format(tmp_path, "video") == "video"
    assert signal_format("a.obj", "occupancy") == "occupancy" and signal_format("a.png", "colmap") is None


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.png", b"", "is empty; copy it again"),
        ("a.png", b"no picture at all", "not a readable image"),
        ("bomb.png", png_header(20000, 20000), "million pixels"),
        ("a.wav", b"RIFF no sound at all", "not a readable sound"),
        ("a.mp4", b"no video at all", "not a readable video"),
        ("a.obj", b"v 1 2 3\n", "1 vertices and no faces"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv nan 1 2\nf 1 2 3\n", "1 of 3 vertices are not finite"),
        ("missing.png", None, "no such file or folder"),
    ],
)
def test_hostile_files_are_refused_in_a_line(tmp_path, capsys, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    assert cli.main(["fit", str(tmp_path / name), "--out", str(tmp_path / "x.nf"), "--quiet"]) == 3
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and name in err
    assert not (tmp_path / "x.nf").exists()


def test_options_that_do_not_fit_are_refused(tmp_path):
    path = saved(tmp_path, scene_picture())
    (tmp_path / "a.wav").write_bytes(wav(tone(), 8000))
    with pytest.raises(UsageError, match=r"--format image: .* is a folder"):
        read_signal(tmp_path, "image")
    with pytest.raises(UsageError, match="--downscale: divides the size of images and videos; a sound has none"):
        read_signal(tmp_path / "a.wav", downscale=2)
    with pytest.raises(UsageError, match="is no signal"):
        read_signal(tmp_path / "a.json")
    with pytest.raises(UsageError, match="--view shows scenes"):
        fit.fit_scene(read_signal(path), replace(chosen(path), view=True))


def test_facts_of_a_file_are_not_trusted():
    with pytest.raises(InputError, match=r"signal: .*width"):
        facts_of({"width": -3, "height": 2}, ImageFacts)
    with pytest.raises(InputError, match=r"signal: .*more"):
        facts_of({"width": 3, "height": 2, "more": 1}, ImageFacts)


def test_another_source_is_refused_by_eval(tmp_path, capsys):
    path = saved(tmp_path, scene_picture())
    fit.fit_to_file(read_signal(path), chosen(path, 2, out=tmp_path / "a.nf"))
    other = saved(tmp_path, scene_picture(20, 10), "b.png")
    assert cli.main(["eval", str(tmp_path / "a.nf"), "--scene", str(other)]) == 3
    assert "give the source that it was fitted to" in capsys.readouterr().err


def test_dry_run_says_what_would_be_done(tmp_path, capsys):
    path = saved(tmp_path, scene_picture())
    assert cli.main(["fit", str(path), "--dry-run"]) == 0
    assert "kind         image" in capsys.readouterr().out


# ---------------------------------------------------------------- real files


def test_real_files_are_read(shared_data):
    folder = shared_data / "signals"
    if not folder.is_dir():
        pytest.skip("no signals in the shared data")
    kodak = read_signal(folder / "images" / "kodak" / "kodim23.png")
    assert kodak.domain == Domain("image", 2, 3, (768, 512))
    sound = read_signal(folder / "audio" / "gt_counting.wav")
    assert sound.facts.rate == 44100 and 12 < sound.facts.samples / 44100 < 12.5
    film = read_signal(folder / "video" / "bunny_frames_640x360", "video")
    assert film.domain.lengths == (640, 360, 16)


def test_the_bunny_with_holes_is_said_and_read(shared_data, monkeypatch):
    open3d()
    path = shared_data / "signals" / "meshes" / "bunny.obj"
    if not path.is_file():
        pytest.skip("no meshes in the shared data")
    monkeypatch.setattr(signal_shape, "NEAR", ((0.02, 1 << 10),))
    monkeypatch.setattr(signal_shape, "ANYWHERE", 1 << 10)
    bunny = read_signal(path)
    assert "not watertight (42 border edges" in bunny.warnings[0]
    assert 0.05 < float((bunny.pool[1][1024:] < 0).float().mean()) < 0.4
