"""Every reader of what others wrote, each with a small sound input of its own making: TARGETS by name."""

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import torch

from neuralfields.captures.images import exif_fields, image_header, read_image
from neuralfields.captures.readers import read_scene
from neuralfields.captures.transforms import transforms_cameras
from neuralfields.codecs import describe_any, load_any
from neuralfields.codecs.splats import describe_splats, read_gaussians, write_gaussians
from neuralfields.compression import container
from neuralfields.errors import PosesNotFoundError
from neuralfields.mesh.files import read_mesh
from neuralfields.mesh.mesh import checked
from neuralfields.models import nf_file
from neuralfields.pictures.camera_paths import read_keyframes
from neuralfields.poses.find import accepted
from neuralfields.scene import Bounds
from neuralfields.serving import messages
from neuralfields.signals.sound import read_sound_signal
from neuralfields.signals.video import read_video_signal
from tests.captures import test_llff, test_other_poses
from tests.codecs.test_ksplat import write as write_ksplat
from tests.fuzz import checkpoints, media
from tests.fuzz.mutate import (
    Change,
    change_bytes,
    change_json,
    change_text,
    inside_glb,
    inside_gzip,
    inside_msgpack,
    inside_zip,
)
from tests.fuzz.run import Target
from tests.support import foreign_files, make_captures
from tests.support.forge import seal
from tests.support.splats import random_gaussians
from tests.support.view_ball import eye, view

# ---------------------------------------------------------------- captures

LENS = {"fl_x": 40.0, "fl_y": 40.0, "cx": 16.0, "cy": 12.0, "k1": 0.01, "k2": 0.0, "p1": 0.0, "p2": 0.0}


def scene_is_sound(folder: Path) -> None:
    """Reads a capture; what is read is made of finite numbers."""
    scene = read_scene(folder)
    assert np.isfinite([*scene.bounds.centre, scene.bounds.side, scene.bounds.near]).all() and scene.bounds.side > 0
    for frame in scene.frames:
        lens = (frame.camera.fx, frame.camera.fy, frame.camera.cx, frame.camera.cy, *frame.camera.distortion)
        assert np.isfinite(frame.camera.world_from_camera).all() and np.isfinite(lens).all()


def transforms(dialect: str) -> Callable[[Path], object]:
    """A transforms.json in a dialect, with as many of its fields as there are."""
    tops = {
        "blender": {"camera_angle_x": 0.7},
        "ngp": {**LENS, "w": 32, "h": 24, "aabb_scale": 4, "scale": 0.33, "offset": [0.5, 0.5, 0.5]},
        "nerfstudio": {
            **LENS, "camera_model": "OPENCV", "w": 32, "h": 24, "applied_transform": np.eye(4)[:3].tolist(),
            "train_filenames": ["images/0000.png", "images/0001.png"], "test_filenames": ["images/0002.png"],
        },
    }  # fmt: skip
    return lambda folder: make_captures.transforms(folder, make_captures.ring(4), **tops[dialect])


def colmap_text(folder: Path) -> None:
    """A model as text, with a pinhole and a distorted camera."""
    model = folder / "sparse/0"
    model.mkdir(parents=True)
    for i in range(4):
        make_captures.photo(folder / f"images/{i}.png", seed=i)
    (model / "cameras.txt").write_text("# cameras\n1 PINHOLE 32 24 30 31 16 12\n2 OPENCV 32 24 30 31 16 12 .1 0 0 0\n")
    lines = [f"{i + 1} 1 0 0 0 {-i} 0 0 {1 + i % 2} {i}.png\n1.5 2.5 1 3.5 4.5 -1" for i in range(4)]
    (model / "images.txt").write_text("# images\n" + "\n".join(lines) + "\n")
    points = [f"{i} 0.{i} 0 5 1 2 3 0.5 1 0 2 0" for i in range(1, 5)]
    (model / "points3D.txt").write_text("# points\n" + "\n".join(points) + "\n")


def other(name: str) -> Callable[[Path], object]:
    """A capture in another program's format."""

    def make(folder: Path) -> None:
        for i in range(len(test_other_poses.POSES)):
            make_captures.photo(folder / f"images/{i:04d}.png", seed=i)
        test_other_poses.WRITERS[name](folder)

    return make


def poses_report(folder: Path) -> None:
    try:
        accepted(folder, False)
    except PosesNotFoundError as error:
        assert error.exit_code == 4


# ---------------------------------------------------------------- models

BALL = Bounds((0.0, 0.0, 0.0), 2.0)


def nf_model(folder: Path) -> None:
    model = foreign_files.model_of(foreign_files.CONFIG)
    nf_file.save(model, folder / "a.nf")


def resealed_nf(data: bytes, rng: random.Random) -> bytes:
    """A .nf file whose header says something else under a digest that is right, or any change of its bytes."""
    if rng.random() < 0.3:
        return change_bytes(data, rng)
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    text = json.loads(table.pop("__metadata__")["neuralfields"])
    digest = text.pop("digest")
    if rng.random() < 0.7:
        text = json.loads(change_json(json.dumps(text).encode(), rng))
    else:
        table = json.loads(change_json(json.dumps(table).encode(), rng))
    text, table = {"digest": digest, **text}, dict(table)
    inner = json.dumps(text, separators=(",", ":"))
    with TemporaryDirectory() as folder:
        return seal(Path(folder) / "a.nf", inner, table, data[8 + length :]).read_bytes()


def tolerant(change: Change) -> Change:
    """A change that is left out where it makes no text any more that could be packed."""

    def changed(data: bytes, rng: random.Random) -> bytes:
        try:
            return change(data, rng)
        except (ValueError, KeyError, TypeError, RecursionError):
            return change_bytes(data, rng)

    return changed


def torch_checkpoint(folder: Path) -> None:
    torch.save({"network_fn_state_dict": foreign_files.original_weights(8), "global_step": 3}, folder / "a.tar")


def nerfstudio_checkpoint(folder: Path) -> None:
    state = {"_model.field.mlp_base.params": torch.zeros(9), "_model.field.embedding_appearance.weight": torch.ones(2)}
    torch.save({"step": 3, "pipeline": state, "optimizers": {}}, folder / "a.ckpt")


def snapshot(folder: Path) -> None:
    """A snapshot without the grid that would take a second to write."""
    content = foreign_files.snapshot_of(foreign_files.model_of())
    content["snapshot"]["density_grid_binary"] = content["snapshot"]["density_grid_binary"][:64]
    data = msgspec.msgpack.encode(content)
    (folder / "a.ingp").write_bytes(gzip.compress(data, 1))


def resealed_nfz(data: bytes, rng: random.Random) -> bytes:
    """A .nfz whose sections are changed under checksums that are right."""
    if rng.random() < 0.3:
        return change_bytes(data, rng)
    parts = container.unpack(data, "a.nfz")
    name = rng.choice(sorted(parts))
    change = change_json if parts[name].coding == "json" else change_bytes
    parts[name] = container.Section(parts[name].coding, change(parts[name].data, rng))
    if rng.random() < 0.05:
        del parts[rng.choice(sorted(parts))]
    return container.pack(parts)


def splats(suffix: str) -> Callable[[Path], object]:
    """A file of a few Gaussians."""

    def make(folder: Path) -> None:
        gaussians = random_gaussians(60 if suffix == ".ksplat" else 12, 1)
        if suffix == ".ksplat":
            gaussians.means[:] = gaussians.means.sort(0).values / 8
            gaussians.harmonics.clamp_(-1, 1)
            write_ksplat(folder / "a.ksplat", gaussians, 1)
        else:
            write_gaussians(gaussians, folder / f"a{suffix}")

    return make


def splats_read(folder: Path) -> None:
    path = next(folder.iterdir())
    read_gaussians(path).require_sound()
    describe_splats(path)


def mesh_read(folder: Path) -> None:
    path = next(folder.iterdir())
    mesh, _ = checked(read_mesh(path), path.name)
    assert np.isfinite(mesh.vertices).all() and mesh.faces.max() < len(mesh.vertices)


def picture_read(folder: Path) -> None:
    path = next(folder.iterdir())
    header = image_header(path)
    exif_fields(path)
    pixels = read_image(path, upright=True)
    assert pixels.dtype == np.uint8 and pixels.shape[2] in (3, 4) and header.width > 0


def camera_path(folder: Path) -> None:
    keys = [{"camera_to_world": np.eye(4).ravel().tolist(), "fov": 50.0, "aspect": 1.33} for _ in range(3)]
    text = {"camera_type": "perspective", "render_height": 6, "render_width": 8, "camera_path": keys, "fps": 24}
    (folder / "path.json").write_text(json.dumps(text))


def page_messages(folder: Path) -> None:
    look = view(1)["look"]
    keys = [look["eye"], messages.eye_of(eye(0.5))]
    shared = {"number": 2, "width": 64, "height": 48}
    said: dict[str, dict[str, Any]] = {
        "view": view(1), "seen": {"type": "seen", "number": 3}, "photo": {"type": "photo", "camera": 0},
        "still": {"type": "still", **shared, "look": look, "subject": 0},
        "film": {"type": "film", **shared, "look": look, "keys": keys, "seconds": 2.0, "fps": 24.0, "subject": 0},
        "path": {"type": "path", "number": 2, "keys": keys, "frames": 10}, "steer": {"type": "steer", "do": "pause"},
    }  # fmt: skip
    for name, message in said.items():
        (folder / f"{name}.json").write_text(json.dumps(message))


def messages_read(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        message = messages.read(path.read_bytes())
        eyes = list(getattr(message, "keys", ())) + ([message.look.eye] if hasattr(message, "look") else [])
        size = messages.clamped(getattr(message, "width", 8), getattr(message, "height", 8), 1e6)
        for each in eyes:
            camera = messages.camera_of(each, *size, BALL)
            assert np.isfinite(camera.world_from_camera).all()


def signal(read: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Reads the one file of a folder as a signal; its values are finite."""

    def use(folder: Path) -> None:
        assert torch.isfinite(torch.as_tensor(read(next(folder.iterdir())).values).float()).all()

    return use


def only(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Reads the one file of a folder."""
    return lambda folder: read(next(folder.iterdir()))


def model_read(folder: Path) -> None:
    path = next(folder.iterdir())
    model = load_any(path)
    assert asdict(model.bounds)["side"] > 0


ZIPPED = inside_zip({".json": change_json, ".pkl": change_bytes})
TARGETS: dict[str, Target] = {
    "transforms, Blender": Target(transforms("blender"), "*.json", scene_is_sound, change_json),
    "transforms, Instant-NGP": Target(transforms("ngp"), "*.json", scene_is_sound, change_json),
    "transforms, nerfstudio": Target(transforms("nerfstudio"), "*.json", scene_is_sound, change_json),
    "COLMAP text": Target(colmap_text, "sparse/0/*.txt", scene_is_sound, change_text),
    "COLMAP binary": Target(make_captures.colmap, "sparse/0/*.bin", scene_is_sound, change_bytes),
    "LLFF": Target(test_llff.capture, "*.npy", scene_is_sound, change_bytes),
    "Metashape": Target(other("metashape"), "cameras.xml", scene_is_sound, change_text),
    "Bundler": Target(other("bundler"), "*.*t", scene_is_sound, change_text),
    "OpenSfM": Target(other("opensfm"), "opensfm/*.json", scene_is_sound, change_json),
    "Nerfies": Target(other("nerfies"), "camera/*.json", scene_is_sound, change_json),
    "Polycam": Target(other("polycam"), "keyframes/corrected_cameras/*.json", scene_is_sound, change_json),
    "poses.json": Target(
        lambda folder: make_captures.save(folder, {"level": "good", "reasons": ["a"], "photos": 3}, "poses.json"),
        "*.json", poses_report, change_json,
    ),
    "camera paths": Target(camera_path, "*.json", only(read_keyframes), change_json),
    "paths of transforms": Target(transforms("ngp"), "*.json", lambda f: transforms_cameras(f / "transforms.json"),
                                  change_json),
    "viewer messages": Target(page_messages, "*.json", messages_read, change_json),
    ".nf": Target(nf_model, "*.nf", model_read, tolerant(resealed_nf)),
    "checkpoints": Target(checkpoints.bare, "*.checkpoint", checkpoints.resumed, tolerant(checkpoints.resealed)),
    "checkpoints as models": Target(
        checkpoints.of_a_model, "*.checkpoint", checkpoints.shown, tolerant(checkpoints.resealed)
    ),
    "vanilla NeRF": Target(torch_checkpoint, "*.tar", only(describe_any), ZIPPED),
    "nerfstudio checkpoints": Target(nerfstudio_checkpoint, "*.ckpt", only(describe_any), ZIPPED),
    "Instant-NGP snapshots": Target(snapshot, "*.ingp", only(describe_any), inside_gzip(inside_msgpack)),
    "OBJ": Target(media.obj, "*", mesh_read, change_text),
    "PLY text": Target(media.ply("ascii"), "*", mesh_read, change_text),
    "PLY little-endian": Target(media.ply("binary_little_endian"), "*", mesh_read, change_bytes),
    "PLY big-endian": Target(media.ply("binary_big_endian"), "*", mesh_read, change_bytes),
    "STL text": Target(media.stl(False), "*", mesh_read, change_text),
    "STL binary": Target(media.stl(True), "*", mesh_read, change_bytes),
    "OFF": Target(media.off, "*", mesh_read, change_text),
    "glTF meshes": Target(media.glb, "*", mesh_read, tolerant(inside_glb)),
    "splats .ply": Target(splats(".ply"), "*", splats_read, change_bytes),
    "splats .compressed.ply": Target(splats(".compressed.ply"), "*", splats_read, change_bytes),
    "splats .splat": Target(splats(".splat"), "*", splats_read, change_bytes),
    "splats .spz": Target(splats(".spz"), "*", splats_read, inside_gzip(change_bytes)),
    "splats .sog": Target(splats(".sog"), "*", splats_read, inside_zip({".json": change_json})),
    "splats .ksplat": Target(splats(".ksplat"), "*", splats_read, change_bytes),
    "splats .glb": Target(splats(".glb"), "*", splats_read, tolerant(inside_glb)),
    ".nfz": Target(splats(".nfz"), "*", splats_read, resealed_nfz),
    "JPEG with EXIF": Target(media.picture(".jpg"), "*", picture_read, change_bytes),
    "PNG with EXIF": Target(media.picture(".png", "RGBA"), "*", picture_read, change_bytes),
    "PNG of 16 bits": Target(media.deep_png, "*", picture_read, change_bytes),
    "WebP": Target(media.picture(".webp"), "*", picture_read, change_bytes),
    "TIFF": Target(media.picture(".tif"), "*", picture_read, change_bytes),
    "TIFF of floats": Target(media.deep_tiff, "*", picture_read, change_bytes),
    "BMP": Target(media.picture(".bmp"), "*", picture_read, change_bytes),
    "EXR": Target(media.exr, "*", picture_read, change_bytes),
    "HEIC": Target(media.picture(".heic"), "*", picture_read, change_bytes),
    "AVIF": Target(media.picture(".avif"), "*", picture_read, change_bytes),
    "WAV": Target(media.sound_wav, "*", signal(read_sound_signal), change_bytes),
    "FLAC": Target(media.sound(".flac", "flac"), "*", signal(read_sound_signal), change_bytes),
    "MP4": Target(media.film, "*", signal(read_video_signal), change_bytes),
}  # fmt: skip
NEEDS = {
    "glTF meshes": "trimesh",
    "EXR": "OpenEXR",
    "HEIC": "pillow_heif",
    "PNG of 16 bits": "av",
    "WAV": "av",
    "FLAC": "av",
    "MP4": "av",
}
