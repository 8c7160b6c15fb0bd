"""Evaluation protocol: by which cameras, exposure and masks views are measured, following the fit's options.

poses refined     training views by their refined cameras; held-out views by test-time pose optimisation (held_out.py)
exposure learned  every view in its own exposure, each half of it by the gain of the other (supervision/exposure.py);
                  by an affine map of colours where appearance is learned
masks             those of the folder that the fit was given, where the capture has none
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuralfields.cameras import Camera
from neuralfields.captures.images import LoadedFrames
from neuralfields.captures.mask_folder import cut_by_masks, with_masks
from neuralfields.evaluation.held_out import align_cameras, transfer_cameras
from neuralfields.models.model import Model
from neuralfields.scene import Scene
from neuralfields.supervision.exposure import Learned, learned_of


@dataclass(frozen=True)
class Viewing:
    """Protocol of an evaluation: `cameras` to render, `given` cameras, how views are `exposed`, in words.

    `convention`: empty where nothing is adjusted; the cameras are then the given ones.
    """

    cameras: list[Camera]
    given: list[Camera]
    exposed: Learned = ""
    convention: str = ""


def masked_like_fit(scene: Scene, model: Model) -> tuple[Scene, list[str]]:
    """Adds the masks of the fit to a scene; a warning where they are missing."""
    recorded, means = model.made.get("masks"), model.made.get("mask_means")
    if not recorded and means == "keep" and any(frame.mask_path for frame in scene.frames):
        return cut_by_masks(scene), []
    if not recorded:
        return scene, []
    if not Path(recorded).is_dir():
        return scene, [f"{recorded}: the masks of the fit are not there; every pixel is measured"]
    return with_masks(scene, Path(recorded), model.made["mask_means"]), []


def viewing(model: Model, scene: Scene, loaded: LoadedFrames, colour: tuple[float, ...]) -> Viewing:
    """Chooses the protocol for the loaded photos of a scene; `colour`: the background."""
    exposed = learned_of(model.made)
    words = [f"each half of a view in the {exposed} fitted on its other half"] if exposed else []
    cameras = given = loaded.cameras
    if model.made.get("refine_poses"):
        given = _in_refined_world(model, scene, loaded)
        trained = _refined(model)
        new = [k for k, index in enumerate(loaded.indices) if scene.frames[index].name not in trained]
        cameras = list(given)
        if new:
            chosen = replace(loaded, cameras=given).some(new)
            for k, camera in zip(new, align_cameras(model.renderable(), chosen, chosen.cameras, colour), strict=True):
                cameras[k] = camera
            words.insert(0, "cameras of held-out views aligned to the fixed field (test-time pose optimisation)")
    return Viewing(cameras, given, exposed, "; ".join(words))


def _refined(model: Model) -> dict[str, Camera]:
    """Training cameras of the model by name."""
    held_out = set(model.held_out)
    return {n: c for k, (n, c) in enumerate(zip(model.camera_names, model.cameras, strict=True)) if k not in held_out}


def _in_refined_world(model: Model, scene: Scene, loaded: LoadedFrames) -> list[Camera]:
    """Refined cameras of training photos; those of the others transferred to the refined world."""
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
