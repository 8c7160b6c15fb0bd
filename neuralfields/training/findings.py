"""What a finished fit says of itself: each way it may have failed in one line, with the option to try.

Vocabulary
  gap      training PSNR minus held-out PSNR, in dB, of small renders of some views
  close    an opaque pixel of a held-out view whose depth is a small part of the way to the middle of the scene
  exposed  PSNR of a view in its photo's own exposure: each half by the gain that the other half shows
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuralfields.captures.check import check_pixels
from neuralfields.captures.images import LoadedFrames, downscale
from neuralfields.captures.preview import leaves_object, preview_of
from neuralfields.models.model import Model
from neuralfields.options.fit import FitOptions
from neuralfields.pictures.background import over
from neuralfields.pictures.metrics import psnr
from neuralfields.rendering.renderable import Colour, Renderable
from neuralfields.scene import Scene
from neuralfields.supervision.exposure import by_other_half

VIEWS, SHORT_SIDE, MOST_PHOTOS = 4, 64, 60
GAP = 6.0  # dB
BRIGHTNESS = 0.5  # dB that views gain in their photos' own exposure
CLOSE, CLOSE_SHARE = 0.1, 0.02  # of the way to the middle of the scene; of the pixels
EMPTY, OPAQUE = 0.01, 0.5  # opacity
KEEPS_ALL = 0.999  # share of the pixels that masks keep


@dataclass(frozen=True)
class Looks:
    """Small renders of some views: mean PSNR in dB, mean opacity, the share of close pixels, and PSNR if exposed."""

    psnr: float
    opacity: float
    close: float
    exposed: float


def look(scene: Renderable, colour: Colour, loaded: LoadedFrames) -> Looks | None:
    """Renders a few views, evenly chosen, at about 64 pixels a side; None if there are none."""
    scores, opacity, close, exposed = [], [], [], []
    step = max(1, -(-len(loaded.images) // VIEWS))
    centre = np.array(scene.bounds.centre)
    for image, camera, mask in list(zip(loaded.images, loaded.cameras, loaded.masks, strict=True))[::step]:
        factor = max(1, min(image.shape[:2]) // SHORT_SIDE)
        photo = downscale(image, factor)
        small = camera.resized(photo.shape[1], photo.shape[0])
        keep = None if mask is None else downscale(mask.astype(np.uint8) * 255, factor) == 255
        if keep is not None and not keep.any():
            continue
        values = photo[..., :3].astype(np.float32) / 255
        if photo.shape[2] == 4:
            values = over(values, photo[..., 3].astype(np.float32) / 255, np.asarray(colour, dtype=np.float32))
        seen = scene.render(small, colour)
        rgb, solid, depth = seen.rgb.cpu().numpy(), seen.opacity.cpu().numpy(), seen.depth.cpu().numpy()
        behind = (1 - solid)[..., None] * np.asarray(colour, dtype=np.float32)
        scores.append(psnr(rgb, values, keep))
        exposed.append(psnr(by_other_half(rgb - behind, behind, values, keep), values, keep))
        opacity.append(float(solid.mean()))
        limit = CLOSE * float(np.linalg.norm(camera.centre - centre))
        close.append(float(np.mean((solid > OPAQUE) & (depth < limit))))
    return Looks(*(float(np.mean(values)) for values in (scores, opacity, close, exposed))) if scores else None


def findings(
    scene: Scene,
    options: FitOptions,
    rendered: tuple[Renderable, Colour],
    loaded: LoadedFrames,
    held_out: LoadedFrames | None,
) -> list[str]:
    """All that a fit has to say at its end, one line each: the scene's own warnings, then what its renders show."""
    renderable, colour = rendered
    lines = [*scene.warnings, *_of_pixels(scene, loaded), *_of_masks(scene, options, loaded)]
    training = look(renderable, colour, loaded)
    unseen = None if held_out is None else look(renderable, colour, held_out)
    learned = options.exposure or options.appearance
    lines += [line for line in judged(training, unseen, learned) if line not in lines]
    return list(dict.fromkeys(lines))


def with_findings(
    model: Model,
    scene: Scene,
    options: FitOptions,
    rendered: tuple[Renderable, Colour],
    photos: tuple[LoadedFrames, LoadedFrames | None],
    remarks: Sequence[str] = (),
) -> Model:
    """The model with its findings in its record, as `warnings`, if there are any.

    `photos`: training, held out. `remarks`: of the steps, first.
    """
    found = [*remarks, *findings(scene, options, rendered, *photos)]
    return replace(model, made=model.made | {"warnings": found}) if found else model


def judged(training: Looks | None, unseen: Looks | None, learned: bool = False) -> list[str]:
    """What the renders of training and of held-out views show; `learned`: each photo's exposure was."""
    seen, lines = unseen or training, []
    if seen is not None and seen.opacity < EMPTY:
        lines.append("renders are empty: the box holds nothing that the photos show; check the poses, or give --box")
    if training is not None and unseen is not None and training.psnr - unseen.psnr > GAP:
        lines.append(
            f"training views reach {training.psnr:.1f} dB, held-out views {unseen.psnr:.1f}: photos are learned one by"
            " one, not a scene; try --refine-poses, a tighter --box, or more photos"
        )
    if unseen is not None and not learned and unseen.exposed - unseen.psnr > BRIGHTNESS:
        lines.append(
            f"held-out views are at {unseen.psnr:.1f} dB as photographed, at {unseen.exposed:.1f} in each photo's own"
            " exposure: the camera changed it; try --exposure"
        )
    if seen is not None and seen.close > CLOSE_SHARE:
        lines.append(
            f"{seen.close:.0%} of the pixels of unseen views show something close to the camera (floaters); try a"
            " tighter --box, or nf edit --clean"
        )
    return lines


def _of_pixels(scene: Scene, loaded: LoadedFrames) -> list[str]:
    """The warnings of `nf check` on pixels, of some of the photos that are in memory anyway."""
    step = max(1, -(-len(loaded.images) // MOST_PHOTOS))
    chosen = list(zip(loaded.images, loaded.masks, loaded.indices, strict=True))[::step]
    seen = [preview_of(scene.frames[index].name, image, mask) for image, mask, index in chosen]
    ignores = any(frame.mask_ignores for frame in scene.frames)
    return [f"{p.message}; {p.remedy}" for p in check_pixels(seen, ignores) if p.level != "note"]


def _of_masks(scene: Scene, options: FitOptions, loaded: LoadedFrames) -> list[str]:
    """Masks that change nothing, and masks of one object whose surroundings are only left out."""
    cut = any(scene.frames[index].mask_cuts for index in loaded.indices)
    kept = _kept(loaded.masks) if not cut else [float((i[..., 3] > 0).mean()) for i in loaded.images if i.shape[2] == 4]
    if not kept:
        return []
    mean = float(np.mean(kept))
    if mean >= KEEPS_ALL:
        return ["the masks have no effect: they keep every pixel; check their polarity, or leave them out"]
    objects = [leaves_object(mask) for mask in loaded.masks if mask is not None]
    if not cut and options.mask_means is None and 2 * sum(objects) > len(objects):
        return [
            f"the masks keep {mean:.0%} of the pixels, an object; around it the scene is not learned and may be fog;"
            " --mask-means keep makes it empty"
        ]
    return []


def _kept(masks: Sequence[np.ndarray | None]) -> list[float]:
    return [float(mask.mean()) for mask in masks if mask is not None]
