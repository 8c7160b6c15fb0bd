"""The training pass of Gaussians: picture, gradient and Adam without a detour through autograd.

The same kernels as ops/project.py and ops/blend.py, on memory that is kept from step to step: nothing is allocated in a
step that was big enough before. Gaussians are packed, so that what a step needs of one lies in one cache line:
  core [N, 16]  mean 3, log scales 3, quaternion wxyz 4, logit of opacity, first harmonic rgb 3, two of no use
  rest [N, 0, 16, 32 or 48]  the harmonics from the second on, rgb innermost, filled up with zeros (degree 0, 1, 2, 3)
Adam touches only what a step saw; the rest's harmonics only when it is asked to. Same threads or others: the same bits.
On a GPU a `SplatPass` is the one of neuralfields/gpu/splat_pass.py.
"""

import importlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from neuralfields.ops.blend import COLOUR_ONLY, WITH_DEPTH, WITH_NORMAL, Blended, tiles
from neuralfields.ops.native import array, kernel, threads
from neuralfields.ops.project import CHUNK, ROW, View

CORE = 16
MEANS, SCALES, ROTATIONS, OPACITY, COLOUR = slice(0, 3), slice(3, 6), slice(6, 10), 10, slice(11, 14)
BOX = 8
GROWTH = 1.25  # of memory that was too small
Background = tuple[float, float, float]


@dataclass(frozen=True)
class Packed:
    """Gaussians (or their moments) as the pass holds them: `core` [N, 16], `rest` [N, 0, 16, 32 or 48], contiguous.

    A fit of what moves keeps more of each in a wider core (rendering/moving_splats.py).
    """

    core: Float[Tensor, "N W"]
    rest: Float[Tensor, "N K"]

    @staticmethod
    def of(
        means: Float[Tensor, "N 3"],
        scales: Float[Tensor, "N 3"],
        rotations: Float[Tensor, "N 4"],
        opacities: Float[Tensor, " N"],
        harmonics: Float[Tensor, "N K 3"],
    ) -> "Packed":
        """From arrays as in ops/project.py; copies."""
        count, bases = harmonics.shape[:2]
        core = torch.cat([means, scales, rotations, opacities[:, None], harmonics[:, 0], means.new_zeros(count, 2)], 1)
        used = 3 * (bases - 1)
        rest = means.new_zeros(count, -(-used // 16) * 16)
        rest[:, :used] = harmonics[:, 1:].reshape(count, used)
        return Packed(core.contiguous(), rest)

    @property
    def bases(self) -> int:
        """Harmonics a Gaussian has room for: 1, 4, 9 or 16."""
        return {0: 1, 16: 4, 32: 9, 48: 16}[self.rest.shape[1]]

    def unpacked(
        self,
    ) -> tuple[
        Float[Tensor, "N 3"], Float[Tensor, "N 3"], Float[Tensor, "N 4"], Float[Tensor, " N"], Float[Tensor, "N K 3"]
    ]:
        """means, scales, rotations, opacities, harmonics: copies of their own."""
        core = self.core
        rest = self.rest[:, : 3 * (self.bases - 1)].reshape(core.shape[0], self.bases - 1, 3)
        parts = core[:, MEANS], core[:, SCALES], core[:, ROTATIONS], core[:, OPACITY]
        copies = [part.contiguous().clone() for part in parts]
        return (*copies, torch.cat([core[:, None, COLOUR], rest], 1))

    def zeros_like(self) -> "Packed":
        """Of the same shapes, for Adam's moments."""
        return Packed(torch.zeros_like(self.core), torch.zeros_like(self.rest))

    def __getitem__(self, index: Tensor) -> "Packed":
        return Packed(self.core[index], self.rest[index])

    @staticmethod
    def cat(parts: list["Packed"]) -> "Packed":
        """One after the other."""
        return Packed(torch.cat([part.core for part in parts]), torch.cat([part.rest for part in parts]))

    def __len__(self) -> int:
        return self.core.shape[0]


@dataclass(frozen=True)
class Adam:
    """Rates of one step: of means, log scales, rotations, opacities, first and higher harmonics; `step` counts from 1.

    `rest_step` counts updates of the higher harmonics; 0: none in this step. Pulls are added to the loss, for what is
    seen: `opacity_pull` times the opacity, `scale_pull` times each scale (arXiv:2404.09591, Eq. 14).
    """

    means: float
    scales: float
    rotations: float
    opacities: float
    colours: float
    harmonics: float
    step: int
    rest_step: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-15
    opacity_pull: float = 0.0
    scale_pull: float = 0.0

    def rates(self) -> list[float]:
        """One for each number of `core`."""
        each = (self.means, 3), (self.scales, 3), (self.rotations, 4), (self.opacities, 1), (self.colours, 3), (0.0, 2)
        return [rate for rate, count in each for _ in range(count)]

    def core_settings(self) -> list[float]:
        """Settings for `core`, whose rates are one each."""
        return self.settings(1.0, self.step)

    def settings(self, rate: float, step: int) -> list[float]:
        """Rate and epsilon with the bias corrections folded in, and the betas (see cuda/adam.h)."""
        first, second = self.betas
        correction = math.sqrt(1 - second**step)
        return [rate * correction / (1 - first**step), first, second, self.epsilon * correction]


def morton_order(means: Float[Tensor, "N 3"]) -> Int64[Tensor, " N"]:
    """Indices [N] that put means [N, 3] along a Z-curve: neighbours in the world become neighbours in memory.

    16 bits an axis over the mean and three standard deviations on either side; what lies beyond is held at its edge.
    """
    count = means.shape[0]
    if count < 2:
        return torch.arange(count, device=means.device)
    middle, spread = means.double().mean(0), means.double().std(0).clamp(min=1e-12)
    cell = (((means.double() - middle) / spread / 6 + 0.5).clamp(0, 1) * 65535).long()
    for shift, keep in ((16, 0x0000FF0000FF), (8, 0x00F00F00F00F), (4, 0x0C30C30C30C3), (2, 0x249249249249)):
        cell = (cell | cell << shift) & keep
    return torch.argsort(cell[:, 0] | cell[:, 1] << 1 | cell[:, 2] << 2, stable=True)


class SplatPass:
    """Pictures and steps of one set of packed Gaussians. Memory is kept; `gaussians` may be replaced by other tensors.

    Order of a step: `render`, then `backward` with the picture's gradient, then `adam`. float32 or float64, on a CPU or
    a GPU.
    """

    def __new__(cls, gaussians: Packed) -> "SplatPass":
        """That of the device on which the Gaussians are."""
        if gaussians.core.device.type != "cpu":
            cls = importlib.import_module("neuralfields.gpu.splat_pass").CudaSplatPass
        return super().__new__(cls)

    def __init__(self, gaussians: Packed) -> None:
        self._memory: dict[str, Tensor] = {}
        self._made: dict[str, tuple[Any, Any]] = {}
        self.replace(gaussians)

    def replace(self, gaussians: Packed) -> None:
        """Takes other Gaussians, e.g. after densification."""
        self.gaussians = gaussians
        self._pair = kernel("Splats", gaussians.core.dtype)(array(gaussians.core), array(gaussians.rest))
        self._boxes: Tensor | None = None
        self._view: tuple[View, int, Background] | None = None

    def _kept(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """Memory of that name, at least as long along its first axis as asked for, cut to shape."""
        have = self._memory.get(name)
        dtype = dtype or self.gaussians.core.dtype
        alike = have is not None and have.shape[1:] == shape[1:] and have.dtype == dtype
        if not alike or have.shape[0] < shape[0]:
            room = max(shape[0], int(GROWTH * have.shape[0])) if alike else shape[0]
            have = self._memory[name] = torch.empty((room, *shape[1:]), dtype=dtype)
        return have[: shape[0]]

    def kept(self, name: str) -> Tensor:
        """What the last picture left in memory of that name, e.g. `totals` (rows, ...) or `tile_offset`."""
        return self._memory[name]

    def _native(self, name: str, *arguments: Any) -> Any:
        """A native object of that class, made anew only where its arrays have moved or changed size."""
        key = tuple((a.data_ptr(), a.shape) if isinstance(a, Tensor) else a for a in arguments)
        if self._made.get(name, (None,))[0] != key:
            plain = [array(a) if isinstance(a, Tensor) else list(a) if isinstance(a, tuple) else a for a in arguments]
            self._made[name] = key, kernel(name, self.gaussians.core.dtype)(*plain)
        return self._made[name][1]

    def boxes(self) -> Float[Tensor, "C 8"]:
        """What bounds each chunk of 1024 Gaussians, [C, 8]; kept up to date by `adam`."""
        if self._boxes is None:
            self._boxes = self._kept("boxes", (-(-len(self.gaussians) // CHUNK), BOX))
            kernel("splat_boxes", self._boxes.dtype)(self._pair, self._boxes, threads())
        return self._boxes

    def render(
        self,
        view: View,
        background: Background,
        degree: int,
        level: int = COLOUR_ONLY,
        importance: Float[Tensor, " N"] | None = None,
    ) -> Blended:
        """The picture, see ops/blend.py; the next one overwrites its tensors. `importance` [N] is added to."""
        dtype, count, (width, height) = self.gaussians.core.dtype, len(self.gaussians), view.size
        chunks, integer = -(-count // CHUNK), torch.int32
        rows = self._native(
            "SplatRows",
            self._kept("rows", (count, ROW)),
            *(
                self._kept(name, (n,), integer)
                for name, n in (("ids", count), ("counts", chunks), ("slot", count), ("key", count))
            ),
            self._kept("pairs", (count,), integer),
            self._kept("totals", (2 + chunks,), torch.int64),
        )
        degree = min(degree, {1: 0, 4: 1, 9: 2, 16: 3}[self.gaussians.bases])
        kernel("splat_project", dtype)(self._pair, view.numbers, degree, self.boxes(), rows, threads())
        self._view = view, degree, background
        self._lists(int(self._memory["totals"][1]), (width, height), rows)
        depth = self._kept("depth", (height, width)) if level >= WITH_DEPTH else None
        normal = self._kept("normal", (height, width, 3)) if level >= WITH_NORMAL else None
        blended = Blended(
            self._kept("rgb", (height, width, 3)), self._kept("opacity", (height, width)), depth, normal, importance
        )
        weights = self._kept("weights", (self._slots,)) if importance is not None else None
        kernel("splat_blend", dtype)(
            rows,
            self._made["SplatLists"][1],
            self._memory["pixels"],
            self._pictures(blended),
            weights,
            importance,
            threads(),
        )
        self._blended = blended
        return blended

    def _pictures(self, blended: Blended) -> Any:
        lists = self._made["SplatLists"][1]
        pictures = blended.rgb, blended.opacity, blended.depth, blended.normal
        return kernel("SplatPictures", blended.rgb.dtype)(lists, list(self._view[2]), *pictures)

    def _lists(self, slots: int, size: tuple[int, int], rows: Any) -> None:
        """Makes the tile lists of the rows, and room for the pixels that will count."""
        count, integer = tiles(*size), torch.int32
        entries = self._kept("entries", (slots, 3), integer)
        room = self._memory["entries"].shape[0]
        if slots:
            entries = self._memory["entries"]
        offsets = [self._kept(name, (count + 1,), integer) for name in ("tile_offset", "block_offset")]
        lists = self._native(
            "SplatLists",
            *size,
            *offsets,
            self._kept("visited", (count,), integer),
            entries,
            self._kept("seen", (entries.shape[0],), integer),
        )
        masks = kernel("splat_lists", self.gaussians.core.dtype)(rows, lists, threads())
        self._slots = room
        self._kept("pixels", (masks // 2 + 1,), integer)

    def backward(
        self,
        d_rgb: Float[Tensor, "H W 3"],
        d_opacity: Float[Tensor, "H W"] | None = None,
        d_depth: Float[Tensor, "H W"] | None = None,
        d_normal: Float[Tensor, "H W 3"] | None = None,
        error: Float[Tensor, "H W"] | None = None,
    ) -> Float[Tensor, "N 16"]:
        """Gradients of the last picture, [H, W (, 3)] each; `error` [H, W] weighs statistics (see `adam`).

        Returns the rows' gradients [N, 16], for a look; they stay here for `adam` or `gradients`.
        """
        given = [None if d is None else array(d) for d in (d_rgb, d_opacity, d_depth, d_normal)]
        d_rows = self._kept("d_rows", (len(self.gaussians), ROW))
        kernel("splat_blend_backward", d_rgb.dtype)(
            self._made["SplatRows"][1],
            self._made["SplatLists"][1],
            self._memory["pixels"],
            self._pictures(self._blended),
            given,
            None if error is None else array(error),
            self._kept("gradients", (self._slots, ROW)),
            d_rows,
            threads(),
        )
        return d_rows

    def adam(self, moments: tuple[Packed, Packed], rates: Adam, statistics: Float[Tensor, "N 4"] | None = None) -> None:
        """One step, in place, of what the last picture saw.

        `statistics` [N, 4] are added to for each Gaussian that was seen: sum of its blending weights, the same weighted
        by the `error` of `backward` (both 0 without one), length of its gradient on the picture (1/pixel), and 1.
        """
        view, degree, _ = self._view
        dtype, out = self.gaussians.core.dtype, []
        for name, part in zip(("values", "m", "v"), (self.gaussians, *moments), strict=True):
            key = part.core.data_ptr(), part.rest.data_ptr(), len(part)
            if self._made.get(name, (None,))[0] != key:
                self._made[name] = key, kernel("SplatsOut", dtype)(part.core, part.rest)
            out.append(self._made[name][1])
        kernel("splat_adam", dtype)(
            *out,
            view.numbers,
            degree,
            self._made["SplatRows"][1],
            self._kept("d_rows", (len(self.gaussians), ROW)),
            rates.rates(),
            rates.core_settings(),
            rates.settings(rates.harmonics, rates.rest_step) if rates.rest_step else [],
            [rates.opacity_pull, rates.scale_pull],
            statistics,
            self._boxes,
            threads(),
        )
