"""FreSh (arXiv:2410.05050): chooses the frequencies at which an untrained network's spectrum is nearest the target's.

Vocabulary
  setting   a value of an encoding's `frequencies` (layers/encodings.py)
  bin       of an image: k = |k_x| + |k_y| cycles across it, k = 1 ... 64; of a sound: k cycles across a piece of it
  spectrum  p [bins]: DFT magnitudes, mean over channels, summed over the coefficients of a bin, divided by their sum

  distance(p, q) = sum_k |P_k - Q_k|, with P and Q cumulative: Wasserstein-1, in bins
  choice = the setting of least distance between the mean spectrum of the targets and that of untrained networks

Target and networks are sampled at the same points, so that both alias alike: an image as 128 x 128 means of areas, a
sound in windowed pieces of 2048 samples. A video's targets are frames, its network's are slices of one time.

Grain, and detail as fine as grain, cannot be learned by a network of this size, but its magnitudes grow with the number
of coefficients in a bin and draw the choice upwards. So half the mean power of the target's highest bins is taken off
all its coefficients first (spectral subtraction; of images and videos alone). It is ours: the paper's own choice was
too high for short fits of 15 of 20 images, and too low for none (benchmarks/fresh.md).

A radiance field differs from its photos, but its colours on a plane through the scene are an image. Random frequencies
of deviation sigma in space have the same deviation within any plane, so the slice is an image of the same setting. A
photo that spans a share e of the cube shows k cycles where the cube has k / e. Here e is taken as 1: it is 0.95 and
0.97 for two synthetic scenes that fill their box, 0.4 to 0.5 for captures whose surroundings are part of the cube,
where the choice is low by as much.

The choice ignores a fit's length: short fits do better with lower settings, and so do short fits of radiance.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from neuralfields.domain import Domain
from neuralfields.layers.encodings import Encoding

BINS, SIDE, PIECE = 64, 128, 2048
INITIALISATIONS = 10
GRAIN, FINEST = 0.5, 52  # share of their mean power, and the first of the bins, that are taken for grain
# The coarse search takes every third setting and fewer networks; the fine one all settings around the best.
STRIDE, FIRST_INITIALISATIONS = 3, 4
SETTINGS: dict[str, tuple[float, ...]] = {
    "octaves": tuple(map(float, range(1, 11))),
    "gaussian": tuple(map(float, range(1, 21))),
    "siren": tuple(map(float, range(10, 201, 10))),
    "finer": tuple(k / 10 for k in range(31)),
}
# A photo's edges are where surfaces end, which a scene's colours need not have: on the two measured captures (fox and
# chair) the better setting of a short fit was a third to a half of the one whose spectrum is the photos'.
SCENE_SHARE = 0.4
# Point-wise supervision of a student produces no floaters (fog) at high frequencies, and surfaces are sharper than any
# photo. On the sample scene hash to mlp loses 2.6 dB at 0.4 of the photos' setting, 1.0 to 1.2 dB at 1.3 to 2 times it.
TAUGHT_SHARE = 1.5
Untrained = Callable[[float], Callable[[Tensor], Tensor]]


def settings(encoding: Encoding, domain: Domain, targets: Sequence[Tensor]) -> tuple[float, ...]:
    """The candidate settings, ascending: the paper's for images; for a sound the same per sample, and lower ones.

    The paper has none for octaves: 1 to 10.
    """
    known = SETTINGS[encoding]
    if domain.kind != "sound":
        return known
    scale = max(1.0, max(len(target) for target in targets) / SIDE)
    if encoding == "octaves":
        return tuple(map(float, range(1, 11 + round(scale).bit_length())))
    low, high = known[-1] / 1024, known[-1]
    return tuple(float(f"{scale * low * (high / low) ** (k / 20):.3g}") for k in range(21))


def for_scene(encoding: Encoding, setting: float, taught: bool = False) -> float:
    """Scales the photos' `setting` to one for a radiance field; `taught`: supervised by a teacher field."""
    share = TAUGHT_SHARE if taught else SCENE_SHARE
    if encoding == "octaves":
        return max(1.0, setting + round(math.log2(share)))
    return setting if encoding == "finer" else float(f"{share * setting:.3g}")


def spectrum(signal: Tensor, grain: float = 0.0) -> Tensor:
    """Spectrum of an image [H, W, C] -> [64], or of a piece of a sound [T, C] -> [T // 2]; a constant's is bin 1.

    `grain`: the share of an image's finest power that is taken off all its coefficients.
    """
    centred = signal - signal.mean(dim=tuple(range(signal.ndim - 1)), keepdim=True)
    if signal.ndim == 2:
        faded = centred * torch.hann_window(len(signal), dtype=signal.dtype)[:, None]  # a piece's ends are no edges
        found = torch.fft.rfft(faded, dim=0).abs().mean(-1)[1:]
    else:
        magnitude = torch.fft.rfft2(centred, dim=(0, 1)).abs().mean(-1)
        bins, sums = _bins(*signal.shape[:2]), magnitude.new_zeros(BINS + 2)
        finest = magnitude[(bins >= FINEST) & (bins <= BINS)].square()
        if grain and len(finest):
            magnitude = (magnitude.square() - grain * finest.mean()).clamp(min=0).sqrt()
        sums.index_add_(0, bins.flatten(), magnitude.flatten())
        found = sums[1 : BINS + 1]
    if float(centred.abs().max()) < 1e-6:
        found = torch.nn.functional.one_hot(torch.tensor(0), max(1, len(found))).to(signal.dtype)
    return found / found.sum()


@cache
def _bins(height: int, width: int) -> Tensor:
    """|k_x| + |k_y| of each coefficient of the non-redundant half; all beyond the last bin share one index."""
    rows = torch.fft.fftfreq(height, 1 / height).abs().round().long()
    return (rows[:, None] + torch.arange(width // 2 + 1)).clamp(max=BINS + 1)


def distance(p: Tensor, q: Tensor) -> float:
    """Wasserstein-1 distance between two spectra of as many bins, in bins."""
    return float((p.cumsum(0) - q.cumsum(0)).abs().sum())


@torch.no_grad()
def choose(
    settings: Sequence[float], untrained: Untrained, domain: Domain, targets: Sequence[Tensor], seed: int
) -> float:
    """Chooses the setting of least distance to `targets` (images [H, W, C], or one sound [T, C]), coarse to fine.

    `settings` ascend. `untrained(setting)` makes a network from torch's random numbers: x [S, D] -> values or colours
    [S, C]; all settings see the same random numbers.
    """
    pieces = [piece for target in targets for piece in (_sound if domain.kind == "sound" else _picture)(target)]
    grain = GRAIN if domain.kind in ("image", "video") else 0.0
    wanted = torch.stack([spectrum(piece, grain) for piece in pieces]).mean(0)
    shape, length = pieces[0].shape[:-1], max(len(target) for target in targets)

    @cache
    def found(index: int, initialisation: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + initialisation)
            network = untrained(settings[index])
            return spectrum(network(_sample_points(domain, shape, length)).reshape(*shape, -1))

    def score(index: int, count: int) -> float:
        return distance(torch.stack([found(index, k) for k in range(count)]).mean(0), wanted)

    first = min(range(0, len(settings), STRIDE), key=lambda index: score(index, FIRST_INITIALISATIONS))
    near = range(max(0, first - STRIDE + 1), min(len(settings), first + STRIDE))
    return settings[min(near, key=lambda index: score(index, INITIALISATIONS))]


def _picture(target: Tensor) -> list[Tensor]:
    """Downsamples an image to SIDE x SIDE means of areas (fewer if it has fewer pixels)."""
    size = min(SIDE, target.shape[0]), min(SIDE, target.shape[1])
    small = torch.nn.functional.adaptive_avg_pool2d(target.permute(2, 0, 1)[None], size)
    return [small[0].permute(1, 2, 0)]


def _sound(target: Tensor) -> list[Tensor]:
    """Cuts at most 64 pieces, evenly over a sound."""
    length = min(PIECE, len(target))
    starts = torch.linspace(0, len(target) - length, min(64, len(target) // length)).long().tolist()
    return [target[start : start + length] for start in starts]


def _sample_points(domain: Domain, shape: Sequence[int], length: int) -> Tensor:
    """Points [S, D] at which a network is sampled: a piece of a sound of `length` samples, or a plane of two axes."""
    if domain.kind == "sound":
        start = torch.randint(0, length - shape[0] + 1, ())
        return ((start + torch.arange(shape[0]) + 0.5) / length)[:, None]
    grid = torch.meshgrid(*((torch.arange(n) + 0.5) / n for n in shape), indexing="ij")
    plane = torch.stack([grid[1], grid[0]], -1).reshape(-1, 2)
    x = torch.rand(domain.dimensions).expand(len(plane), -1).clone()
    axes = torch.randperm(3)[:2] if domain.radiance else torch.arange(2)
    x[:, axes] = plane
    return x
