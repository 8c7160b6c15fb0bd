"""The bundled scene: a small still life on a compass plate, as signed distances and surface colours.

Vocabulary
  x, y, z   [S] float32 world coordinates, Z up; N on the plate is +y, E is +x, so that a mirrored scene shows
  distance  [S] signed, at most the true distance (safe for sphere tracing), negative inside
  surface   a material at a point: colour (linear RGB, [3, S]), gloss in [0, 1], metal in [0, 1]
  stroke    a polyline [P, 2] of a letter inside [-1, 1]^2

Everything lies inside [-1.2, 1.2]^3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Array = np.ndarray
Shape = Callable[[Array, Array, Array], Array]
Paint = Callable[[Array, Array, Array], tuple[Array, Array | float, Array | float]]

FLOOR = np.float32(-0.52)  # height of the plate's upper face
PLATE_RADIUS = 1.12


@dataclass(frozen=True)
class Thing:
    """One object: its name, its signed distance and its paint."""

    name: str
    distance: Shape
    paint: Paint


def linear(colour: str) -> Array:
    """`#rrggbb` in sRGB to linear RGB [3, 1] float32."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)[:, None]


CREAM, TEAL, DEEP_TEAL, CORAL = linear("#f5ead2"), linear("#1b8a94"), linear("#0c4f5c"), linear("#e2502f")
MUSTARD, NAVY, BRASS, INK = linear("#f0ad2b"), linear("#223a66"), linear("#e0ab4a"), linear("#2b211b")
MAPLE, HONEY, WALNUT, DARK_WALNUT = linear("#dcb27c"), linear("#c08a50"), linear("#6b4327"), linear("#3c2415")
SAGE, ROSE, PEARL, GRAPHITE = linear("#7fa36b"), linear("#d98a8a"), linear("#c3162b"), linear("#34343a")


def mix(a: Array, b: Array, weight: Array) -> Array:
    """Linear blend of two colours [3, S or 1] by a weight [S]."""
    return a + (b - a) * weight


def band(value: Array, edge: float, soft: float) -> Array:
    """0 below `edge`, 1 above, with a linear ramp of total width `soft`."""
    return np.clip((value - edge) / soft + 0.5, 0.0, 1.0)


def rotate(x: Array, y: Array, degrees: float) -> tuple[Array, Array]:
    """Coordinates in a frame that is rotated counter-clockwise by `degrees` about z."""
    c, s = np.float32(np.cos(np.radians(degrees))), np.float32(np.sin(np.radians(degrees)))
    return c * x + s * y, c * y - s * x


# ---------------------------------------------------------------- letters


def arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float, pieces: int = 8) -> Array:
    """An elliptic arc from `start` to `stop` degrees as a polyline."""
    angle = np.radians(np.linspace(start, stop, pieces + 1))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], axis=-1)


def line(*points: tuple[float, float]) -> Array:
    """A polyline through the given points."""
    return np.array(points)


GLYPHS: dict[str, list[Array]] = {
    "N": [line((-0.6, -0.8), (-0.6, 0.8), (0.6, -0.8), (0.6, 0.8))],
    "E": [line((0.5, 0.8), (-0.5, 0.8), (-0.5, -0.8), (0.5, -0.8)), line((-0.5, 0.05), (0.35, 0.05))],
    "S": [np.concatenate([arc(0, 0.4, 0.52, 0.42, 30, 270), arc(0, -0.42, 0.56, 0.4, 90, -150)])],
    "W": [line((-0.8, 0.8), (-0.42, -0.8), (0, 0.5), (0.42, -0.8), (0.8, 0.8))],
    "F": [line((0.5, 0.8), (-0.5, 0.8), (-0.5, -0.8)), line((-0.5, 0.05), (0.35, 0.05))],
    "R": [
        np.concatenate(
            [line((-0.5, -0.8), (-0.5, 0.8), (0.0, 0.8)), arc(0.0, 0.38, 0.52, 0.42, 90, -90), line((-0.5, -0.04))]
        ),
        line((0.0, -0.04), (0.55, -0.8)),
    ],
    "G": [np.concatenate([arc(0, 0, 0.65, 0.82, 45, 330, 12), line((0.6, -0.05), (0.1, -0.05))])],
    "1": [line((-0.35, 0.5), (0.05, 0.8), (0.05, -0.8)), line((-0.35, -0.8), (0.45, -0.8))],
    "2": [np.concatenate([arc(0, 0.35, 0.52, 0.45, 165, -25), line((-0.55, -0.8), (0.58, -0.8))])],
    "3": [np.concatenate([arc(-0.02, 0.42, 0.5, 0.4, 150, -90), arc(-0.02, -0.4, 0.56, 0.42, 90, -150)])],
    "4": [line((0.25, -0.8), (0.25, 0.8), (-0.6, -0.3), (0.6, -0.3))],
    "7": [line((-0.5, 0.8), (0.55, 0.8), (-0.15, -0.8))],
}


def glyph_distance(letter: str, u: Array, v: Array) -> Array:
    """Distance of (u, v) [S] to the strokes of a letter, in glyph units."""
    best = np.full_like(u, 4.0)
    for stroke in GLYPHS[letter]:
        for (ax, ay), (bx, by) in pairwise(stroke.astype(np.float32)):
            dx, dy = bx - ax, by - ay
            along = np.clip(((u - ax) * dx + (v - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0.0, 1.0)
            best = np.minimum(best, (u - ax - along * dx) ** 2 + (v - ay - along * dy) ** 2)
    return np.sqrt(best)


# ---------------------------------------------------------------- shapes


def rounded_box(x: Array, y: Array, z: Array, half: tuple[float, float, float], radius: float) -> Array:
    """A box of half sizes `half` at the origin, its edges rounded."""
    qx, qy, qz = (abs(c) - np.float32(h - radius) for c, h in zip((x, y, z), half, strict=True))
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2 + np.maximum(qz, 0) ** 2)
    return outside + np.minimum(np.maximum(qx, np.maximum(qy, qz)), 0) - np.float32(radius)


def capsule(x: Array, y: Array, z: Array, a: tuple, b: tuple, radius_a: float, radius_b: float) -> Array:
    """A rod from `a` to `b` whose radius goes from `radius_a` to `radius_b`."""
    ax, ay, az = (np.float32(c) for c in a)
    dx, dy, dz = (np.float32(q - p) for p, q in zip(a, b, strict=True))
    length2 = dx * dx + dy * dy + dz * dz
    along = np.clip(((x - ax) * dx + (y - ay) * dy + (z - az) * dz) / length2, 0.0, 1.0)
    gap = np.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2 + (z - az - along * dz) ** 2)
    return gap - (np.float32(radius_a) + np.float32(radius_b - radius_a) * along)


def smooth_union(a: Array, b: Array, width: float) -> Array:
    """Union with a fillet of about `width`."""
    weight = np.maximum(np.float32(width) - abs(a - b), 0.0)
    return np.minimum(a, b) - weight * weight * np.float32(0.25 / width)


# ---------------------------------------------------------------- plate


def plate(x: Array, y: Array, z: Array) -> Array:
    """A turned disc with a groove around its rim."""
    r = np.sqrt(x * x + y * y)
    qr, qz = r - np.float32(PLATE_RADIUS - 0.03), abs(z - (FLOOR - np.float32(0.09))) - np.float32(0.06)
    outside = np.sqrt(np.maximum(qr, 0) ** 2 + np.maximum(qz, 0) ** 2)
    disc = outside + np.minimum(np.maximum(qr, qz), 0) - np.float32(0.03)
    gr, gz = r - np.float32(PLATE_RADIUS + 0.005), z - (FLOOR - np.float32(0.1))
    groove = np.sqrt(gr * gr + gz * gz) - np.float32(0.028)
    return np.maximum(disc, -groove)


def grain(along: Array, across: Array, seed: Array | float) -> Array:
    """Wood grain in [0, 1]: warped lines that run along one axis."""
    warp = 0.35 * np.sin(2.1 * along + 3.7 * seed) + 0.16 * np.sin(5.3 * along - 1.9 * seed + 2.0 * across)
    rings = np.sin(38.0 * across + 6.0 * warp + 11.0 * seed)
    fibre = np.sin(131.0 * across + 9.0 * np.sin(4.0 * along + seed) + 5.0 * seed)
    return np.clip(0.5 + 0.34 * rings + 0.16 * fibre, 0.0, 1.0)


def plate_paint(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Maple planks inside a walnut ring with brass lines, 72 marks, and N, E, S, W to be read from outside."""
    r, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
    px, py = rotate(x, y, 20.0)
    plank = np.floor(py / 0.235 + 0.5)
    seam = abs(py / 0.235 + 0.5 - plank - 0.5)
    colour = mix(MAPLE, HONEY, grain(px + 0.7 * plank, py, plank))
    colour = mix(colour, WALNUT, 0.85 * band(seam, 0.475, 0.02))
    walnut = mix(WALNUT, DARK_WALNUT, grain(angle * 1.3, r * 1.2 + z, 2.0))
    colour = mix(colour, walnut, band(r, 0.83, 0.008))
    step = np.pi / 36
    mark = np.round(angle / step)
    long = (mark % 6 == 0) * 0.035 + 0.03
    tick = band(-abs(angle - mark * step) * r, -0.0075, 0.006) * band(r, 1.0, 0.006) * band(-r, -(1.0 + long), 0.006)
    colour = mix(colour, CREAM, tick)
    for letter, degrees in (("E", 0.0), ("N", 90.0), ("W", 180.0), ("S", 270.0)):
        lx, ly = rotate(x, y, degrees - 90.0)
        near = np.nonzero((abs(lx) < 0.09) & (abs(ly - 0.915) < 0.09))[0]
        ink = band(-glyph_distance(letter, -lx[near] / 0.062, (0.915 - ly[near]) / 0.062), -0.24, 0.12)
        colour[:, near] = mix(colour[:, near], CREAM, ink)
    colour = mix(colour, INK, band(-abs(r - 0.835), -0.019, 0.006))
    brass = band(-abs(r - 0.835), -0.011, 0.006) + band(-abs(r - 1.05), -0.005, 0.005)
    colour = mix(colour, walnut, 1.0 - band(z, FLOOR - 0.035, 0.008))
    brass = brass * band(z, FLOOR - 0.035, 0.008)
    return mix(colour, BRASS, brass), 0.28 + 0.4 * brass, 0.5 * brass


# ---------------------------------------------------------------- teapot


def pot_frame(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """The pot stands west and north of the middle; its spout points along its own +x."""
    px, py = rotate(x + np.float32(0.33), y - np.float32(0.3), -38.0)
    return px, py, z - FLOOR


def pot(x: Array, y: Array, z: Array) -> Array:
    """Body, foot, lid, knob, spout and handle."""
    x, y, z = pot_frame(x, y, z)
    r2 = x * x + y * y
    h = (z - np.float32(0.31)) * np.float32(1.22)
    body = (np.sqrt(r2 + h * h) - np.float32(0.345)) * np.float32(0.82)
    r = np.sqrt(r2)
    foot = np.maximum(abs(r - np.float32(0.17)) - np.float32(0.025), abs(z - np.float32(0.025)) - np.float32(0.025))
    body = smooth_union(body, foot, 0.04)
    spout = capsule(x, y, z, (0.24, 0.0, 0.2), (0.46, 0.0, 0.36), 0.085, 0.055)
    spout = smooth_union(spout, capsule(x, y, z, (0.46, 0.0, 0.36), (0.53, 0.0, 0.5), 0.055, 0.04), 0.05)
    mouth = capsule(x, y, z, (0.515, 0.0, 0.47), (0.56, 0.0, 0.58), 0.024, 0.03)
    body = np.maximum(smooth_union(body, spout, 0.06), -mouth)
    around = np.sqrt((x + np.float32(0.37)) ** 2 + (z - np.float32(0.33)) ** 2) - np.float32(0.165)
    ring = np.sqrt(around * around + y * y)
    body = smooth_union(body, np.maximum(ring - np.float32(0.032), x + np.float32(0.26)), 0.05)
    rim = np.sqrt((r - np.float32(0.185)) ** 2 + (z - np.float32(0.553)) ** 2) - np.float32(0.017)
    knob = np.sqrt(r2 + (z - np.float32(0.645)) ** 2) - np.float32(0.047)
    return np.minimum(smooth_union(np.minimum(body, rim), knob, 0.05), rim)


def pot_paint(x: Array, y: Array, z: Array) -> tuple[Array, Array, float]:
    """Teal glaze, darker below, a cream belt with diamonds and two thin lines, a brass knob ring."""
    x, y, z = pot_frame(x, y, z)
    colour = mix(DEEP_TEAL, TEAL, np.clip(z / 0.42, 0.0, 1.0))
    body = band(-(np.sqrt(x * x + y * y + ((z - 0.31) * 1.22) ** 2)), -0.362, 0.006)
    belt = band(-abs(z - 0.345), -0.062, 0.006) * body
    turns = np.arctan2(y, x) * (26 / (2 * np.pi))
    diamond = abs(turns - np.round(turns)) * 2.0 + abs(z - 0.345) / 0.05
    colour = mix(colour, CREAM, belt)
    colour = mix(colour, CORAL, belt * band(-diamond, -0.78, 0.1))
    lines = band(-abs(abs(z - 0.345) - 0.078), -0.006, 0.005) * body
    colour = mix(colour, CREAM, lines)
    knob = band(z, 0.6, 0.006)
    return mix(colour, MUSTARD, knob), np.full_like(x, 0.95), 0.0


# ---------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Block:
    """A toy block: centre, half size, turn in degrees, colour, the letters on its sides (+x, +y, -x, -y)."""

    centre: tuple[float, float, float]
    half: float
    degrees: float
    colour: Array
    letters: str


BLOCKS = (
    Block((0.5, 0.36, float(FLOOR) + 0.19), 0.19, 14.0, CORAL, "NFRG"),
    Block((0.49, 0.375, float(FLOOR) + 0.38 + 0.16), 0.16, -24.0, MUSTARD, "1234"),
    Block((0.505, 0.36, float(FLOOR) + 0.70 + 0.13), 0.13, 31.0, NAVY, "FS7E"),
)


def block_frame(block: Block, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Converts world coordinates to the block's own axes."""
    cx, cy, cz = (np.float32(c) for c in block.centre)
    bx, by = rotate(x - cx, y - cy, block.degrees)
    return bx, by, z - cz


def block_shape(block: Block) -> Shape:
    """The signed distance of one block."""
    half = (block.half,) * 3
    return lambda x, y, z: rounded_box(*block_frame(block, x, y, z), half, 0.022)


def block_paint(block: Block) -> Paint:
    """A cream panel with a frame and a letter on each side; pips on the lid."""

    def paint(x: Array, y: Array, z: Array) -> tuple[Array, float, float]:
        bx, by, bz = (c / np.float32(block.half) for c in block_frame(block, x, y, z))
        side = np.where(
            abs(bz) > np.maximum(abs(bx), abs(by)),
            4,
            np.where(abs(bx) > abs(by), np.where(bx > 0, 0, 2), np.where(by > 0, 1, 3)),
        )
        u = np.choose(side, [by, -bx, -by, bx, bx])
        v = np.where(side == 4, by, bz)
        edge = np.maximum(abs(u), abs(v))
        panel = band(-edge, -0.8, 0.03)
        ink = np.zeros_like(u)
        for index, letter in enumerate(block.letters):
            here = np.nonzero((side == index) & (edge < 0.8))[0]
            ink[here] = band(-glyph_distance(letter, u[here] / 0.52, v[here] / 0.52), -0.2, 0.06)
        pips = np.minimum(np.hypot(abs(u) - 0.36, abs(v) - 0.36), np.hypot(u, v))
        ink = np.where(side == 4, band(-pips, -0.16, 0.04), ink)
        colour = mix(block.colour, CREAM, panel)
        colour = mix(colour, block.colour, band(-abs(edge - 0.7), -0.025, 0.02))
        return mix(colour, block.colour * np.float32(0.8), ink), 0.35, 0.0

    return paint


# ---------------------------------------------------------------- ball, cage, pearl, pencil, pawn

BALL = (-0.42, -0.47, float(FLOOR) + 0.25)


def ball(x: Array, y: Array, z: Array) -> Array:
    """A sphere of radius 0.25."""
    return np.sqrt(sum((c - np.float32(m)) ** 2 for c, m in zip((x, y, z), BALL, strict=True))) - np.float32(0.25)


def ball_paint(x: Array, y: Array, z: Array) -> tuple[Array, float, float]:
    """Stripes that follow a tilted axis, in three colours."""
    ax, ay, az = (np.float32(c) for c in (0.36, -0.48, 0.8))
    height = ((x - np.float32(BALL[0])) * ax + (y - np.float32(BALL[1])) * ay + (z - np.float32(BALL[2])) * az) / 0.25
    turn = np.arcsin(np.clip(height, -1, 1)) / np.pi * 11.0
    stripe = np.floor(turn + 0.5)
    edge = abs(turn - stripe)
    odd = stripe % 2 == 0
    colour = np.where(odd, CREAM, np.where(stripe % 4 == 1, CORAL, NAVY))
    return mix(colour, CREAM, band(edge, 0.485, 0.03)), 0.55, 0.0


CAGE = (0.44, -0.44, float(FLOOR) + 0.245)


def cage_frame(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Converts world coordinates to the axes of the wire cube."""
    cx, cy = rotate(x - np.float32(CAGE[0]), y - np.float32(CAGE[1]), 27.0)
    return cx, cy, z - np.float32(CAGE[2])


def cage(x: Array, y: Array, z: Array) -> Array:
    """The twelve edges of a cube, thin round bars, with a bead at each corner."""
    half = np.float32(0.225)
    x, y, z = (abs(c) for c in cage_frame(x, y, z))
    ex, ey, ez = abs(x - half), abs(y - half), abs(z - half)
    ox, oy, oz = (np.maximum(c - half, 0) for c in (x, y, z))
    bars = np.minimum(np.minimum(ox * ox + ey * ey + ez * ez, ex * ex + oy * oy + ez * ez), ex * ex + ey * ey + oz * oz)
    beads = np.sqrt(ex * ex + ey * ey + ez * ez) - np.float32(0.026)
    return np.minimum(np.sqrt(bars) - np.float32(0.0135), beads)


def plain(colour: Array, gloss: float, metal: float) -> Paint:
    """One colour everywhere."""
    return lambda x, y, z: (np.broadcast_to(colour, (3, len(x))).copy(), gloss, metal)


def pearl(x: Array, y: Array, z: Array) -> Array:
    """A glossy marble that lies in the cage."""
    cx, cy, cz = CAGE[0] - 0.03, CAGE[1] + 0.02, float(FLOOR) + 0.12
    return np.sqrt((x - np.float32(cx)) ** 2 + (y - np.float32(cy)) ** 2 + (z - np.float32(cz)) ** 2) - np.float32(0.12)


PENCIL_START, PENCIL_DEGREES, PENCIL_LENGTH = (0.07, -0.76), 101.0, 0.62


def pencil_frame(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Along the pencil, across it, and up."""
    u, v = rotate(x - np.float32(PENCIL_START[0]), y - np.float32(PENCIL_START[1]), PENCIL_DEGREES)
    return u, v, z - FLOOR - np.float32(0.029)


def pencil(x: Array, y: Array, z: Array) -> Array:
    """A six-sided rod with a sharpened end."""
    u, v, w = pencil_frame(x, y, z)
    av, aw = abs(v), abs(w)
    hexagon = np.maximum(aw, np.float32(0.8660254) * av + np.float32(0.5) * aw) - np.float32(0.028)
    radius = np.sqrt(v * v + w * w)
    cone = (radius - (np.float32(PENCIL_LENGTH) - u) * np.float32(0.27)) * np.float32(0.965)
    return np.maximum(np.maximum(hexagon, cone), -u) * np.float32(0.95)


def pencil_paint(x: Array, y: Array, z: Array) -> tuple[Array, float, Array]:
    """Eraser, ferrule, lacquer, wood and lead along its length."""
    u, v, w = pencil_frame(x, y, z)
    radius = np.sqrt(v * v + w * w)
    colour = mix(ROSE, BRASS, band(u, 0.055, 0.004))
    ferrule = band(u, 0.055, 0.004) * band(-u, -0.115, 0.004)
    colour = mix(colour, BRASS * np.float32(0.5), ferrule * band(abs((u * 60) % 1 - 0.5), 0.36, 0.1))
    colour = mix(colour, SAGE, band(u, 0.115, 0.004))
    cut = band(-(radius - (PENCIL_LENGTH - u) * 0.27), -0.003, 0.003) * band(u, 0.5, 0.01)
    wood = np.maximum(band(u, PENCIL_LENGTH - 0.085, 0.004), cut)
    colour = mix(colour, MAPLE, wood)
    return mix(colour, GRAPHITE, band(u, PENCIL_LENGTH - 0.034, 0.004)), 0.4, 0.8 * ferrule


def pawn(x: Array, y: Array, z: Array) -> Array:
    """A pawn that stands on the tower: a tapered stem with a small ball."""
    cx, cy = x - np.float32(0.505), y - np.float32(0.36)
    base = FLOOR + np.float32(0.96)
    return smooth_union(
        capsule(cx, cy, z, (0, 0, float(base) + 0.02), (0, 0, float(base) + 0.2), 0.07, 0.022),
        np.sqrt(cx * cx + cy * cy + (z - (base + np.float32(0.245))) ** 2) - np.float32(0.055),
        0.03,
    )


def things() -> tuple[Thing, ...]:
    """Every object of the scene."""
    blocks = tuple(Thing(f"block{i}", block_shape(b), block_paint(b)) for i, b in enumerate(BLOCKS))
    return (
        Thing("plate", plate, plate_paint),
        Thing("pot", pot, pot_paint),
        *blocks,
        Thing("ball", ball, ball_paint),
        Thing("cage", cage, plain(BRASS, 0.8, 1.0)),
        Thing("pearl", pearl, plain(PEARL, 1.0, 0.0)),
        Thing("pencil", pencil, pencil_paint),
        Thing("pawn", pawn, plain(SAGE, 0.6, 0.0)),
    )
