"""The training pass of Gaussians on a CUDA GPU: that of ops/splat_pass.py by kernels of cuda/gpu.

Memory is torch's, whose allocator keeps it from step to step. Chunks are not culled by boxes: a chunk costs less than
asking. A picture's tensors are its own.
"""

from torch import Tensor

from neuralfields.gpu import launch as cuda_launch
from neuralfields.gpu.launch import THREADS, blocks_for, expect, inputs
from neuralfields.gpu.splat import (
    CORE,
    Kept,
    Pictures,
    blend_gradient,
    blend_into,
    check_view,
    gaussian_arguments,
    lists_of,
    new_rows,
    project_into,
    splat_module,
)
from neuralfields.ops.blend import COLOUR_ONLY, WITH_DEPTH, WITH_NORMAL, Blended, TileLists
from neuralfields.ops.project import ROW, Rows, View
from neuralfields.ops.splat_pass import Adam, Background, Packed, SplatPass


class CudaSplatPass(SplatPass):
    """Pictures and steps of one set of packed Gaussians on a GPU; the same order of calls as on the CPU."""

    def __init__(self, gaussians: Packed) -> None:
        self._last: tuple[Rows, TileLists, Kept, Pictures, View, int] | None = None
        self._d_rows: Tensor | None = None
        self.replace(gaussians)

    def replace(self, gaussians: Packed) -> None:
        """Takes other Gaussians, e.g. after densification."""
        expect(core=(gaussians.core, (-1, CORE)), rest=(gaussians.rest, (len(gaussians), -1)))
        for part in (gaussians.core, gaussians.rest):
            if not part.is_contiguous():
                raise ValueError(f"packed Gaussians are contiguous, got strides {list(part.stride())}")
        self.gaussians, self._last = gaussians, None

    def kept(self, name: str) -> Tensor:
        """What the last picture left of that name: `totals` (rows, slots, ...), `counts`, `tile_offset`, `pairs`."""
        rows, lists, kept, *_ = self._picture()
        found = {"totals": rows.totals, "counts": rows.chunk_count, "rows": rows.values, "ids": rows.ids}
        found |= {"tile_offset": lists.tile_offset, "pairs": lists.pairs, "entries": lists.entries}
        return (found | {"visited": kept.visited})[name]

    def boxes(self) -> Tensor:
        """Refused: chunks are not culled here."""
        raise NotImplementedError("chunks of Gaussians have boxes on the CPU alone")

    def _picture(self) -> tuple[Rows, TileLists, Kept, Pictures, View, int]:
        if self._last is None:
            raise RuntimeError("render first: there is no picture of these Gaussians")
        return self._last

    @property
    def _parts(self) -> list[Tensor]:
        return inputs(self.gaussians.core, self.gaussians.rest)

    def render(
        self,
        view: View,
        background: Background,
        degree: int,
        level: int = COLOUR_ONLY,
        importance: Tensor | None = None,
    ) -> Blended:
        """The picture, see ops/blend.py. `importance` [N] is added to."""
        core, (width, height) = self.gaussians.core, view.size
        degree = min(degree, {1: 0, 4: 1, 9: 2, 16: 3}[self.gaussians.bases])
        rows = new_rows(len(self.gaussians), core)
        project_into(rows, self._parts, view.numbers, degree)
        lists = lists_of(rows, view.size)
        depth = core.new_empty(height, width) if level >= WITH_DEPTH else None
        normal = core.new_empty(height, width, 3) if level >= WITH_NORMAL else None
        pictures = Pictures(core.new_empty(height, width, 3), core.new_empty(height, width), depth, normal)
        masks, integers = 8 * lists.entries.shape[0], lists.entries.new_empty
        kept = Kept(integers(masks), integers(lists.tile_offset.shape[0] - 1))
        if importance is not None:
            expect(importance=(importance, (len(self.gaussians),)))
        blend_into(pictures, kept, rows, lists, background, importance)
        self._last, self._d_rows = (rows, lists, kept, pictures, view, degree), None
        return Blended(*pictures.all, importance)

    def backward(
        self,
        d_rgb: Tensor,
        d_opacity: Tensor | None = None,
        d_depth: Tensor | None = None,
        d_normal: Tensor | None = None,
        error: Tensor | None = None,
    ) -> Tensor:
        """Gradients of the last picture, [H, W (, 3)] each; `error` [H, W] weighs statistics (see `adam`).

        Returns the rows' gradients [N, 16], for a look; they stay here for `adam`.
        """
        rows, lists, kept, pictures, *_ = self._picture()
        given = [
            None if d is None else inputs(self.gaussians.core, d)[1] for d in (d_rgb, d_opacity, d_depth, d_normal)
        ]
        error = None if error is None else inputs(self.gaussians.core, error)[1]
        self._d_rows = self.gaussians.core.new_empty(len(self.gaussians), ROW)
        blend_gradient(self._d_rows, rows, lists, kept, pictures, given, error)
        return self._d_rows

    def adam(self, moments: tuple[Packed, Packed], rates: Adam, statistics: Tensor | None = None) -> None:
        """One step, in place, of what the last picture saw; statistics as on the CPU."""
        rows, _, _, _, view, degree = self._picture()
        if self._d_rows is None:
            raise RuntimeError("no gradients: call backward after render and before adam")
        core, rest, count = self.gaussians.core, self.gaussians.rest, len(self.gaussians)
        for name, part in zip(("m", "v"), moments, strict=True):
            expect(**{f"{name}.core": (part.core, tuple(core.shape)), f"{name}.rest": (part.rest, tuple(rest.shape))})
        if statistics is not None:
            expect(statistics=(statistics, (count, 4)))
        first, second = moments
        parts, later = self._parts, bool(rates.rest_step)
        each = rates.means, rates.scales, rates.rotations, rates.opacities, rates.colours
        settings = rates.core_settings()
        slower = rates.settings(rates.harmonics, rates.rest_step) if later else [0.0] * 4
        arrays = core, rest, first.core, first.rest, second.core, second.rest
        given = *gaussian_arguments(parts), *check_view(view.numbers, degree, parts), degree
        whole = rows.values, self._d_rows, rows.ids, rows.chunk_count
        numbers = *map(float, (*each, *settings)), int(later), *map(float, slower)
        pulls = float(rates.opacity_pull), float(rates.scale_pull)
        module = splat_module("splat_project", core.dtype)
        arguments = *given, *whole, *arrays, *numbers, *pulls, statistics
        cuda_launch.launch(module, "splat_adam", blocks_for(count), THREADS, *arguments)
