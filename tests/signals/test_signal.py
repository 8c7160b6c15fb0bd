"""Signals of any kind: which one a file holds, what is refused, real files."""

from dataclasses import replace

import pytest

from neuralfields import cli
from neuralfields.domain import Domain
from neuralfields.errors import InputError, UsageError
from neuralfields.fields import field_class
from neuralfields.options import training as training_options
from neuralfields.signals import shape as signal_shape
from neuralfields.signals.image import ImageFacts
from neuralfields.signals.readers import read_signal, signal_format
from neuralfields.signals.signal import facts_of
from neuralfields.signals.sound import wav
from neuralfields.training.fit import fit_scene, fit_to_file
from neuralfields.training.plan import SIGNAL_STEPS, plan_fit, signal_steps
from neuralfields.training.signals import SignalTrainer
from tests.support.make_captures import png_header
from tests.support.shapes import open3d
from tests.support.small_signals import chosen, saved, scene_picture, small_steps, tone

__all__ = ["small_steps"]  # used by every test here


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
        fit_scene(read_signal(path), replace(chosen(path), view=True))


def test_what_is_slow_to_ask_learns_in_many_small_steps(tmp_path):
    signal, taken = read_signal(saved(tmp_path, scene_picture(64, 48))), {}
    for name in ("hash", "mlp"):
        kind = field_class(name)
        training = SignalTrainer(kind(kind.Config(), signal.domain), signal, 0)
        taken[name] = training.step(0.0).samples
        assert taken[name] * signal_steps(kind) == training_options.DEFAULT.signal_samples * SIGNAL_STEPS
    assert taken["hash"] == 16 * taken["mlp"] == 1 << 11


def test_facts_of_a_file_are_not_trusted():
    with pytest.raises(InputError, match=r"signal: .*width"):
        facts_of({"width": -3, "height": 2}, ImageFacts)
    with pytest.raises(InputError, match=r"signal: .*more"):
        facts_of({"width": 3, "height": 2, "more": 1}, ImageFacts)


def test_another_source_is_refused_by_eval(tmp_path, capsys):
    path = saved(tmp_path, scene_picture())
    fit_to_file(plan_fit(chosen(path, 2, out=tmp_path / "a.nf"), read_signal(path)))
    other = saved(tmp_path, scene_picture(20, 10), "b.png")
    assert cli.main(["eval", str(tmp_path / "a.nf"), "--scene", str(other)]) == 3
    assert "give the source that it was fitted to" in capsys.readouterr().err


def test_dry_run_says_what_would_be_done(tmp_path, capsys):
    path = saved(tmp_path, scene_picture())
    assert cli.main(["fit", str(path), "--dry-run"]) == 0
    assert "kind         image" in capsys.readouterr().out


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
