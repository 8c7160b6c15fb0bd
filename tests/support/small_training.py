"""A training of a few thousand parameters on the small capture, step by step."""

from functools import cache

import torch

from neuralfields.captures.images import LoadedFrames, load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.fields.hash import Config, HashField
from neuralfields.pictures.metrics import psnr_from_mse
from neuralfields.rendering.volume import finish
from neuralfields.scene import Scene
from neuralfields.supervision.pixels import Pixels
from neuralfields.trainers import radiance as training
from neuralfields.trainers.radiance import Background, RadianceTrainer
from tests.support.small_fit import small_capture_folder

WHITE = (1.0, 1.0, 1.0)
SMALL = Config(levels=4, table=12, finest=64, hidden=32)


@cache
def small_scene() -> tuple[Scene, LoadedFrames, LoadedFrames]:
    """The small capture, its training photos and its held-out photos."""
    scene = read_scene(small_capture_folder())
    return scene, load_frames(scene, scene.train), load_frames(scene, scene.test)


def small_training(seed: int = 0, kind: type[HashField] = HashField, config: Config = SMALL) -> RadianceTrainer:
    """A training of a few thousand parameters on the small capture."""
    scene, loaded, _ = small_scene()
    torch.manual_seed(seed)
    pixels = Pixels(loaded.images, loaded.cameras, loaded.masks)
    return RadianceTrainer(kind(config), scene.bounds, pixels, Background(WHITE, random=True), seed)


def steps(what: RadianceTrainer, count: int, of: int = 300) -> list[training.StepReport]:
    return [what.step(what.step_count / of) for _ in range(count)]


def same_bits(one: RadianceTrainer, two: RadianceTrainer) -> None:
    """Asserts that two trainings would go on alike."""
    assert one.counters() == two.counters()
    other = two.tensors()
    for name, tensor in one.tensors().items():
        assert torch.equal(tensor, other[name]), name


@torch.no_grad()
def held_out_psnr(what: RadianceTrainer, pixels: int = 10**6) -> float:
    """Over at most so many pixels of the held-out views of the small capture, on white."""
    _, _, loaded = small_scene()
    batch = Pixels(loaded.images, loaded.cameras).every(pixels)
    picture = finish(what.volume.sums(batch.rays), torch.tensor(WHITE), 1.0)
    return psnr_from_mse(float((picture.rgb - batch.over(torch.tensor(WHITE))).square().mean()))
