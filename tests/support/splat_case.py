"""Gaussians through every kernel of the rasteriser, on a CPU or by kernels of a GPU (a real one or the emulator)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from neuralfields.gpu.image_loss import image_loss as loss_on_gpu
from neuralfields.gpu.schedules import SCHEDULES
from neuralfields.gpu.splat_pass import CudaSplatPass
from neuralfields.ops.blend import Blended, TileLists
from neuralfields.ops.image_loss import image_loss
from neuralfields.ops.project import Rows, View
from neuralfields.ops.splat_pass import Adam, Packed, SplatPass
from tests.support.gaussians import gaussians, view
from tests.support.inputs import ALLOCATE, tensors

BACKGROUND = (0.2, 0.5, 0.9)
WIDTH, HEIGHT = 40, 28  # the last column and the last row of tiles are cut
RATES = Adam(1e-3, 5e-3, 1e-3, 5e-2, 5e-3, 2.5e-4, step=3, rest_step=1, opacity_pull=1e-4, scale_pull=2e-4)
Run = Callable[..., tuple[Tensor, ...]]


def on_cpu(name: str, *given: object) -> tuple[Tensor, ...]:
    """An op where its tensors are: on the CPU by native code, on a GPU by its schedule."""
    return tuple(tensors(getattr(torch.ops.neuralfields, name)(*given)))


def by_schedule(name: str, *given: object) -> tuple[Tensor, ...]:
    """An op by its schedule, whatever its tensors: for the emulator."""
    return tuple(tensors(SCHEDULES[name](ALLOCATE[name], *given)))


@dataclass(frozen=True)
class SplatCase:
    """Gaussians before a camera, with cotangents of all that is drawn."""

    inputs: list[Tensor]
    view: View
    degree: int
    d_pictures: list[Tensor]

    def to(self, device: str) -> "SplatCase":
        """The same elsewhere."""
        moved = [[t.to(device) for t in part] for part in (self.inputs, self.d_pictures)]
        return SplatCase(moved[0], self.view, self.degree, moved[1])

    def project(self, run: Run) -> Rows:
        """The rows by an op that `run` runs."""
        return Rows(*run("splat_project", *self.inputs, self.view.numbers, self.degree))

    def lists(self, run: Run, rows: Rows) -> TileLists:
        """The lists of rows."""
        return TileLists(*run("splat_tile_lists", whole(rows), *self.view.size), self.view.size)

    def blend(self, run: Run, rows: Rows, lists: TileLists, level: int, importance: bool = True) -> list[Tensor]:
        """All that blending gives: pictures, importance, and what the way back needs."""
        listed, size = listed_of(lists), list(self.view.size)
        background = list(BACKGROUND)
        return list(run("splat_blend", rows.values, whole(rows)[1:], listed, size, background, level, importance))

    def blend_backward(self, run: Run, rows: Rows, lists: TileLists, out: list[Tensor]) -> Tensor:
        """The rows' gradients for the cotangents of the pictures that are there."""
        arrays = [*whole(rows)[1:], *listed_of(lists), *out[5:]]
        given = [d if picture.numel() else picture for d, picture in zip(self.d_pictures, out, strict=False)]
        return run("splat_blend_backward", rows.values, arrays, list(self.view.size), list(BACKGROUND), out[:4], given)[
            0
        ]

    def project_backward(self, run: Run, rows: Rows, d_rows: Tensor) -> tuple[Tensor, ...]:
        """The Gaussians' gradients for those of rows."""
        return run("splat_project_backward", self.inputs, whole(rows), d_rows, self.view.numbers, self.degree)

    def all(self, run: Run, level: int = 2) -> list[Tensor]:
        """Pictures, importance and the Gaussians' gradients, through every op."""
        rows = self.project(run)
        lists = self.lists(run, rows)
        out = self.blend(run, rows, lists, level)
        d_rows = self.blend_backward(run, rows, lists, out)
        return [*out[:5], *self.project_backward(run, rows, d_rows)]

    def packed(self) -> Packed:
        """The Gaussians as a training pass takes them."""
        return Packed.of(*self.inputs)


def splat_case(
    count: int = 200, dtype: torch.dtype = torch.float64, bases: int = 16, size: float = 0.3, degree: int = 3
) -> SplatCase:
    """The same each time: many layers, some Gaussians beside the picture, some opaque."""
    generator = torch.Generator().manual_seed(11)
    parts = [a.detach() for a in gaussians(count, generator, dtype, bases, size)]
    shapes = (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH), (HEIGHT, WIDTH), (HEIGHT, WIDTH, 3)
    cotangents = [torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return SplatCase(parts, view(WIDTH, HEIGHT, antialiased=True), degree, cotangents)


def whole(rows: Rows) -> list[Tensor]:
    """The tensors of rows, as ops take them."""
    return [rows.values, rows.ids, rows.chunk_count, rows.slot, rows.key, rows.totals]


def listed_of(lists: TileLists) -> list[Tensor]:
    """The tensors of lists, as ops take them."""
    return [lists.entries, lists.tile_offset, lists.block_offset, lists.pairs]


def loss_inputs(dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    """Two pictures [H, W, 3] and a mask [H, W]."""
    generator = torch.Generator().manual_seed(7)
    rgb = torch.rand(HEIGHT, WIDTH, 3, generator=generator, dtype=torch.float64)
    target = (rgb + 0.3 * torch.randn(HEIGHT, WIDTH, 3, generator=generator, dtype=torch.float64)).clamp(0, 1)
    mask = (torch.rand(HEIGHT, WIDTH, generator=generator) < 0.7).to(torch.float64)
    return [part.to(device, dtype) for part in (rgb, target, mask)]


def losses(rgb: Tensor, target: Tensor, mask: Tensor | None, emulated: bool) -> list[Tensor]:
    """Mean |x - y| and mean S, their gradient, the error; of the CPU, or by the GPU's kernels."""
    if not emulated:
        loss = image_loss(rgb, target, mask)
        return [torch.tensor([loss.absolute, loss.similarity], dtype=torch.float64), loss.d_rgb.cpu(), loss.error.cpu()]
    d_rgb, error = torch.empty_like(rgb), torch.empty_like(rgb[..., 0])
    return [loss_on_gpu(rgb, target, mask, 0.2, d_rgb, error), d_rgb, error]


def steps(case: SplatCase, emulated: bool, count: int = 2, rates: Adam = RATES) -> tuple[list[Tensor], Blended]:
    """Some steps of the training pass: Gaussians, moments and statistics after them, and the last picture."""
    packed = case.packed()
    moments = packed.zeros_like(), packed.zeros_like()
    run = CudaSplatPass(packed) if emulated else SplatPass(packed)
    device, dtype = packed.core.device, packed.core.dtype
    statistics = torch.zeros(len(packed), 4, dtype=dtype, device=device)
    importance = torch.zeros(len(packed), dtype=dtype, device=device)
    for _ in range(count):
        found = run.render(case.view, BACKGROUND, case.degree, 2, importance)
        error = found.rgb.mean(2)
        run.backward(*case.d_pictures, error=error)
        run.adam(moments, rates, statistics)
    parts = [packed, *moments]
    results = [half for part in parts for half in (part.core, part.rest)]
    return [*results, statistics, importance], found


def listed(rows: Rows, lists: TileLists) -> list[list[tuple[int, int]]]:
    """Each tile's Gaussians and the blocks that they reach, from front to back."""
    offsets = lists.tile_offset.tolist()
    entries = lists.entries[: offsets[-1]].cpu()
    named = list(zip(rows.ids.cpu()[entries[:, 0].long()].tolist(), entries[:, 2].tolist(), strict=True))
    return [named[a:b] for a, b in pairwise(offsets)]
