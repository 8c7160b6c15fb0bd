"""Small captures written by hand, for the tests of the readers."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 24)


def photo(path: Path, size: tuple[int, int] = SIZE, mode: str = "RGB", seed: int = 0) -> None:
    """A photo of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(path)


def looking_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """OpenGL camera-to-world matrix [4, 4] (right, up, back), world up +z."""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return matrix


def ring(count: int, radius: float = 4.0, target: tuple[float, float, float] = (0, 0, 0)) -> list[np.ndarray]:
    """Cameras on a ring, looking at the target from above."""
    angles = np.arange(count) * 2 * np.pi / count
    aim = np.array(target, dtype=float)
    return [looking_at(aim + radius * np.array([np.cos(a), np.sin(a), 0.5]), aim) for a in angles]


def row(count: int, step: float = 0.5) -> list[np.ndarray]:
    """Cameras side by side that all look along -z of OpenGL."""
    poses = [np.eye(4) for _ in range(count)]
    for i, pose in enumerate(poses):
        pose[0, 3], pose[1, 3] = (i - (count - 1) / 2) * step, 0.1 * (i % 2)
    return poses


def transforms(
    folder: Path,
    poses: list[np.ndarray] | None = None,
    file: str = "transforms.json",
    photos: bool = True,
    **top: object,
) -> dict:
    """Writes a transforms file with photos images/0000.png ...; gives the document."""
    poses = ring(8) if poses is None else poses
    top = top or {"fl_x": 40.0, "w": SIZE[0], "h": SIZE[1]}
    frames = []
    for i, pose in enumerate(poses):
        name = f"images/{i:04d}.png"
        if photos:
            photo(folder / name, seed=i)
        frames.append({"file_path": name, "transform_matrix": np.asarray(pose).tolist()})
    document = {**top, "frames": frames}
    save(folder, document, file)
    return document


def save(folder: Path, document: object, file: str = "transforms.json") -> None:
    """Writes a document as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(document))


COLMAP_IDS = {"SIMPLE_PINHOLE": 0, "PINHOLE": 1, "SIMPLE_RADIAL": 2, "RADIAL": 3, "OPENCV": 4, "OPENCV_FISHEYE": 5}
COLMAP_IDS |= {"FULL_OPENCV": 6, "SIMPLE_RADIAL_FISHEYE": 8, "RADIAL_FISHEYE": 9}


def cameras_bin(cameras: dict[int, tuple[int, int, int, list[float]]]) -> bytes:
    """`cameras`: id -> (model id, width, height, parameters)."""
    data = struct.pack("<Q", len(cameras))
    for key, (model, width, height, values) in cameras.items():
        data += struct.pack(f"<iiQQ{len(values)}d", key, model, width, height, *values)
    return data


def images_bin(images: dict[int, tuple[list[float], int, str]], keypoints: int = 2) -> bytes:
    """`images`: id -> (quaternion and translation, camera id, name)."""
    data = struct.pack("<Q", len(images))
    for key, (pose, camera, name) in images.items():
        data += struct.pack("<I7dI", key, *pose, camera) + name.encode() + b"\0" + struct.pack("<Q", keypoints)
        data += struct.pack("<ddq", 1.0, 2.0, -1) * keypoints
    return data


def points_bin(points: list[tuple[list[float], list[int]]]) -> bytes:
    """`points`: (position, ids of the images in the track)."""
    data = struct.pack("<Q", len(points))
    for key, (position, track) in enumerate(points, start=1):
        data += struct.pack("<Q3d3BdQ", key, *position, 1, 2, 3, 0.5, len(track))
        data += b"".join(struct.pack("<II", image, 0) for image in track)
    return data


def colmap(folder: Path, names: list[str] | None = None, model: str = "sparse/0", **changes: bytes) -> Path:
    """A binary model of pinhole cameras at x = 0, 1, 2 ..., with photos; `changes` replace whole files."""
    names = names or [f"a {i}.png" for i in range(4)]
    for i, name in enumerate(names):
        photo(folder / "images" / name, seed=i)
    images = {i + 1: ([1.0, 0, 0, 0, -float(i), 0, 0], 7, name) for i, name in enumerate(names)}
    points = [([0.1 * i, 0.0, 5.0], [1, 2]) for i in range(6)] + [([9.0, 9.0, 9.0], [1])]
    files = {
        "cameras": cameras_bin({7: (1, *SIZE, [30.0, 31.0, 16.0, 12.0])}),
        "images": images_bin(images),
        "points3D": points_bin(points),
    }
    target = folder / model
    target.mkdir(parents=True, exist_ok=True)
    for name, data in {**files, **changes}.items():
        (target / f"{name}.bin").write_bytes(data)
    return target


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
