"""The rasteriser's kernels, run by the emulator, against the CPU's ops: values, gradients, steps of a fit.

float64 is the CPU's arithmetic in another order of operations: 1e-9. Lists and rows are equal to the bit.
"""

import pytest
import torch
from torch import Tensor

from neuralfields.gpu.splat_pass import CudaSplatPass
from neuralfields.ops.blend import COLOUR_ONLY
from neuralfields.ops.splat_pass import Packed, SplatPass
from tests.support.emulate import Emulator
from tests.support.splat_case import (
    BACKGROUND,
    by_schedule,
    listed,
    loss_inputs,
    losses,
    on_cpu,
    splat_case,
    steps,
    whole,
)


def close(got: list[Tensor], want: list[Tensor], rtol: float = 1e-9, atol: float = 1e-10) -> None:
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_are_those_of_the_cpu(emulator: Emulator, reverse: bool):
    """Of two chunks, compacted in order; with the slots and keys that lists need."""
    case = splat_case(1100, size=0.1)
    want = case.project(on_cpu)
    with emulator.running(reverse):
        got = case.project(by_schedule)
    assert 100 < want.count < 1000 and want.chunk_count.min() > 0
    close([got.values], [want.values])
    for name in ("ids", "chunk_count", "slot", "key", "totals"):
        assert torch.equal(getattr(got, name), getattr(want, name)), name
    d_rows = torch.randn(want.values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with emulator.running(reverse):
        gradients = case.project_backward(by_schedule, got, d_rows)
    close(list(gradients), list(case.project_backward(on_cpu, want, d_rows)))


@pytest.mark.parametrize(("bases", "degree"), [(1, 0), (9, 1)])
def test_other_degrees(emulator: Emulator, bases: int, degree: int):
    case = splat_case(60, bases=bases, degree=degree)
    want = case.project(on_cpu)
    d_rows = torch.randn(want.values.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with emulator.running():
        got = case.project(by_schedule)
        gradients = case.project_backward(by_schedule, got, d_rows)
    close([got.values, *gradients], [want.values, *case.project_backward(on_cpu, want, d_rows)])


@pytest.mark.parametrize("reverse", [False, True])
def test_lists_are_those_of_the_cpu(emulator: Emulator, reverse: bool):
    case = splat_case()
    rows = case.project(on_cpu)
    want = case.lists(on_cpu, rows)
    with emulator.running(reverse):
        got = case.lists(by_schedule, rows)
    assert listed(rows, got) == listed(rows, want) and len(listed(rows, want)) == 6
    assert torch.equal(got.tile_offset, want.tile_offset) and torch.equal(got.pairs, want.pairs)
    places = got.entries[: int(got.tile_offset[-1])]
    assert (places[:, 1] >= rows.slot[places[:, 0].long()]).all() and len(places[:, 1].unique()) == len(places)


@pytest.mark.parametrize("reverse", [False, True])
def test_pictures_and_gradients(emulator: Emulator, reverse: bool):
    """All levels at once: colour, opacity, depth, normals, importance, and every Gaussian's gradients."""
    case = splat_case()
    want = case.all(on_cpu)
    assert float((want[1] > 0.99).double().mean()) > 0.2 and float((want[4] == 0).double().mean()) > 0.1
    with emulator.running(reverse):
        got = case.all(by_schedule)
    close(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_levels(emulator: Emulator, level: int, dtype: torch.dtype):
    case = splat_case(dtype=dtype)
    want = case.all(on_cpu, level)
    with emulator.running():
        got = case.all(by_schedule, level)
    if dtype == torch.float64:
        return close(got, want)
    for a, b in zip(got, want, strict=True):  # an alpha at 1/255 may fall to either side
        scale = float(b.abs().mean()) if b.numel() else 0.0
        assert not b.numel() or float((a - b).abs().mean()) <= 1e-3 * scale


def test_gradients_of_less_than_was_drawn(emulator: Emulator):
    """Of a picture with depth and normals only the colour and the opacity count."""
    case = splat_case(60)
    rows = case.project(on_cpu)
    found = []
    for run in (on_cpu, by_schedule):
        with emulator.running():
            lists = case.lists(run, rows)
            out = case.blend(run, rows, lists, 2)
            arrays = [*whole(rows)[1:], lists.entries, lists.tile_offset, lists.block_offset, lists.pairs, *out[5:]]
            given = [*case.d_pictures[:2], torch.zeros(0), torch.zeros(0)]
            size, background = list(case.view.size), list(BACKGROUND)
            found.append(run("splat_blend_backward", rows.values, arrays, size, background, out[:4], given)[0])
    close(found[1:], found[:1])


@pytest.mark.parametrize("masked", [False, True])
def test_loss_of_a_picture(emulator: Emulator, masked: bool):
    rgb, target, mask = loss_inputs(torch.float64)
    mask = mask if masked else None
    want = losses(rgb, target, mask, False)
    with emulator.running(reverse=masked):
        got = losses(rgb, target, mask, True)
    close(got, want, atol=1e-14)


def test_steps_of_a_fit(emulator: Emulator):
    """Adam in place on values and moments where something was seen, statistics, the picture after a step."""
    case = splat_case()
    want, picture = steps(case, False)
    with emulator.running():
        got, found = steps(case, True)
    close(got, want, rtol=1e-6, atol=1e-9)  # the betas are float32, and Adam divides small numbers by small ones
    close([found.rgb, found.normal], [picture.rgb, picture.normal], atol=1e-7)
    assert int((want[6][:, 3] == 2).sum()) > 50 and int((want[6][:, 3] == 0).sum()) > 20


def test_same_bits_in_every_order(emulator: Emulator):
    """Nothing is added by atomics: blocks and threads in reverse give the same bits."""
    case, found = splat_case(100), []
    for reverse in (False, True):
        with emulator.running(reverse):
            found.append(steps(case, True, 1)[0])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_nothing_to_see(emulator: Emulator):
    """No Gaussians, or none before the camera: the background, and gradients of zero."""
    case = splat_case(40)
    behind = [case.inputs[0] - torch.tensor([0.0, 0.0, 100.0], dtype=torch.float64), *case.inputs[1:]]
    for inputs in (behind, [part[:0] for part in case.inputs]):
        packed = Packed.of(*inputs)
        with emulator.running():
            run = CudaSplatPass(packed)
            found = run.render(case.view, BACKGROUND, 3, COLOUR_ONLY)
            run.backward(case.d_pictures[0])
            run.adam((packed.zeros_like(), packed.zeros_like()), steps.__defaults__[1])
        assert torch.equal(found.rgb, torch.tensor(BACKGROUND, dtype=torch.float64).expand_as(found.rgb))
        assert not found.opacity.any() and int(run.kept("totals")[0]) == 0 and not int(run.kept("tile_offset")[-1])


def test_shapes_and_order_are_checked(emulator: Emulator):
    case = splat_case(20)
    packed = case.packed()
    run = CudaSplatPass(packed)
    with pytest.raises(RuntimeError, match="render first"):
        run.backward(case.d_pictures[0])
    with emulator.running():
        run.render(case.view, BACKGROUND, 3)
        with pytest.raises(RuntimeError, match="call backward after render"):
            run.adam((packed.zeros_like(), packed.zeros_like()), steps.__defaults__[1])
        with pytest.raises(ValueError, match=r"d_rgb has shape \[28, 39, 3\], expected \[28, 40, 3\]"):
            run.backward(case.d_pictures[0][:, 1:])
        with pytest.raises(ValueError, match="depth was not rendered"):
            run.backward(case.d_pictures[0], d_depth=case.d_pictures[2])
        with pytest.raises(ValueError, match=r"scales has shape \[19, 3\], expected \[20, 3\]"):
            by_schedule("splat_project", case.inputs[0], case.inputs[1][1:], *case.inputs[2:], case.view.numbers, 3)
        with pytest.raises(ValueError, match="harmonics of degree 3 need more numbers than there are"):
            by_schedule("splat_project", *case.inputs[:4], case.inputs[4][:, :9], case.view.numbers, 3)
    with pytest.raises(ValueError, match="packed Gaussians are contiguous"):
        CudaSplatPass(Packed(packed.core.T.contiguous().T, packed.rest))
    assert type(SplatPass(packed)) is SplatPass
