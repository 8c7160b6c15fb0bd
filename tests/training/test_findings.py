"""What a fit says at its end: each finding with a scene that has it, and none for one that has not."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.mask_folder import with_masks
from neuralfields.captures.readers import read_scene
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.panels import save_image
from neuralfields.rays import Render
from neuralfields.rendering.renderable import Colour
from neuralfields.scene import Bounds
from neuralfields.training.findings import Looks, findings, judged, look
from neuralfields.verbs import fit
from tests.support.make_captures import transforms
from tests.support.small_fit import SMALL, tiny_capture_folder

BLACK = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Flat:
    """A renderable of one grey, opacity and depth everywhere."""

    grey: float
    opacity: float = 1.0
    depth: float = 4.0

    @property
    def bounds(self) -> Bounds:
        return Bounds((0.0, 0.0, 0.0), 3.0)

    def render(self, camera: Camera, background: Colour) -> Render:
        shape = camera.height, camera.width
        full = [torch.full(shape, value) for value in (self.opacity, self.depth)]
        return Render(torch.full((*shape, 3), self.grey), *full)


def views(grey: int, count: int = 3, distance: float = 4.0) -> LoadedFrames:
    pose = np.eye(4)
    pose[2, 3] = -distance
    camera = Camera(pose, 90, 70, 100.0, 100.0, 45, 35)
    images = [np.full((70, 90, 3), grey, np.uint8) for _ in range(count)]
    return LoadedFrames(images, [camera] * count, [None] * count, list(range(count)), [])


def test_a_look_measures_small_renders() -> None:
    seen = look(Flat(0.5), BLACK, views(102))
    assert seen.psnr == pytest.approx(20.0, abs=0.2)  # 0.5 against 0.4, in 8 bits
    assert (seen.opacity, seen.close) == (1.0, 0.0)
    assert look(Flat(0.5, depth=0.3), BLACK, views(102)).close == 1.0  # of a way of 4
    assert look(Flat(0.5, opacity=0.1, depth=0.3), BLACK, views(102)).close == 0.0
    assert look(Flat(0.5), BLACK, LoadedFrames([], [], [], [], [])) is None


def test_a_look_counts_only_what_masks_keep() -> None:
    half = np.arange(90)[None] < np.full((70, 1), 45)
    loaded = views(102)
    images = [np.where(half[..., None], image, 0).astype(np.uint8) for image in loaded.images]
    masked = replace(loaded, images=images, masks=[half] * 3)
    assert look(Flat(0.5), BLACK, masked).psnr == pytest.approx(20.0, abs=0.2)
    assert look(Flat(0.5), BLACK, replace(masked, masks=[np.zeros((70, 90), bool)] * 3)) is None


def test_each_failure_is_said_and_a_good_fit_says_nothing() -> None:
    assert judged(Looks(30, 0.4, 0.0, 30), Looks(27, 0.4, 0.01, 27.4)) == []
    gap = judged(Looks(28, 0.4, 0.0, 28), Looks(16.6, 0.4, 0.0, 16.6))
    assert len(gap) == 1 and "28.0 dB, held-out views 16.6" in gap[0] and "--refine-poses" in gap[0]
    close = judged(Looks(25, 0.9, 0.0, 25), Looks(22, 0.9, 0.3, 22))
    assert len(close) == 1 and close[0].startswith("30% of the pixels") and "--clean" in close[0]
    assert "renders are empty" in judged(Looks(9, 0.001, 0.0, 9), None)[0] and judged(None, None) == []


def mask_folder(folder: Path, names: list[str], middle: int, border: int) -> Path:
    picture = np.full((24, 32, 3), border, np.uint8)
    picture[6:18, 8:24] = middle
    folder.mkdir()
    for name in names:
        save_image(folder / f"{Path(name).stem}.png", picture)
    return folder


def test_masks_without_effect_and_masks_of_an_object(tmp_path: Path) -> None:
    transforms(tmp_path / "capture")
    scene, options = read_scene(tmp_path / "capture"), FitOptions(tmp_path)
    names = [frame.name for frame in scene.frames]

    def said(folder: Path, means: str) -> str:
        masked = with_masks(scene, folder, means)
        loaded = load_frames(masked, range(8), 1)
        return "\n".join(findings(masked, options, (Flat(0.5), BLACK), loaded, None))

    assert "no effect: they keep every pixel" in said(mask_folder(tmp_path / "all", names, 255, 255), "keep")
    thing = said(mask_folder(tmp_path / "thing", names, 0, 255), "ignore")
    assert "the masks keep 25% of the pixels, an object" in thing and "--mask-means keep makes it empty" in thing
    assert "mask" not in said(mask_folder(tmp_path / "passers", names, 255, 0), "ignore").replace("masks keep", "")


def test_the_warnings_of_check_come_again_at_the_end(tmp_path: Path) -> None:
    transforms(tmp_path / "capture")
    scene = replace(read_scene(tmp_path / "capture"), warnings=("a", "a", "b"))
    loaded = load_frames(scene, range(8), 1)
    flat = replace(loaded, images=[np.full_like(image, 7) for image in loaded.images])
    found = findings(scene, FitOptions(tmp_path), (Flat(0.5), BLACK), flat, None)
    assert found[:2] == ["a", "b"] and found[2].startswith("8 photos have nothing in them")


def test_the_fit_s_json_and_text_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_steps: None) -> None:
    options = FitOptions(
        tiny_capture_folder(),
        out=tmp_path / "a.nf",
        steps=3,
        threads=1,
        field="hash",
        set=SMALL,
        eval_every=0,
        quiet=True,
    )
    monkeypatch.setattr("neuralfields.training.findings.findings", lambda *_: ["first", "second"])
    before = torch.get_num_threads()
    result = fit.run(options)
    torch.set_num_threads(before)
    assert result["warnings"] == ["first", "second"]
    assert fit.text(result).endswith("\nwarning: first\nwarning: second")


def test_photos_in_other_exposures_are_told() -> None:
    """A scene of one grey: photos twice as bright or half as bright are right in their own exposure alone."""
    cameras = [Camera(np.eye(4), 64, 64, 64.0, 64.0, 32.0, 32.0)] * 2
    images = [np.full((64, 64, 3), value, dtype=np.uint8) for value in (51, 204)]
    shown = look(Flat(0.4), BLACK, LoadedFrames(images, cameras, [None, None], [0, 1], []))
    assert shown.psnr < 12 and shown.exposed > 40
    said = judged(shown, shown)
    assert len(said) == 1 and "--exposure" in said[0] and judged(shown, shown, learned=True) == []
