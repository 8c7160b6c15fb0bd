"""Analytic scenes: images in closed form, the ground truth of all volume rendering tests.

Vocabulary
  x         [S, 3] points;  d [S, 3] unit directions, both float64
  sigma     density, 1 / length
  tau(t)    optical depth from where the ray enters to distance t, the integral of sigma
  t0, t1    distances at which a ray enters and leaves the medium, t0 >= 0; L = t1 - t0
  exact     colour over black, opacity, and the expected depth (the weighted mean of t; 0 without any weight), with
            weights sigma(t) exp(-tau(t)) dt

numpy alone, so that the reference shares no code with the renderers under test.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray
NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


class Exact(NamedTuple):
    """`rgb` [R, 3] over black, `opacity` [R], `depth` [R] in the units of the scene."""

    rgb: Array
    opacity: Array
    depth: Array


def uniform(t0: Array, t1: Array, sigma: float) -> tuple[Array, Array]:
    """Opacity and expected depth [R] of a stretch of constant density.

    opacity = 1 - exp(-sigma L);  depth = t0 + 1 / sigma - L exp(-sigma L) / opacity.
    """
    length = np.maximum(t1 - t0, 0.0)
    opacity = -np.expm1(-sigma * length)
    hit = opacity > 0
    safe = np.where(hit, opacity, 1.0)
    return opacity, np.where(hit, t0 + 1.0 / sigma - length * (1.0 - opacity) / safe, 0.0)


def box_span(origins: Array, directions: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Intersects rays with an axis-parallel box: t0, t1 [R], t0 >= 0; t1 <= t0 for a miss."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (low - origins) / directions, (high - origins) / directions
    # A ray parallel to a face and exactly on it gives 0 / 0: it counts as inside that pair of faces.
    first = np.where(np.isnan(a) | np.isnan(b), -np.inf, np.minimum(a, b)).max(axis=1)
    last = np.where(np.isnan(a) | np.isnan(b), np.inf, np.maximum(a, b)).min(axis=1)
    return np.maximum(first, 0.0), np.maximum(last, 0.0)


@dataclass(frozen=True)
class Ball:
    """A ball of constant density and colour.

    t0, t1 = -b -+ sqrt(b^2 - |o - c|^2 + radius^2) with b = (o - c) . d;  rgb = (1 - exp(-sigma L)) colour.
    """

    centre: tuple[float, float, float] = (0.1, -0.2, 0.15)
    radius: float = 0.6
    sigma: float = 2.5
    rgb: tuple[float, float, float] = (0.9, 0.5, 0.2)

    def density(self, x: Array) -> Array:
        """sigma inside, 0 outside, [S]."""
        return np.where(((x - np.array(self.centre)) ** 2).sum(axis=1) <= self.radius**2, self.sigma, 0.0)

    def colour(self, x: Array, d: Array) -> Array:
        """The same colour everywhere, [S, 3]."""
        return np.broadcast_to(np.array(self.rgb), x.shape).copy()

    def exact(self, origins: Array, directions: Array) -> Exact:
        """The image of rays [R, 3], [R, 3] (unit directions)."""
        offset = origins - np.array(self.centre)
        b = (offset * directions).sum(axis=1)
        root = np.sqrt(np.maximum(b * b - (offset * offset).sum(axis=1) + self.radius**2, 0.0))
        opacity, depth = uniform(np.maximum(-b - root, 0.0), np.maximum(-b + root, 0.0), self.sigma)
        return Exact(opacity[:, None] * np.array(self.rgb), opacity, depth)


@dataclass(frozen=True)
class Box:
    """An axis-parallel box of constant density and colour.

    t0, t1 by the slab method;  rgb = (1 - exp(-sigma L)) colour.
    """

    low: tuple[float, float, float] = (-0.5, -0.3, -0.7)
    high: tuple[float, float, float] = (0.4, 0.6, 0.2)
    sigma: float = 3.0
    rgb: tuple[float, float, float] = (0.2, 0.7, 0.4)

    def density(self, x: Array) -> Array:
        """sigma inside, 0 outside, [S]."""
        inside = ((x >= np.array(self.low)) & (x <= np.array(self.high))).all(axis=1)
        return np.where(inside, self.sigma, 0.0)

    def colour(self, x: Array, d: Array) -> Array:
        """The same colour everywhere, [S, 3]."""
        return np.broadcast_to(np.array(self.rgb), x.shape).copy()

    def exact(self, origins: Array, directions: Array) -> Exact:
        """The image of rays [R, 3], [R, 3] (unit directions)."""
        t0, t1 = box_span(origins, directions, np.array(self.low), np.array(self.high))
        opacity, depth = uniform(t0, t1, self.sigma)
        return Exact(opacity[:, None] * np.array(self.rgb), opacity, depth)


@dataclass(frozen=True)
class Fog:
    """Homogeneous fog that fills the unit cube [0, 1]^3; its colour depends on the viewing direction alone.

    colour(d) = (1 + d) / 2, constant along a ray, so rgb = (1 - exp(-sigma L)) (1 + d) / 2.
    """

    sigma: float = 1.7

    def density(self, x: Array) -> Array:
        """sigma in the cube, 0 outside, [S]."""
        return np.where(((x >= 0.0) & (x <= 1.0)).all(axis=1), self.sigma, 0.0)

    def colour(self, x: Array, d: Array) -> Array:
        """(1 + d) / 2, [S, 3]."""
        return 0.5 + 0.5 * d

    def exact(self, origins: Array, directions: Array) -> Exact:
        """The image of rays [R, 3], [R, 3] (unit directions)."""
        t0, t1 = box_span(origins, directions, np.zeros(3), np.ones(3))
        opacity, depth = uniform(t0, t1, self.sigma)
        return Exact(opacity[:, None] * (0.5 + 0.5 * directions), opacity, depth)


@dataclass(frozen=True)
class Slab:
    """Between two planes z = low and z = high density and colour grow linearly with height.

    With h = (z - low) / (high - low): sigma = peak h, colour = h top. Along a ray, s = t - t0 in [0, L], h = p + q s:
    tau(s) = peak (p s + q s^2 / 2), opacity = 1 - exp(-tau(L)).
    The mean of s is m / opacity with m = integral of s sigma exp(-tau) = -L exp(-tau(L)) + integral of exp(-tau) ds
    (by parts; the last integral is Gaussian, an erf that loses digits as q -> 0, so a 48-point Gauss rule takes it
    to 1e-14). depth = t0 + m / opacity;  rgb = top (p opacity + q m).
    """

    low: float = -0.4
    high: float = 0.5
    peak: float = 6.0
    top: tuple[float, float, float] = (0.3, 0.6, 0.95)

    def height(self, z: Array) -> Array:
        """h, unbounded."""
        return (z - self.low) / (self.high - self.low)

    def density(self, x: Array) -> Array:
        """peak h between the planes, 0 outside, [S]."""
        h = self.height(x[:, 2])
        return np.where((h >= 0.0) & (h <= 1.0), self.peak * h, 0.0)

    def colour(self, x: Array, d: Array) -> Array:
        """h times the top colour, [S, 3]."""
        return np.clip(self.height(x[:, 2]), 0.0, 1.0)[:, None] * np.array(self.top)

    def exact(self, origins: Array, directions: Array) -> Exact:
        """The image of rays [R, 3], [R, 3] (unit directions, none parallel to the planes)."""
        slope = directions[:, 2] / (self.high - self.low)
        start = self.height(origins[:, 2])
        a, b = -start / slope, (1.0 - start) / slope
        t0, t1 = np.maximum(np.minimum(a, b), 0.0), np.maximum(np.maximum(a, b), 0.0)
        length, p = np.maximum(t1 - t0, 0.0), start + slope * t0

        def tau(s: Array) -> Array:
            return self.peak * s * (p[:, None] + 0.5 * slope[:, None] * s)

        through = np.exp(-tau(length[:, None])[:, 0])
        s = 0.5 * length[:, None] * (NODES + 1.0)
        moment = 0.5 * length * (np.exp(-tau(s)) @ WEIGHTS) - length * through
        opacity = 1.0 - through
        hit = opacity > 0
        depth = np.where(hit, t0 + moment / np.where(hit, opacity, 1.0), 0.0)
        return Exact((p * opacity + slope * moment)[:, None] * np.array(self.top), opacity, depth)


SCENES = (Ball(), Box(), Fog(), Slab())
