"""Images, sounds, shapes and meshes in the viewer: what is seen of them, beside the file that they were fitted to."""

import io
import wave
from dataclasses import replace
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import torch
from PIL import Image

from neuralfields.cameras import Camera, look_at
from neuralfields.errors import UsageError
from neuralfields.mesh.files import write_mesh
from neuralfields.models.nf_file import save
from neuralfields.pictures.film import write_video
from neuralfields.rays import Rays
from neuralfields.rendering.billboard import Billboard
from neuralfields.rendering.mesh_view import MeshView
from neuralfields.rendering.surface import AMBIENT
from neuralfields.serving.server import Server
from neuralfields.serving.signals import mesh_of, picture_of, renderer_of, sound_of, waveform
from neuralfields.serving.stage import stage_of
from neuralfields.signals.readers import read_signal
from neuralfields.signals.sound import wav
from neuralfields.training.fit import fit_scene
from tests.serving.test_server import page, talk
from tests.support.shapes import box, open3d
from tests.support.small_signals import SMALL, chosen, saved, scene_picture, small_steps, tone  # noqa: F401

BEHIND = (0.2, 0.4, 0.6)


def before(place: tuple[float, float, float], down: tuple[float, float, float] = (0.0, -1.0, 0.0)) -> Camera:
    """A camera of 48 x 32 that looks at the origin, its focal length 32."""
    return Camera(look_at(np.array(place), np.zeros(3), np.array(down)), 48, 32, 32.0, 32.0, 24.0, 16.0)


def test_a_picture_s_pixels_stay_where_they_are(tmp_path: Path) -> None:
    """From one picture's height away a lens whose focal length is the height sees pixel on pixel."""
    pixels = scene_picture()
    shown = picture_of(saved(tmp_path, pixels))
    seen = shown.renderable.render(before((0.0, 0.0, -1.0)), BEHIND)
    assert torch.equal((seen.rgb * 255).round().to(torch.uint8), torch.from_numpy(pixels))
    assert bool((seen.opacity == 1).all()) and float(seen.depth[16, 24]) == pytest.approx(1, abs=1e-3)
    assert seen.normal[0, 0].tolist() == [0, 0, -1]
    whole = shown.renderable.render(shown.home, BEHIND)
    assert 0.8 < float(whole.opacity.mean()) < 0.95  # all of it, with a margin
    behind = shown.renderable.render(before((0.0, 0.0, 1.0)), BEHIND)
    assert torch.equal(behind.rgb, seen.rgb.flip(1))


def test_alpha_and_a_box() -> None:
    board = Billboard(lambda u: torch.cat([u, u[:, :1] * 0 + 0.5, u[:, 1:]], 1), 1.0)
    rays = Rays(torch.tensor([[0.25, 0.0, -1.0], [2.0, 0.0, -1.0]]), torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3))
    seen = board.render_rays(rays, BEHIND)
    expected = 0.5 * torch.tensor([0.75, 0.5, 0.5]) + 0.5 * torch.tensor(BEHIND)
    assert torch.allclose(seen.rgb[0], expected) and seen.opacity.tolist() == [0.5, 0.0]
    assert torch.allclose(seen.rgb[1], torch.tensor(BEHIND))


def test_a_crop_cuts_a_surface_and_shows_what_is_behind(tmp_path: Path) -> None:
    open3d()
    write_mesh(tmp_path / "box.ply", box())
    shown = mesh_of(tmp_path / "box.ply", origin=(0.5, 1.0, 1.5))
    look, camera = renderer_of(shown), before((0.0, 0.0, -4.0))
    whole = look(camera, BEHIND, None)
    assert float(whole.depth[16, 24]) == pytest.approx(2.5, abs=0.01)  # its front, at z = -1.5
    cut = look(camera, BEHIND, ((-1.0, -1.0, 0.0), (1.0, 1.0, 9.0)))
    assert float(cut.depth[16, 24]) == pytest.approx(5.5, abs=0.01)  # the inside of its back
    gone = look(camera, BEHIND, ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)))
    assert float(gone.opacity[16, 24]) == 0 and torch.allclose(gone.rgb[16, 24], torch.tensor(BEHIND))


def test_a_mesh_is_lit_and_coloured_by_its_vertices() -> None:
    open3d()
    mesh = box(colours=True)
    view = MeshView(mesh)
    origin = torch.tensor([[-3.0, 0.4, 0.9]])
    seen = view.render_rays(Rays(origin, torch.tensor([[1.0, 0.0, 0.0]])), BEHIND)
    corners = mesh.colours[[0, 1, 3, 2]].astype(float)  # of the face x = 0, cut into 0 1 3 and 0 3 2
    y, z = 0.4 / 2, 0.9 / 3
    expected = (1 - z) * corners[0] + (z - y) * corners[1] + y * corners[2]
    assert np.allclose(seen.rgb[0].numpy() * 255, expected, atol=0.6)
    assert seen.normal[0].tolist() == [-1, 0, 0] and float(seen.depth) == pytest.approx(3)
    steep = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0, 0.5]]), dim=1)
    slanted = view.render_rays(Rays(torch.tensor([[-1.0, 0.4, 0.4]]), steep), BEHIND)
    assert torch.allclose(slanted.rgb[0], seen.rgb[0] * (AMBIENT + (1 - AMBIENT) * steep[0, 0]), atol=1e-3)


def test_a_waveform_is_as_high_as_the_sound() -> None:
    t = np.arange(8000) / 8000
    picture = waveform(np.stack([np.sin(2 * np.pi * 50 * t), 0 * t], 1).astype(np.float32))
    assert picture.shape == (720, 1600, 3)
    inked = (picture == picture[180, 0]).all(2)
    assert inked[:360].any(1).sum() > 350 and inked[360:].sum(0).max() <= 4


def test_a_fitted_image_stands_beside_its_original(tmp_path: Path) -> None:
    path = saved(tmp_path, scene_picture())
    model = fit_scene(read_signal(path), chosen(path, steps=60))
    save(model, tmp_path / "a.nf")
    stage = stage_of([tmp_path / "a.nf"])
    assert [subject.name for subject in stage.subjects] == ["a.nf", "a.png"] and stage.notes == []
    told = stage.describe()
    assert told["up"] == [0, -1, 0] and told["cameras"] == [] and "error" not in told["modes"]
    seen = [subject.render(before((0.0, 0.0, -1.0)), BEHIND, None).rgb for subject in stage.subjects]
    assert float((seen[0] - seen[1]).abs().mean()) < 0.1 and float(seen[1].std()) > 0.2
    path.unlink()
    assert len(stage_of([tmp_path / "a.nf"]).subjects) == 1


def test_a_sound_is_seen_and_heard(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(), 8000))
    shown = sound_of(tmp_path / "a.wav")
    assert shown.facts == {"sound": "0.05 s, 8000 Hz, 2 channels"}
    server = Server(stage_of([tmp_path / "a.wav", saved(tmp_path, scene_picture())]), port=0, threads=1)

    async def work(web: aiohttp.ClientSession, base: str) -> bytes:
        async with page(web, base) as one:
            assert [subject["sound"] for subject in (await one.next("stage"))["subjects"]] == [True, False]
        async with web.get(base + "sound/1") as answer:
            assert answer.status == 404
        async with web.get(base + "sound/0") as answer:
            assert answer.status == 200 and answer.content_type == "audio/wav"
            return await answer.read()

    try:
        heard = talk(server, work)
    finally:
        server.close()
    with wave.open(io.BytesIO(heard)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 2, 400)
        values = np.frombuffer(file.readframes(400), "<i2").reshape(-1, 2) / 32767
    assert np.abs(values - tone()).max() < 1e-3


def test_a_fitted_shape_and_its_mesh(tmp_path: Path) -> None:
    open3d()
    write_mesh(tmp_path / "box.obj", box())
    path = tmp_path / "box.obj"
    model = fit_scene(read_signal(path), replace(chosen(path, steps=150), set=(*SMALL, "finest=32")))
    save(model, tmp_path / "a.nf")
    stage = stage_of([tmp_path / "a.nf"])
    assert [subject.name for subject in stage.subjects] == ["a.nf", "box.obj"] and stage.describe()["up"] == [0, 1, 0]
    camera = before((0.0, 0.0, -6.0))
    moved = camera.moved(np.array([0.5, 1.0, 1.5]))
    seen = [subject.render(moved, BEHIND, None).opacity for subject in stage.subjects]
    together, either = (seen[0] * seen[1]).sum(), (seen[0] + seen[1]).clamp(max=1).sum()
    assert float(together) > 0.8 * float(either) > 0.8 * 20


def test_a_film_is_seen_at_its_time(tmp_path: Path) -> None:
    """Four frames of two seconds: the frame of the time that is asked for, the field's beside it."""
    frames = np.stack([np.roll(scene_picture(), 12 * i, 1) for i in range(4)])
    write_video(tmp_path / "a.mp4", iter(frames), 2.0)
    model = fit_scene(read_signal(tmp_path / "a.mp4"), chosen(tmp_path / "a.mp4", steps=60))
    save(model, tmp_path / "a.nf")
    stage = stage_of([tmp_path / "a.nf"])
    assert stage.describe()["times"] == [0, 2]
    for index, frame in enumerate(frames):
        camera = replace(before((0.0, 0.0, -1.0)), time=0.5 * index + 0.3)
        field, film = (255 * subject.render(camera, BEHIND, None).rgb.numpy() for subject in stage.subjects)
        assert np.abs(film - frame).mean() < 8 and np.abs(field - frame).mean() < 40
        assert np.abs(film - frames[(index + 1) % 4]).mean() > 20


def test_what_is_not_shown_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.gif")
    with pytest.raises(Exception, match=r"a\.gif"):
        stage_of([tmp_path / "a.gif"])
    with pytest.raises(UsageError, match="nothing was given"):
        stage_of([])


def test_the_mesh_of_a_far_shape_stands_where_its_field_does(tmp_path: Path) -> None:
    """Both are about the model's origin: float32 would deform what is thousands of sides away."""
    open3d()
    mesh = box()
    write_mesh(tmp_path / "far.ply", replace(mesh, vertices=mesh.vertices + np.array([5e5, 0.0, -2e5])))
    path = tmp_path / "far.ply"
    model = fit_scene(read_signal(path), replace(chosen(path, steps=2), set=(*SMALL, "finest=32")))
    assert any(model.bounds.origin)
    save(model, tmp_path / "a.nf")
    for given in ([tmp_path / "a.nf"], [tmp_path / "a.nf", path]):
        shown = stage_of(given).subjects[1].shown
        assert np.abs(np.array(shown.renderable.bounds.centre) - np.array(model.bounds.centre)).max() < 0.5
