"""Renders captures of which the box is hard to find, with exact ground truth: `python scenes/make_siblings.py FOLDER`.

  ring_on_black   a ring of narrow lenses about the still life, opaque photos on black; transforms.json
  masked_llff     the same object before an opaque surrounding, with masks, in an arbitrary world; poses_bounds.npy
  room            a room seen from inside; Blender's transforms_*.json with opaque photos
  far_background  the still life before an opaque panorama 40 units away; transforms.json

`truth.json` beside each says the cube that holds its content, in the capture's own world: `centre`, `side`. Under a
minute each on one core; numpy and Pillow alone; the same images each time.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from make_sample import SUPER, TARGET, Skip, build_skip, look_at, shade_hits, trace, unit
from PIL import Image
from still_life import Array, Thing, things

WIDTH, HEIGHT, VIEWS = 160, 120, 40
HELD_OUT_EVERY = 8
ROOM_LOW, ROOM_HIGH = np.array([-3.0, -2.4, -0.53]), np.array([3.0, 2.4, 2.1])
PANORAMA = 40.0
ROWS = 24  # of an image that are rendered at once
World = tuple[tuple[Thing, ...], Skip]


@dataclass(frozen=True)
class Lens:
    """A pinhole: `focal` in pixels; the principal point is in the middle."""

    focal: float

    @staticmethod
    def of(degrees: float) -> "Lens":
        """The lens that sees so many degrees across."""
        return Lens(0.5 * WIDTH / float(np.tan(np.radians(degrees) / 2)))


def rays(pose: Array, lens: Lens, first: int, last: int) -> tuple[Array, Array]:
    """Unit directions [3, S] of SUPER^2 rays a pixel of rows first to last, and the pixel of each from `first` on."""
    step = (np.arange(SUPER) + 0.5) / SUPER
    v = (np.arange(first, last)[:, None] + step).ravel()
    u = (np.arange(WIDTH)[:, None] + step).ravel()
    v, u = (c.ravel() for c in np.meshgrid(v, u, indexing="ij"))
    local = np.stack([(u - WIDTH / 2) / lens.focal, -(v - HEIGHT / 2) / lens.focal, -np.ones_like(u)])
    pixel = (v.astype(np.int64) - first) * WIDTH + u.astype(np.int64)
    return unit(pose[:3, :3] @ local).astype(np.float32), pixel


def waves(p: Array, scale: float) -> Array:
    """A pattern [3, S] of display colours in [0.1, 0.95] over points [3, S]: smooth waves and a checker's lines."""
    p = p.astype(np.float64) * scale
    x, y, z = p
    base = np.stack([np.sin(1.3 * x + 0.7 * y), np.sin(1.1 * y - 0.8 * z + 1), np.sin(0.9 * z + 1.2 * x + 2)])
    fine = np.sin(5.1 * x + 1) * np.sin(4.7 * y + 2) * np.sin(5.3 * z + 0.5)
    return np.clip(0.52 + 0.26 * base + 0.17 * np.sign(fine) * np.minimum(1, 6 * np.abs(fine)), 0.1, 0.95)


def room(origin: Array, d: Array) -> Array:
    """Display colours [3, S] of the room's walls along rays from inside it."""
    ends = np.stack([((bound[:, None] - origin) / d) for bound in (ROOM_LOW, ROOM_HIGH)]).max(0)
    p = origin + d * ends.min(0)
    shade = np.array([0.92, 0.78, 1.0])[ends.argmin(0)]
    return waves(p, 1.6) * shade


def panorama(origin: Array, d: Array) -> Array:
    """Display colours [3, S] of a sphere of radius PANORAMA about the world's origin."""
    along = (origin * d).sum(0)
    t = -along + np.sqrt(along * along - (origin * origin).sum(0) + PANORAMA**2)
    return waves((origin + d * t) / PANORAMA, 5.0)


def black(origin: Array, d: Array) -> Array:
    """Nothing."""
    return np.zeros_like(d)


def render(pose: Array, lens: Lens, world: World, behind: object) -> tuple[Array, Array]:
    """One view: uint8 colours [H, W, 3] over `behind`, and the object's share of each pixel [H, W]."""
    origin, objects = pose[:3, 3].astype(np.float32)[:, None], world[0]
    colours, shares = [], []
    for first in range(0, HEIGHT, ROWS):
        last = min(first + ROWS, HEIGHT)
        d, pixel = rays(pose, lens, first, last)
        t, owner = trace(origin, d, np.zeros(d.shape[1], np.float32), *world)
        hit = np.nonzero(owner >= 0)[0]
        colour = behind(origin, d).astype(np.float64)
        if len(hit):
            colour[:, hit] = shade_hits(origin, d[:, hit], t[hit], owner[hit], pixel[hit], (objects, world[1]))
        count = (last - first) * WIDTH
        colours.append(np.stack([np.bincount(pixel, c, count) for c in colour], 1) / SUPER**2)
        shares.append(np.bincount(pixel[hit], minlength=count) / SUPER**2)
    image = np.round(np.concatenate(colours).reshape(HEIGHT, WIDTH, 3) * 255).clip(0, 255).astype(np.uint8)
    return image, np.concatenate(shares).reshape(HEIGHT, WIDTH)


def around(count: int, radius: float, low: float = 8, high: float = 50) -> list[Array]:
    """Cameras that look at the still life, in golden-angle turns between two elevations in degrees."""
    golden, poses = np.pi * (3 - np.sqrt(5)), []
    for i in range(count):
        height = np.radians(low + (high - low) * (i * 0.618 % 1))
        turn = np.array([np.cos(i * golden) * np.cos(height), np.sin(i * golden) * np.cos(height), np.sin(height)])
        poses.append(look_at(TARGET + radius * (1 + 0.05 * np.sin(2.4 * i)) * turn, TARGET))
    return poses


def inside_room(count: int) -> list[Array]:
    """Cameras that walk round in the room; two of three look across it, the third at the wall behind."""
    poses = []
    for i in range(count):
        angle = 2 * np.pi * i / count * 3
        place = np.array([2.0 * np.cos(angle), 1.5 * np.sin(angle), 0.75 + 0.4 * np.sin(2.1 * i)])
        across = np.array([-place[0], -place[1], 0.4 + 0.3 * np.cos(1.7 * i)])
        target = across if i % 3 else 2.2 * place * (1, 1, 0) + (0, 0, 0.8)
        poses.append(look_at(place, target))
    return poses


def save(folder: Path, name: str, image: Array) -> str:
    """Writes an image and returns its name."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return name


def write_json(path: Path, document: dict) -> None:
    """Writes a document as JSON."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def truth(folder: Path, centre: Array, side: float) -> None:
    """Writes the cube that holds the capture's content."""
    write_json(folder / "truth.json", {"centre": [float(v) for v in centre], "side": side})


def with_focal_lengths(folder: Path, world: World, lenses: tuple[float, float], radius: float, behind: object) -> None:
    """A ring in a transforms.json with a focal length for each photo, of lenses between two angles in degrees."""
    frames = []
    for i, pose in enumerate(around(VIEWS, radius)):
        lens = Lens.of(lenses[0] + (lenses[1] - lenses[0]) * (i * 0.37 % 1))
        name = save(folder, f"images/{i:03d}.png", render(pose, lens, world, behind)[0])
        frames.append({"file_path": name, "fl_x": lens.focal, "fl_y": lens.focal, "transform_matrix": pose.tolist()})
    sizes = {"w": WIDTH, "h": HEIGHT, "cx": WIDTH / 2, "cy": HEIGHT / 2}
    write_json(folder / "transforms.json", {**sizes, "frames": frames})
    truth(folder, np.zeros(3), 2.5)


def ring_on_black(folder: Path, world: World) -> None:
    """Lenses of 18 to 27 degrees; the photos are opaque, the object on black."""
    with_focal_lengths(folder, world, (18, 27), 9.0, black)


def far_background(folder: Path, world: World) -> None:
    """Lenses of 40 degrees; the object before a panorama."""
    with_focal_lengths(folder, world, (40, 40), 4.6, panorama)


def masked_llff(folder: Path, world: World) -> None:
    """An LLFF capture with masks, white on the object, in a world that is turned, scaled and moved."""
    angle, scale, offset = np.radians([30, -50, 70]), 7.3, np.array([11.0, -25.0, 4.0])
    turn = np.eye(3)
    for axis, a in enumerate(angle):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one = np.eye(3)
        one[[i, i, j, j], [i, j, i, j]] = np.cos(a), -np.sin(a), np.sin(a), np.cos(a)
        turn = one @ turn
    lens, rows = Lens.of(32), []
    for i, pose in enumerate(around(VIEWS, 5.2, 0, 60)):
        image, share = render(pose, lens, world, panorama)
        save(folder, f"images/{i:03d}.png", image)
        save(folder, f"masks/{i:03d}.png", np.where(share >= 0.5, 255, 0).astype(np.uint8))
        axes = turn @ pose[:3, :3]
        place = scale * turn @ pose[:3, 3] + offset
        matrix = np.stack([-axes[:, 1], axes[:, 0], axes[:, 2], place, [HEIGHT, WIDTH, lens.focal]], 1)
        rows.append([*matrix.ravel(), scale * 3.8, scale * 6.6])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    truth(folder, scale * turn @ np.zeros(3) + offset, 2.5 * scale)


def seen_room(folder: Path, world: World) -> None:
    """A room with the still life on its floor, 75 degrees across, in Blender's dialect."""
    degrees, poses = 75.0, inside_room(VIEWS)
    for split in ("train", "test"):
        frames = []
        for i, pose in enumerate(poses):
            if (i % HELD_OUT_EVERY == 0) == (split == "test"):
                name = save(folder, f"{split}/r_{i:03d}.png", render(pose, Lens.of(degrees), world, room)[0])
                frames.append({"file_path": f"./{name[:-4]}", "transform_matrix": pose.tolist()})
        document = {"camera_angle_x": float(np.radians(degrees)), "frames": frames}
        write_json(folder / f"transforms_{split}.json", document)
    truth(folder, (ROOM_LOW + ROOM_HIGH) / 2, float((ROOM_HIGH - ROOM_LOW).max()) * 1.02)


CAPTURES = {
    "ring_on_black": ring_on_black,
    "masked_llff": masked_llff,
    "room": seen_room,
    "far_background": far_background,
}


def main() -> None:
    """Writes the captures that are named, by default all, each into a folder of its name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *CAPTURES], default=[])
    given = parser.parse_args()
    objects = things()
    world = (objects, build_skip(objects))
    for name in given.names or CAPTURES:
        folder = given.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        CAPTURES[name](folder, world)
        print(folder, flush=True)


if __name__ == "__main__":
    main()
