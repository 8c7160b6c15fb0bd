"""Renders the bundled scene into scenes/sample/: `python scenes/make_sample.py` (two to three minutes on one core).

Vocabulary
  ray       [3, S] float32 origin and unit direction, S points are kept as rows x, y, z
  sample    one of SUPER x SUPER rays of a pixel; a pixel is the mean of its samples (box filter, sRGB values)
  skip      grid over [-1.25, 1.25]^3 of a lower bound of the distance, and of the things that may be nearest

Images are RGBA with straight alpha; cameras are Blender's: OpenGL axes, Z up, `camera_angle_x`.
Light: a warm sun with a soft shadow, a cool sky with ambient occlusion, and reflections of a studio with a window.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from still_life import Array, Thing, mix, things

SIZE, SUPER, TILE = 256, 3, 8
ANGLE_X = 0.6911112070083618
TARGET = np.array([0.0, 0.0, -0.14])
TRAIN_VIEWS, TEST_VIEWS = 60, 12
FAR, HIT = 7.0, 3e-4
SKIP_CELLS, SKIP_HALF = 128, 1.25


def unit(v: Array) -> Array:
    """Vectors [3, S] scaled to length 1."""
    return v / np.sqrt((v * v).sum(0))


SUN = unit(np.array([[0.50], [-0.42], [0.78]], dtype=np.float32))
SUN_COLOUR = np.array([[1.0], [0.91], [0.78]], dtype=np.float32) * np.float32(2.35)
SKY_COLOUR = np.array([[0.62], [0.72], [0.86]], dtype=np.float32) * np.float32(0.80)
BOUNCE_COLOUR = np.array([[0.60], [0.48], [0.36]], dtype=np.float32) * np.float32(0.55)
WINDOW = unit(np.array([[-0.62], [-0.55], [0.72]], dtype=np.float32))


@dataclass(frozen=True)
class Skip:
    """`bound` [C^3] float32: no surface is nearer than this to any point of the cell; `near` [C^3]: bit per thing."""

    bound: Array
    near: Array


def build_skip(objects: tuple[Thing, ...]) -> Skip:
    """Fills the grid from the distances at the cell centres."""
    centres = ((np.arange(SKIP_CELLS) + 0.5) / SKIP_CELLS * 2 - 1).astype(np.float32) * np.float32(SKIP_HALF)
    reach = np.float32(SKIP_HALF / SKIP_CELLS * np.sqrt(3.0))
    bounds, near = [], []
    for x in centres:
        y, z = (c.ravel() for c in np.meshgrid(centres, centres, indexing="ij"))
        distances = np.stack([thing.distance(np.full_like(y, x), y, z) for thing in objects])
        nearest = distances.min(0)
        bounds.append(nearest - reach)
        # A shape may understate its distance by up to a third (fillets, ellipsoid): keep a margin.
        kept = distances <= nearest * 1.5 + 4 * reach
        near.append((kept * (1 << np.arange(len(objects)))[:, None]).sum(0).astype(np.int32))
    return Skip(np.concatenate(bounds), np.concatenate(near))


def cell_of(p: Array) -> Array:
    """Index of the cell of points [3, S]; points outside are clamped to the border."""
    index = ((p + np.float32(SKIP_HALF)) * np.float32(SKIP_CELLS / (2 * SKIP_HALF))).astype(np.int32)
    np.clip(index, 0, SKIP_CELLS - 1, out=index)
    return (index[0] * SKIP_CELLS + index[1]) * SKIP_CELLS + index[2]


def distance(p: Array, objects: tuple[Thing, ...], skip: Skip, exact: float = 0.03) -> tuple[Array, Array]:
    """Signed distance [S] of points [3, S] and its thing [S]; beyond `exact` the grid's lower bound."""
    cells = cell_of(p)
    best = skip.bound[cells]
    owner = np.full(p.shape[1], -1, dtype=np.int16)
    close = np.nonzero(best < exact)[0]
    best[close] = FAR
    bits = skip.near[cells[close]]
    for number, thing in enumerate(objects):
        chosen = close[np.nonzero(bits & (1 << number))[0]]
        if not len(chosen):
            continue
        d = thing.distance(*p[:, chosen])
        nearer = d < best[chosen]
        best[chosen[nearer]], owner[chosen[nearer]] = d[nearer], number
    return best, owner


def enter_box(origin: Array, d: Array) -> tuple[Array, Array]:
    """Intersects rays [3, S] with the box of the grid; `enter >= leave` for a miss."""
    inverse = 1.0 / np.where(abs(d) < 1e-9, np.float32(1e-9), d)
    a, b = (-1.2 - origin) * inverse, (1.2 - origin) * inverse
    return np.maximum(np.minimum(a, b).max(0), 0), np.maximum(a, b).min(0)


def trace(origin: Array, d: Array, start: Array, objects: tuple[Thing, ...], skip: Skip) -> tuple[Array, Array]:
    """Sphere-traces rays from `start` [S]: distance to the hit (inf: none) and the thing that was hit (-1: none)."""
    enter, leave = enter_box(origin, d)
    t = np.maximum(start, enter)
    reached, owner = np.full_like(t, np.inf), np.full(len(t), -1, dtype=np.int16)
    live = np.nonzero(t < leave)[0]
    for _ in range(160):
        if not len(live):
            break
        gap, who = distance(origin + d[:, live] * t[live], objects, skip)
        hit = gap < HIT
        reached[live[hit]], owner[live[hit]] = t[live[hit]], who[hit]
        t[live] += np.maximum(gap, HIT)
        live = live[~hit & (t[live] < leave[live])]
    return reached, owner


def cone_start(origin: Array, d: Array, spread: float, objects: tuple[Thing, ...], skip: Skip) -> Array:
    """A distance [S] up to which the cone of half angle `spread` around each ray is empty; inf: empty for good."""
    t, leave = np.full(d.shape[1], 2.2, dtype=np.float32), np.float32(FAR)
    live = np.arange(d.shape[1])
    for _ in range(120):
        p = origin + d[:, live] * t[live]
        gap, _ = distance(p, objects, skip)
        outside = np.sqrt((np.maximum(abs(p) - 1.2, 0) ** 2).sum(0))  # the grid ends there
        room = np.where(outside > 0.02, outside, gap) - t[live] * np.float32(spread)
        t[live] += np.maximum(room, 0) * np.float32(0.98)
        live = live[(room > 0.004) & (t[live] < leave)]
        if not len(live):
            break
    return np.where(t < leave, t, np.inf)


def normals(p: Array, owner: Array, objects: tuple[Thing, ...]) -> Array:
    """Unit normals [3, S] by differences on the four corners of a tetrahedron."""
    n, e = np.zeros_like(p), np.float32(6e-4)
    for number, thing in enumerate(objects):
        mine = np.nonzero(owner == number)[0]
        q = p[:, mine]
        for corner in ((1, -1, -1), (-1, -1, 1), (-1, 1, -1), (1, 1, 1)):
            k = np.array(corner, dtype=np.float32)[:, None]
            n[:, mine] += k * thing.distance(*(q + k * e))
    return unit(n)


def occlusion(p: Array, n: Array, objects: tuple[Thing, ...], skip: Skip) -> Array:
    """Openness [S] in [0, 1] along the normal and around it: clearance found against clearance expected."""
    closed = np.zeros(p.shape[1], dtype=np.float32)
    for height, weight in ((0.015, 4.0), (0.04, 3.2), (0.09, 2.4), (0.17, 1.4), (0.28, 0.9)):
        gap, _ = distance(p + n * np.float32(height), objects, skip, np.inf)
        closed += np.float32(weight) * np.maximum(np.float32(height) - gap, 0)
    return np.exp(-1.9 * closed)


def sun_light(p: Array, objects: tuple[Thing, ...], skip: Skip) -> Array:
    """Share [S] of the sun that reaches the points: the narrowest clearance on the way, as a penumbra."""
    t = np.full(p.shape[1], 0.012, dtype=np.float32)
    light = np.ones(p.shape[1], dtype=np.float32)
    live = np.arange(p.shape[1])
    for _ in range(60):
        gap, _ = distance(p[:, live] + SUN * t[live], objects, skip, np.inf)
        light[live] = np.minimum(light[live], 0.5 + 0.5 * gap / (np.float32(0.055) * t[live] + 0.002))
        t[live] += np.clip(gap, 0.008, 0.12)
        q = p[2, live] + SUN[2] * t[live]
        live = live[(light[live] > 0) & (q < 0.8) & (t[live] < 2.4)]
        if not len(live):
            break
    light = np.clip(light, 0, 1)
    return light * light * (3 - 2 * light)


def studio(r: Array) -> Array:
    """Environment light [3, S] from directions `r`: a gradient sky, a warm floor, a large window."""
    up = np.clip(r[2] * 0.5 + 0.5, 0, 1)
    base = mix(BOUNCE_COLOUR * np.float32(0.5), SKY_COLOUR * np.float32(0.9), up * up * (3 - 2 * up))
    side = unit(np.cross(WINDOW[:, 0], [0, 0, 1.0])[:, None]).astype(np.float32)
    above = np.cross(side[:, 0], WINDOW[:, 0])[:, None].astype(np.float32)
    u, v, facing = ((axis * r).sum(0) for axis in (side, above, WINDOW))
    pane = np.clip((0.33 - abs(u)) / 0.09, 0, 1) * np.clip((0.42 - abs(v)) / 0.09, 0, 1) * (facing > 0)
    bars = np.clip((np.minimum(abs(u), abs(v + 0.04)) - 0.012) / 0.03, 0, 1)
    return base + np.float32(3.4) * pane * bars


def shade(p: Array, d: Array, n: Array, owner: Array, light: tuple[Array, Array], objects: tuple[Thing, ...]) -> Array:
    """Linear colour [3, S] of hit points from their paint, sun share and openness."""
    sun, openness = light
    colour, gloss, metal = np.empty_like(p), np.empty(p.shape[1], np.float32), np.empty(p.shape[1], np.float32)
    for number, thing in enumerate(objects):
        mine = np.nonzero(owner == number)[0]
        if len(mine):
            colour[:, mine], gloss[mine], metal[mine] = thing.paint(*p[:, mine])
    facing = np.clip((n * SUN).sum(0), 0, 1)
    up = n[2] * 0.5 + 0.5
    ambient = mix(BOUNCE_COLOUR, SKY_COLOUR, up) * (openness * (0.75 + 0.25 * openness))
    diffuse = colour * (ambient + SUN_COLOUR * (facing * sun)) * (1 - 0.75 * metal)
    cosine = np.clip(-(n * d).sum(0), 0, 1)
    fresnel = 0.04 + 0.96 * (1 - cosine) ** 5
    tint = mix(np.ones((3, 1), np.float32) * fresnel, colour, metal)
    mirror = d - 2 * n * (n * d).sum(0)
    half = unit(SUN - d)
    power = 8.0 + 240.0 * gloss * gloss
    glint = np.clip((n * half).sum(0), 0, 1) ** power * (power * 0.02 + 0.2) * sun * (facing > 0)
    shine = tint * gloss * (studio(mirror) * np.clip(openness * 1.3 - 0.2, 0, 1) + SUN_COLOUR * glint * 0.9)
    return diffuse + shine


def display(colour: Array) -> Array:
    """Linear light to sRGB in [0, 1] with a soft shoulder: straight up to 0.6, then rolling off towards 1."""
    knee = np.float32(0.6)
    rolled = np.where(colour > knee, knee + (1 - knee) * (1 - np.exp(-(colour - knee) / (1 - knee))), colour)
    return np.where(rolled <= 0.0031308, rolled * 12.92, 1.055 * np.maximum(rolled, 1e-6) ** (1 / 2.4) - 0.055)


def pixel_rays(pose: Array, size: int, u: Array, v: Array) -> Array:
    """Unit directions [3, S] in the world through pixel positions (centres at +0.5) of a camera with OpenGL axes."""
    focal = 0.5 * size / np.tan(0.5 * ANGLE_X)
    local = np.stack([(u - size / 2) / focal, -(v - size / 2) / focal, -np.ones_like(u)])
    return unit(pose[:3, :3] @ local).astype(np.float32)


def render(pose: Array, size: int, objects: tuple[Thing, ...], skip: Skip) -> Array:
    """One view as RGBA uint8 [size, size, 4], straight alpha."""
    origin = pose[:3, 3].astype(np.float32)[:, None]
    tiles = size // TILE
    row, column = (c.ravel() for c in np.meshgrid(np.arange(tiles), np.arange(tiles), indexing="ij"))
    middle = pixel_rays(pose, size, (column + 0.5) * TILE, (row + 0.5) * TILE)
    start = cone_start(origin, middle, TILE * np.sqrt(0.5) * 2 * np.tan(ANGLE_X / 2) / size, objects, skip)
    seen = np.nonzero(np.isfinite(start))[0]
    offsets = (np.arange(TILE * SUPER) + 0.5) / SUPER
    v, u = (c.ravel() for c in np.meshgrid(offsets, offsets, indexing="ij"))
    sums = np.zeros((4, size * size))
    for part in np.array_split(seen, max(1, len(seen) // 48)):
        pu, pv = ((edge[part, None] * TILE + c).ravel() for edge, c in ((column, u), (row, v)))
        d = pixel_rays(pose, size, pu, pv)
        t, owner = trace(origin, d, np.repeat(start[part], len(u)), objects, skip)
        hit = np.nonzero(owner >= 0)[0]
        if not len(hit):
            continue
        pixel = pv[hit].astype(np.int64) * size + pu[hit].astype(np.int64)
        colour = shade_hits(origin, d[:, hit], t[hit], owner[hit], pixel, (objects, skip))
        for channel, value in enumerate((*colour, np.ones(len(hit)))):
            sums[channel] += np.bincount(pixel, value, size * size)
    alpha = sums[3] / SUPER**2
    straight = sums[:3] / np.maximum(sums[3], 1)
    return np.round(np.vstack([straight, alpha]).T.reshape(size, size, 4) * 255).astype(np.uint8)


def shade_hits(
    origin: Array, d: Array, t: Array, owner: Array, pixel: Array, world: tuple[tuple[Thing, ...], Skip]
) -> Array:
    """Display colour [3, S] of hits. Shadow and occlusion are computed once per pixel and thing: they are soft."""
    objects, skip = world
    p = origin + d * t
    n = normals(p, owner, objects)
    _, first, where = np.unique(pixel * len(objects) + owner, return_index=True, return_inverse=True)
    q = p[:, first] + n[:, first] * np.float32(2e-3)
    sun, openness = sun_light(q, objects, skip), occlusion(p[:, first], n[:, first], objects, skip)
    return display(shade(p, d, n, owner, (sun[where], openness[where]), objects))


def look_at(position: Array, target: Array) -> Array:
    """Camera-to-world [4, 4], OpenGL axes, Z up."""
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], axis=-1)
    return pose


def on_sphere(azimuth: float, sine: float, radius: float) -> Array:
    """A camera at the given azimuth (radians), sine of the elevation and distance from the target."""
    cosine = np.sqrt(1 - sine * sine)
    offset = np.array([np.cos(azimuth) * cosine, np.sin(azimuth) * cosine, sine])
    return look_at(TARGET + radius * offset, TARGET)


def train_poses() -> list[Array]:
    """A spherical Fibonacci set between 5 degrees below and 75 above the horizon, the distance varied by 6 %."""
    low, high = np.sin(np.radians(-5)), np.sin(np.radians(75))
    golden = np.pi * (3 - np.sqrt(5))
    return [
        on_sphere(i * golden, low + (high - low) * (i + 0.5) / TRAIN_VIEWS, 4.0 + 0.25 * np.sin(2.4 * i))
        for i in range(TRAIN_VIEWS)
    ]


def test_poses() -> list[Array]:
    """One turn of a rising and falling ring."""
    turns = (np.arange(TEST_VIEWS) + 0.35) / TEST_VIEWS * 2 * np.pi
    return [on_sphere(a - 1.1, np.sin(np.radians(28 + 18 * np.sin(2 * a))), 3.95) for a in turns]


def write_split(folder: Path, split: str, poses: list[Array], world: tuple[tuple[Thing, ...], Skip]) -> int:
    """Renders one split and its transforms file; returns the bytes of its images."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    frames, size = [], 0
    for number, pose in enumerate(poses):
        name = f"{split}/r_{number:03d}"
        path = folder / f"{name}.png"
        Image.fromarray(render(np.round(pose, 9), SIZE, *world)).save(path, optimize=True)
        size += path.stat().st_size
        frames.append({"file_path": f"./{name}", "transform_matrix": np.round(pose, 9).tolist()})
    document = {"camera_angle_x": ANGLE_X, "frames": frames}
    (folder / f"transforms_{split}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return size


def main() -> None:
    """Writes the whole scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sample")
    folder = parser.parse_args().out
    objects = things()
    world = (objects, build_skip(objects))
    size = write_split(folder, "train", train_poses(), world) + write_split(folder, "test", test_poses(), world)
    print(f"{folder}: {TRAIN_VIEWS} training and {TEST_VIEWS} test views, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
