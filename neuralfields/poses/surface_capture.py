"""Refines the poses of a capture by a surface: `nf poses CAPTURE --refine surface` (surface_refine.py).

  posed capture with a COLMAP model -> cameras, tracks of keypoints -> refinement -> another posed capture

The capture that is written holds transforms.json, images/, sparse.ply (the points on the surface) and poses.json (the
report); photos are linked, or copied where links are not possible.
"""

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from neuralfields.cameras import CAMERA_AXES, Camera
from neuralfields.captures.colmap import model_folders, most_images
from neuralfields.captures.colmap_files import read_cameras_bin, read_images_bin
from neuralfields.captures.readers import read_scene
from neuralfields.errors import InputError, UsageError
from neuralfields.files import OutputLock, atomic_write_bytes, plain
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.poses.surface_refine import Refined, refine
from neuralfields.poses.tracks import Tracks, read_tracks
from neuralfields.progress import StageDisplay
from neuralfields.scene import Frame, Scene

LENS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FEWEST = 50  # tracks that a surface can be fitted to


def refine_capture(
    source: Path, out: Path, seed: int, display: StageDisplay, overwrite: bool = False
) -> dict[str, Any]:
    """Refines the capture `source` and writes the capture `out`; returns the report.

    Raises InputError where the capture has no matches, UsageError where `out` is in use.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]) and not overwrite:
        raise UsageError(f"{out}: is there already; add --overwrite, or choose another folder with --out")
    if out.resolve() == source.resolve():
        raise UsageError(f"--out {out}: is the capture itself; choose another folder")
    begun = time.perf_counter()
    scene, tracks, used = matched(source)
    cameras = [scene.frames[index].camera for index in used]
    poses = torch.from_numpy(np.stack([camera.world_from_camera for camera in cameras]))
    lens = torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in cameras], dtype=torch.float64)
    display.note(f"{'matches':<10} {len(tracks):,} keypoints in {tracks.points:,} tracks of {len(used)} photos")
    found = refine(poses, lens, tracks, seed)
    report = found.report | {"path": str(out), "source": str(source), "photos": len(used)}
    report["line"] = line_of(report)
    out.mkdir(parents=True, exist_ok=True)
    with OutputLock(out / "transforms.json"):
        write_capture(out, scene, dict(zip(used, found.bundle.poses.numpy(), strict=True)))
        atomic_write_bytes(out / "sparse.ply", _ply(_points(found, tracks)))
        report["seconds"] = time.perf_counter() - begun
        atomic_write_bytes(out / "poses.json", json.dumps(plain(report), indent=1).encode())
    return report


def line_of(report: dict[str, Any]) -> str:
    """The report in words."""
    before, after = report["held_out_before"], report["held_out_after"]
    change = f"{before:.3f} -> {after:.3f} pixels on {report['held_out']} keypoints that were held out"
    what = "poses refined" if report["refined"] else "the given poses stay, refined ones are no better"
    return f"{what}: {change}; {report['outliers']} of {report['observations']} keypoints are outliers"


def matched(source: Path) -> tuple[Scene, Tracks, list[int]]:
    """A capture, the tracks of its COLMAP model as an ideal pinhole sees them, and its frames in their order.

    Raises InputError where there is no model with matches, or its photos are not those of the capture.
    """
    scene = read_scene(source)
    folders = model_folders(scene.root)
    model = most_images(folders) if folders else None
    if model is None or not (model / "images.bin").is_file():
        raise InputError(
            f"{source}: has no COLMAP model with matches (sparse/0/images.bin); find poses first: nf poses PHOTOS"
        )
    tracks, names = read_tracks(model / "images.bin")
    images = {image.name: image for image in read_images_bin(model / "images.bin").values()}
    lenses = read_cameras_bin(model / "cameras.bin")
    frames = _frames_of(scene, names)
    used = [index for index in frames if index is not None]
    if len(used) < 3:
        raise InputError(f"{source}: the photos of {model} are not those of the capture; export the model again")
    number = torch.full((len(names),), -1)
    number[torch.tensor([i for i, index in enumerate(frames) if index is not None])] = torch.arange(len(used))
    tracks = replace(tracks.take(number[tracks.camera] >= 0))
    xy, camera = tracks.xy.clone(), number[tracks.camera]
    for place, index in enumerate(used):
        known = scene.frames[index].camera
        theirs = lenses[images[names[frames.index(index)]].camera_id]
        mine = camera == place
        scaled = xy[mine] * torch.tensor([known.width / theirs.width, known.height / theirs.height])
        xy[mine] = flattened(known, scaled)
    kept = torch.isfinite(xy).all(1)
    tracks = Tracks(camera[kept], tracks.point[kept], xy[kept], tracks.points)
    if int((tracks.lengths() >= 2).sum()) < FEWEST:
        raise InputError(f"{source}: only {int((tracks.lengths() >= 2).sum())} points; a surface needs {FEWEST}")
    return scene, tracks, used


def flattened(camera: Camera, xy: torch.Tensor) -> torch.Tensor:
    """Pixels of a camera [M, 2] where a pinhole of the same focal length sees the same; NaN behind it."""
    level = replace(camera, world_from_camera=np.eye(4))
    table = camera_table([level], torch.float64)
    direction = pixel_rays(table, torch.zeros(len(xy), dtype=torch.int64), xy)[1]
    plane = direction[:, :2] / torch.where(direction[:, 2:] > 0.05, direction[:, 2:], torch.nan)
    return plane * torch.tensor([camera.fx, camera.fy]) + torch.tensor([camera.cx, camera.cy])


def _frames_of(scene: Scene, names: list[str]) -> list[int | None]:
    """The frame of each of a model's photos, by name, else by a stem that is there once."""
    by_name = {frame.name: index for index, frame in enumerate(scene.frames)}
    stems: dict[str, list[int]] = {}
    for index, frame in enumerate(scene.frames):
        stems.setdefault(PurePosixPath(frame.name).stem, []).append(index)
    found: list[int | None] = []
    for name in names:
        ids = stems.get(PurePosixPath(name).stem, [])
        found.append(by_name.get(name, by_name.get(f"images/{name}", ids[0] if len(ids) == 1 else None)))
    return found


def _points(found: Refined, tracks: Tracks) -> np.ndarray:
    """Points that two inliers or more see, [P, 3]."""
    return found.bundle.points[tracks.lengths(found.inliers) >= 2].numpy()


def write_capture(out: Path, scene: Scene, poses: dict[int, np.ndarray]) -> None:
    """Writes photos and transforms.json of a scene with these poses by frame; photos without one keep theirs.

    A far scene's cameras go back into the capture's own world.
    """
    frames = []
    for index, frame in enumerate(scene.frames):
        name = PurePosixPath(frame.name).name
        target = out / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(frame.path, target)
        except OSError:
            shutil.copyfile(frame.path, target)
        pose = poses.get(index, frame.camera.world_from_camera).copy()
        pose[:3, 3] += np.asarray(scene.bounds.origin)
        frames.append(_entry(frame, f"images/{name}", pose))
    document = {"camera_model": "OPENCV", "ply_file_path": "sparse.ply", "frames": frames}
    atomic_write_bytes(out / "transforms.json", json.dumps(document, indent=1).encode())


def _entry(frame: Frame, name: str, pose: np.ndarray) -> dict[str, Any]:
    camera = frame.camera
    lens = {"fl_x": camera.fx, "fl_y": camera.fy, "cx": camera.cx, "cy": camera.cy, "w": camera.width}
    lens |= {"h": camera.height}
    if camera.model != "perspective":
        lens |= {"camera_model": "OPENCV_FISHEYE"} | dict(
            zip(("k1", "k2", "k3", "k4"), camera.distortion, strict=False)
        )
    else:
        lens |= {name: value for name, value in zip(LENS, camera.distortion, strict=True) if value}
    return lens | {"file_path": name, "transform_matrix": (pose @ CAMERA_AXES["opengl"]).tolist()}


def _ply(points: np.ndarray) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property double {axis}" for axis in "xyz"] + ["end_header\n"]
    return "\n".join(lines).encode() + np.ascontiguousarray(points, dtype="<f8").tobytes()
