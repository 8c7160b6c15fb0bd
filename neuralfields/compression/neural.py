"""Gaussians whose attributes small networks tell from their places, in whole numbers (NeuralGS, arXiv:2503.23162).

Vocabulary
  cluster     Gaussians of like attributes, K of them; each has a network of its own
  network     encoded place -> 4 hidden layers of tanh, W wide -> attributes, D = 7 + 3 (degree + 1)^2
  attributes  logit of opacity, log scales 3, rotation xyz / (1 + w) 3, harmonics (rgb innermost)
  tier        a share of the Gaussians, the most important first: sections of a file that can be shown before the rest

Networks are evaluated in whole numbers, so that every machine decodes the same bits. Weights are whole numbers of a
layer's step; sines, tanh and inputs are whole numbers of 2^-14, read in tables that `quantised` series make. A layer's
sums are whole numbers below 2^53, which float64 adds exactly in any order, whatever BLAS does.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

from neuralfields.compression.grid import Grid
from neuralfields.compression.quantised import exp_minus, quaternions
from neuralfields.gaussians import COUNTS, LARGEST_LOG, Gaussians

ONE = 2**14  # of activations
TURN_BITS = 14  # of a sine's table
FINE, REACH = 2**12, 8  # entries of the table of tanh to 1, and where it ends
LAYERS = 5
MOST_CLUSTERS, MOST_WIDTH, MOST_OCTAVES = 255, 256, 20
ROWS = 8192  # evaluated at once
LARGEST_ROTATION = 1e3


@dataclass(frozen=True)
class Networks:
    """K networks: `weights` int32 [K, inputs + 1, outputs] of each layer (biases last), their `steps`, and the means
    and spreads float32 [D] of attributes, in which the last layer tells them.
    """

    octaves: int
    weights: tuple[np.ndarray, ...]
    steps: tuple[float, ...]
    mean: np.ndarray
    spread: np.ndarray

    @property
    def clusters(self) -> int:
        """Number of networks."""
        return self.weights[0].shape[0]

    @property
    def width(self) -> int:
        """Of the hidden layers."""
        return self.weights[0].shape[2]


@dataclass(frozen=True)
class Tier:
    """Gaussians of about the same importance in Morton order: `places` int32 [n, 3], `labels` uint8 [n] of clusters."""

    places: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class NeuralScene:
    """Gaussians as places in a grid, in tiers, and networks that tell the rest."""

    grid: Grid
    tiers: tuple[Tier, ...]
    networks: Networks
    degree: int
    antialiased: bool

    def __len__(self) -> int:
        return sum(map(len, self.tiers))


def shapes(clusters: int, width: int, octaves: int, degree: int) -> list[tuple[int, int, int]]:
    """Shapes of the weights of each layer, biases among them."""
    sides = [3 + 6 * octaves, *[width] * (LAYERS - 1), attributes_of(degree)]
    return [(clusters, a + 1, b) for a, b in pairwise(sides)]


def attributes_of(degree: int) -> int:
    """Number of attributes D."""
    return 7 + 3 * COUNTS[degree]


def decoded(scene: NeuralScene, tiers: int | None = None) -> Gaussians:
    """The Gaussians of a scene, or of its first `tiers`: the same float32 on every machine."""
    chosen = scene.tiers[:tiers]
    places = np.concatenate([tier.places for tier in chosen])
    labels = np.concatenate([tier.labels for tier in chosen])
    values = attributes(scene.networks, places, labels, scene.grid.bits)
    return gaussians_of(scene.grid.means(places), values, scene.antialiased)


def gaussians_of(means: np.ndarray, values: np.ndarray, antialiased: bool) -> Gaussians:
    """Gaussians of means [N, 3] and attributes float64 [N, D]."""
    opacity = np.clip(values[:, 0], -LARGEST_LOG, LARGEST_LOG)
    scales = np.clip(values[:, 1:4], -LARGEST_LOG, LARGEST_LOG)
    rotations = quaternions(np.clip(values[:, 4:7], -LARGEST_ROTATION, LARGEST_ROTATION))
    parts = means, scales, rotations, opacity, values[:, 7:].reshape(len(values), -1, 3)
    return Gaussians(*(torch.from_numpy(part.astype(np.float32)) for part in parts), antialiased=antialiased)


def attributes(networks: Networks, places: np.ndarray, labels: np.ndarray, bits: int) -> np.ndarray:
    """Attributes float64 [N, D] of places int32 [N, 3] by the networks of their labels."""
    out = np.empty((len(places), networks.weights[-1].shape[2]))
    weights = [layer.astype(np.float64) for layer in networks.weights]
    for label in range(networks.clusters):
        members = np.flatnonzero(labels == label)
        for begin in range(0, len(members), ROWS):
            rows = members[begin : begin + ROWS]
            values = encoded(places[rows], bits, networks.octaves)
            for layer, step in zip(weights[:-1], networks.steps[:-1], strict=True):
                values = _tanh(_sums(values, layer[label]), step)
            out[rows] = _sums(values, weights[-1][label]) * (networks.steps[-1] / ONE)
    return out * networks.spread.astype(np.float64) + networks.mean.astype(np.float64)


def _sums(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whole numbers [n, outputs], exact in float64: below 2^14 2^20 257 each."""
    return values @ weights[:-1] + ONE * weights[-1]


def encoded(places: np.ndarray, bits: int, octaves: int) -> np.ndarray:
    """Places [N, 3] as inputs [N, 3 + 6 octaves] in units of 2^-14: x in (-1, 1), sin(2^k pi x), cos(2^k pi x)."""
    twice = 2 * places.astype(np.int64) + 1  # x = twice / 2^bits - 1
    parts = [np.rint(np.ldexp(twice.astype(np.float64), 14 - bits)) - ONE]
    table = _sine()
    for octave in range(octaves):
        phase = (twice - (1 << bits) << octave) & (1 << bits + 1) - 1  # of 2^(bits + 1) a turn
        shift = bits + 1 - TURN_BITS
        index = phase << -shift if shift <= 0 else phase + (1 << shift - 1) >> shift
        parts += [table[index + turn & len(table) - 1] for turn in (0, len(table) // 4)]
    return np.concatenate(parts, 1)


def _tanh(sums: np.ndarray, step: float) -> np.ndarray:
    """tanh in units of 2^-14 of sums in units of step / 2^14, to 1 / FINE of its argument."""
    table = _tangent()
    index = np.minimum(np.rint(np.abs(sums) * (step * FINE / ONE)), len(table) - 1).astype(np.int64)
    return np.copysign(table[index], sums)


@lru_cache(maxsize=1)
def _tangent() -> np.ndarray:
    """round(2^14 tanh(i / FINE))."""
    e = exp_minus(np.arange(REACH * FINE + 1) * (2.0 / FINE))
    return np.rint(ONE * ((1 - e) / (1 + e)))


@lru_cache(maxsize=1)
def _sine() -> np.ndarray:
    """round(2^14 sin(2 pi i / 2^TURN_BITS)), from a quarter turn by 12 terms of its series."""
    quarter = 2 ** (TURN_BITS - 2)
    x = np.arange(quarter + 1) * (math.pi / 2 / quarter)
    square, total = x * x, np.full_like(x, 1.0)
    for k in range(11, 0, -1):
        total = 1 - square * total / ((2 * k) * (2 * k + 1))
    first = np.rint(ONE * (x * total))
    half = np.concatenate([first[:-1], first[:0:-1]])
    return np.concatenate([half, -half])
