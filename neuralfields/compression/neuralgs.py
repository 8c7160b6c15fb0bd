"""NeuralGS (arXiv:2503.23162): Gaussians to networks that tell attributes from places, and a report.

importance -> prune the least -> cluster by attributes -> a network a cluster, fitted by importance -> fine-tuned by
pictures -> weights and places in whole numbers -> the bytes of a .nfz

What differs from the paper, and why: rotations are xyz / (1 + w) of the description nearest to the neighbours' (a
dropped entry has no gradient where it is 0); places and weights are coded, not half precision; what pruning leaves may
be refined before anything is fitted; clusters and width follow the number of Gaussians.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralfields.compression import neural_file
from neuralfields.compression.compress import Goal
from neuralfields.compression.files import read
from neuralfields.compression.neural import LAYERS, MOST_CLUSTERS, MOST_OCTAVES, NeuralScene, Tier, decoded
from neuralfields.compression.neural_fit import FREQUENCIES, Bank, Seen, Shown, rows_of
from neuralfields.compression.original import CaptureCameras, Compressed, Original
from neuralfields.compression.quantise import Placed, arranged
from neuralfields.compression.refine import Refiner
from neuralfields.compression.tune import Judge
from neuralfields.errors import InputError
from neuralfields.gaussians import Gaussians
from neuralfields.models.loops import Loops
from neuralfields.rendering.renderable import Colour
from neuralfields.rendering.splat import Splats
from neuralfields.scene import Bounds

OCTAVES, BITS, TIERS = 10, 13, 4  # octaves of places of so many bits; each bit more is an octave more
CELL = 2.0**-12  # of the places' grid, in half sides of the scene
VOLUME_POWER, VOLUME_QUANTILE = 0.5, 0.9  # of the volume's share in the importance
EACH_CLUSTER, WEIGHTS_EACH = 20_000, 3.0  # Gaussians a cluster; weights a Gaussian, as published at 300 thousand
WIDTHS = (16, 128)  # narrowest and widest by default; the published one is 128
SHARES = (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)  # steps of weights, in root mean squares
LOST_BY_STEPS = 0.1  # dB that steps may lose beside the finest
REGRESSION = 5  # steps of regression for one of fine-tuning
LEAST_WEIGHT = 0.01  # sum of blending weights in pixels, from which a Gaussian matters to a picture: all but 0.06 %
ROUNDS = 20
MOST_DRAWN = 50_000  # Gaussians that centres are found from


@dataclass(frozen=True)
class Recipe:
    """What NeuralGS is made of; clusters and width None: by the number of Gaussians left.

    `prune`: share left out. `refine`: share of the steps that refine what is left before networks are fitted.
    `weighted`: by importance. `frequencies`: weight of the frequency loss.
    """

    clusters: int | None = None
    width: int | None = None
    prune: float = 0.4
    refine: float = 0.35
    weighted: bool = True
    frequencies: float = FREQUENCIES
    regression: int | None = None

    def sizes(self, count: int, degree: int) -> tuple[int, int]:
        """Clusters and width for a number of Gaussians."""
        clusters = self.clusters or min(max(round(count / EACH_CLUSTER), 4), MOST_CLUSTERS)
        if self.width is not None:
            return clusters, self.width
        sides, each = 3 + 6 * OCTAVES + 7 + 3 * (degree + 1) ** 2 + LAYERS - 1, WEIGHTS_EACH * count / clusters
        layers = LAYERS - 2  # width^2 each
        width = (np.sqrt(sides**2 + 4 * layers * each) - sides) / (2 * layers)
        return clusters, int(np.clip(8 * round(width / 8), *WIDTHS))


def compress(
    gaussians: Gaussians,
    bounds: Bounds,
    goal: Goal,
    background: Colour = (0.0, 0.0, 0.0),
    cameras: CaptureCameras | None = None,
    stage: Callable[[str], None] = lambda _: None,
    recipe: Recipe = Recipe(),
    loops: Loops | None = None,
) -> Compressed:
    """The file of Gaussians by networks, fitted on their device. Size follows from the recipe, not `goal.quality`.

    `loops`: steps that are kept, so that a fit which is interrupted goes on with the same arguments.

    Raises InputError for Gaussians that are not sound, and where `goal.most_bytes` cannot be kept to.
    """
    loops = loops or Loops()
    begin = time.perf_counter() - loops.seconds
    original = Original(gaussians, bounds, background, cameras)
    stage("importance")
    importance = global_importance(gaussians, original.importance())
    judge, refiner = original.judge, original.refiner(goal.seed, loops)
    stage("pruning")
    kept = np.sort(np.argsort(-importance, kind="stable")[: max(1, round(len(gaussians) * (1 - recipe.prune)))])
    left, importance = gaussians.take(torch.from_numpy(kept)), importance[kept]
    if goal.steps and recipe.refine:
        left = refiner.free(left, max(1, round(goal.steps * recipe.refine)))
    stage("networks")
    fitting = Fitting.of(left, importance, bounds, recipe, goal.seed)
    regression = REGRESSION * goal.steps if recipe.regression is None else recipe.regression
    fitting.bank.regress(regression, loops=refiner.loops)
    stage("tuning")
    fitting.tune(refiner, goal.steps, recipe.frequencies)
    stage("coding")
    data = fitting.coded(judge, goal.most_bytes)
    seconds = time.perf_counter() - begin
    stage("report")
    report = original.report(data, original.fitted(goal.fitted)) | {"steps": goal.steps, "seconds": seconds}
    sizes = {"clusters": fitting.bank.rows.clusters, "width": fitting.bank.width}
    return Compressed(data, read(data, "the file just made"), {**report, "method": "neuralgs", **sizes})


def global_importance(gaussians: Gaussians, seen: np.ndarray) -> np.ndarray:
    """Importance [N]: sums of blending weights [N] times volume^0.5, in 90th percentiles, at most 1."""
    volume = gaussians.scales.double().sum(1).cpu().numpy()  # its logarithm
    relative = np.minimum(volume - np.quantile(volume, VOLUME_QUANTILE), 0)
    return seen * np.exp(VOLUME_POWER * relative)


def octaves_of(bits: int) -> int:
    """Octaves that places of so many bits are told to networks by: the finest is as fine in the world in every scene.

    A far background makes places of more bits: by 10 octaves half of those of a street lay within two to ten periods.
    """
    return min(OCTAVES + max(0, bits - BITS), MOST_OCTAVES)


def attributes_of(gaussians: Gaussians, placed: Placed) -> Tensor:
    """Attributes float32 [N, D] of Gaussians in the order and description of `placed`."""
    order = torch.from_numpy(placed.order)
    logit = gaussians.opacities[order].clamp(-12, 12)[:, None]
    parts = [torch.from_numpy(part.astype(np.float32)) for part in (placed.scales, placed.rotations)]
    return torch.cat([logit, *parts, gaussians.harmonics[order].flatten(1)], 1)


def alike(values: Tensor, degree: int) -> Tensor:
    """What clusters are found by: attributes by their spread, each kind (opacity, scale, ...) as much as another."""
    scaled = (values - values.mean(0)) / values.std(0, correction=0).clamp(min=1e-4)
    kinds = [1, 3, 3, 3] + ([3 * ((degree + 1) ** 2 - 1)] if degree else [])
    return scaled / torch.tensor(kinds, dtype=values.dtype).sqrt().repeat_interleave(torch.tensor(kinds))


@dataclass(frozen=True)
class Fitting:
    """Gaussians in a grid, and the bank of networks that are fitted to them."""

    placed: Placed
    importance: np.ndarray
    bank: Bank
    degree: int
    antialiased: bool

    @classmethod
    def of(cls, gaussians: Gaussians, importance: np.ndarray, bounds: Bounds, recipe: Recipe, seed: int) -> "Fitting":
        """Clusters, and networks on the Gaussians' device that know nothing yet; all else is done on the CPU."""
        gaussians, device = gaussians.to("cpu"), gaussians.device
        means, scales, rotations = (
            part.detach().double().numpy() for part in (gaussians.means, gaussians.scales, gaussians.rotations)
        )
        rotations = rotations / np.linalg.norm(rotations, axis=1, keepdims=True)
        placed = arranged(means, scales, rotations, CELL * bounds.side / 2)
        importance = importance[placed.order]
        values = attributes_of(gaussians, placed)
        clusters, width = recipe.sizes(len(gaussians), gaussians.degree)
        labels = clusters_of(alike(values, gaussians.degree), clusters, seed)
        weights = importance if recipe.weighted else None
        octaves = octaves_of(placed.grid.bits)
        rows = rows_of(placed.places, placed.grid.bits, octaves, values, labels, weights)
        bank = Bank(rows, width, octaves, gaussians.degree, seed, device)
        return cls(placed, importance, bank, gaussians.degree, gaussians.antialiased)

    def shown(self) -> Shown:
        """Makes Gaussians of rows [S], on the CPU, and their attributes [S, D], differentiably."""
        means = torch.from_numpy(self.placed.grid.means(self.placed.places).astype(np.float32)).to(self.bank.device)

        def gaussians(rows: Tensor, values: Tensor) -> Gaussians:
            xyz = values[:, 4:7]
            square = (xyz * xyz).sum(1, keepdim=True)
            turned = torch.cat([1 - square, 2 * xyz], 1) / (1 + square)
            harmonics = values[:, 7:].unflatten(1, (-1, 3))
            own, scales = means[rows.to(means.device)], values[:, 1:4].clamp(-40, 40)
            return Gaussians(own, scales, turned, values[:, 0], harmonics, antialiased=self.antialiased)

        return gaussians

    def seen(self, refiner: Refiner) -> Seen:
        """The rows that matter to each of the refiner's pictures, as they should be or as the networks tell them now.

        Half of a scene and more lies behind others or outside of a picture, and costs networks as much.
        """
        every, shown, rows = torch.arange(len(self.importance)), self.shown(), self.bank.rows
        both = rows.wanted * rows.spread + rows.mean, self.bank.attributes()
        splats = [Splats(shown(every, values), refiner.bounds) for values in both]
        found = {}
        for target in refiner.targets:
            weights = torch.stack([one.weights(target.view) for one in splats]).amax(0)
            found[id(target)] = torch.nonzero(weights.cpu() >= LEAST_WEIGHT)[:, 0]
        return lambda target: found[id(target)]

    def tune(self, refiner: Refiner, steps: int, frequencies: float) -> None:
        """Fine-tunes the networks by pictures."""
        if steps:
            self.bank.tune(refiner, self.shown(), self.seen(refiner), steps, frequencies)

    def scene(self, share: float) -> NeuralScene:
        """The whole numbers of a file: tiers of equal counts by importance, weights in steps of `share`."""
        labels = self.bank.rows.labels.cpu().numpy().astype(np.uint8)
        rank = np.argsort(-self.importance, kind="stable")
        tiers = tuple(
            Tier(np.ascontiguousarray(self.placed.places[rows]), labels[rows])
            for rows in (np.sort(part) for part in np.array_split(rank, TIERS))
            if len(rows)
        )
        return NeuralScene(self.placed.grid, tiers, self.bank.quantised(share), self.degree, self.antialiased)

    def coded(self, judge: Judge, most_bytes: int | None) -> bytes:
        """The file with the coarsest weights that lose little beside the finest, or the finest that fits.

        Raises InputError where none does.
        """
        files = {share: neural_file.encode(self.scene(share)) for share in SHARES}
        if most_bytes is not None:
            fitting = [share for share in SHARES if len(files[share]) <= most_bytes]
            if not fitting:
                least = min(map(len, files.values()))
                raise InputError(
                    f"these networks take {least} bytes, {most_bytes} are allowed; fewer --clusters, a smaller --width"
                )
            return max((files[s] for s in fitting), key=lambda data: judge.psnr(decoded(neural_file.decode(data, ""))))
        shown = {share: judge.psnr(decoded(neural_file.decode(data, ""))) for share, data in files.items()}
        best = max(shown.values())
        return next(files[share] for share in SHARES if shown[share] >= best - LOST_BY_STEPS)


def clusters_of(values: Tensor, many: int, seed: int = 0) -> Tensor:
    """Labels int64 [N] of values [N, D] in `many` clusters or fewer, none of them empty: k-means from far centres.

    Clusters next to one another along the values' main direction have labels next to one another.
    """
    if many <= 1 or len(values) <= many:
        return torch.zeros(len(values), dtype=torch.int64)
    chance = torch.Generator().manual_seed(seed)
    drawn = values[torch.randperm(len(values), generator=chance)[:MOST_DRAWN]]
    centres = _far_apart(drawn, many, chance)
    for _ in range(ROUNDS):
        labels = nearest(drawn, centres)
        counts = torch.bincount(labels, minlength=len(centres))
        sums = torch.zeros_like(centres).index_add_(0, labels, drawn)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], centres)
    labels = nearest(values, centres)
    used = torch.unique(labels)
    main = torch.linalg.eigh(torch.cov(values.T))[1][:, -1] if values.shape[1] > 1 else values.new_ones(1)
    order = used[torch.argsort(centres[used] @ main)]
    rank = torch.zeros(len(centres), dtype=torch.int64)
    rank[order] = torch.arange(len(order))
    return rank[labels]


def nearest(values: Tensor, centres: Tensor) -> Tensor:
    """Number of the nearest centre [N] of values [N, D] in centres [K, D]."""
    return ((centres * centres).sum(1) - 2 * values @ centres.T).argmin(1)


def _far_apart(values: Tensor, many: int, chance: torch.Generator) -> Tensor:
    """Centres [many, D], each drawn by its squared distance from those before it."""
    centres = [values[int(torch.randint(len(values), (), generator=chance))]]
    distance = ((values - centres[0]) ** 2).sum(1)
    for _ in range(many - 1):
        if float(distance.sum()) <= 0:  # fewer than `many` are different
            break
        centres.append(values[int(torch.multinomial(distance, 1, generator=chance))])
        distance = torch.minimum(distance, ((values - centres[-1]) ** 2).sum(1))
    return torch.stack(centres)
