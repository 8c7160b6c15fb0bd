"""By which cameras, and in which exposure, a model's views are measured: as the fit's own adjustments ask.

poses refined     a training photo by its refined camera; any other by the camera that is found for it (held_out.py)
exposure learned  every photo in its own exposure, each half of it with the gain of the other (supervision/exposure.py)
masks             those of the folder that the fit was given, where the capture has none
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.captures.mask_folder import with_masks
from neuralfields.evaluation.held_out import align_cameras, transfer_cameras
from neuralfields.models.model import Model, volume_of
from neuralfields.scene import Scene


@dataclass(frozen=True)
class Viewing:
    """The `cameras` to measure by, those `given`, whether photos are `exposed`, and the `convention` in words.

    Where nothing is adjusted `convention` is empty and the cameras are the given ones.
    """

    cameras: list[Camera]
    given: list[Camera]
    exposed: bool = False
    convention: str = ""


def masked_like_fit(scene: Scene, model: Model) -> tuple[Scene, list[str]]:
    """The scene with the masks of the fit, and a warning where they are gone."""
    recorded = model.made.get("masks")
    if not recorded:
        return scene, []
    if not Path(recorded).is_dir():
        return scene, [f"{recorded}: the masks of the fit are not there; every pixel is measured"]
    return with_masks(scene, Path(recorded), model.made["mask_means"]), []


def viewing(model: Model, scene: Scene, loaded: LoadedFrames, colour: tuple[float, ...]) -> Viewing:
    """How the loaded photos of a scene are to be measured on a model; `colour` lies behind both."""
    exposed = bool(model.made.get("exposure"))
    words = ["each half of a view in the exposure found on its other half"] if exposed else []
    cameras = given = loaded.cameras
    if model.made.get("refine_poses"):
        given = _in_refined_world(model, scene, loaded)
        trained = _refined(model)
        new = [k for k, index in enumerate(loaded.indices) if scene.frames[index].name not in trained]
        cameras = list(given)
        if new:
            chosen = LoadedFrames(
                [loaded.images[k] for k in new], [given[k] for k in new], [loaded.masks[k] for k in new], new, []
            )
            for k, camera in zip(new, align_cameras(volume_of(model), chosen, chosen.cameras, colour), strict=True):
                cameras[k] = camera
            words.insert(0, "cameras of views that were not trained on aligned to the field as it stands")
    return Viewing(cameras, given, exposed, "; ".join(words))


def _refined(model: Model) -> dict[str, Camera]:
    """The model's training cameras by name."""
    held_out = set(model.held_out)
    return {n: c for k, (n, c) in enumerate(zip(model.camera_names, model.cameras, strict=True)) if k not in held_out}


def _in_refined_world(model: Model, scene: Scene, loaded: LoadedFrames) -> list[Camera]:
    """Refined cameras of photos that were trained on, the others taken along."""
    trained = _refined(model)
    both = [frame for frame in scene.frames if frame.name in trained]
    others: Sequence[Camera] = loaded.cameras
    if both:
        pairs = [frame.camera for frame in both], [trained[frame.name] for frame in both]
        others = transfer_cameras(loaded.cameras, *pairs)
    names = [scene.frames[index].name for index in loaded.indices]
    return [
        replace(camera, world_from_camera=trained[name].world_from_camera) if name in trained else camera
        for name, camera in zip(names, others, strict=True)
    ]
