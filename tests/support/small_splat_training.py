"""A training of two thousand Gaussians at random places of a small capture, step by step."""

from pathlib import Path

import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.gaussians import PARAMETERS
from neuralfields.splatting.photos import training_photos
from neuralfields.trainers.radiance import Background
from neuralfields.trainers.splats import SplatTrainer
from tests.support.splats import random_gaussians


def small_splat_training(capture: Path, device: str = "cpu") -> SplatTrainer:
    """A trainer that grows to three thousand."""
    scene = read_scene(capture)
    photos, _ = training_photos(load_frames(scene, scene.train, None), scene.bounds, False)
    gaussians = random_gaussians(2000, degree=1)
    centre, side = torch.tensor(scene.bounds.centre), scene.bounds.side
    place = torch.rand(2000, 3, generator=torch.Generator().manual_seed(3)) - 0.5
    parts = {name: getattr(gaussians, name) for name in PARAMETERS}
    parts |= {"means": centre + side * place, "scales": torch.full((2000, 3), 0.03 * side).log()}
    parts |= {"opacities": torch.zeros(2000), "harmonics": torch.zeros(2000, 4, 3)}
    made, photos = type(gaussians)(**parts).to(device), [photo.to(device) for photo in photos]
    return SplatTrainer(made, photos, scene.bounds, Background((0.0, 0.0, 0.0), False), 3000, 0)
