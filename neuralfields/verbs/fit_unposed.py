"""`nf fit` of photos or a film that have no poses yet: finds them, then hands over the posed scene.

Which input this is: a folder with photos and without poses, by looking; a film only when it is asked for with
--format photos, since a film by itself is fitted as a video.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from neuralfields.captures.readers import read_scene
from neuralfields.errors import UsageError
from neuralfields.options.captures import PoseSettings
from neuralfields.options.fit import FitOptions
from neuralfields.poses.find import accepted, default_capture, find_poses
from neuralfields.poses.photos import photo_folder
from neuralfields.poses.stages import StageDisplay
from neuralfields.scene import Scene

PHOTOS = "photos"


def unposed(path: Path, format: str | None) -> bool:
    """Whether poses have to be found first."""
    return format == PHOTOS or (format is None and photo_folder(path) is not None)


def posed_scene(options: FitOptions) -> Scene:
    """The scene with poses found, or kept from an earlier run; named as the photos are.

    The capture lies beside the output, <output>-capture. Raises what find_poses raises, and PosesNotFoundError when
    the poses are doubtful and that was not accepted.
    """
    capture = _capture_of(options)
    if options.dry_run:
        raise UsageError(f"--dry-run: {options.scene} has no poses yet; run nf poses {options.scene} first")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{options.scene}: has no poses yet; run nf poses {options.scene} before torchrun")
    print(f"{options.scene}: photos without poses; the posed capture goes to {capture}", file=sys.stderr)
    find_poses(options.scene, capture, PoseSettings(threads=options.threads), StageDisplay(options.quiet))
    accepted(capture, options.accept_doubtful_poses)
    return replace(read_scene(capture), name=default_capture(options.scene).name.removesuffix("-capture"))


def _capture_of(options: FitOptions) -> Path:
    if options.out is None:
        return default_capture(options.scene)
    return options.out.with_name(f"{options.out.stem}-capture")
