"""Every kernel, run by the emulator down to shuffles and tensor-core products, against the CPU's ops.

Tolerances: float64 is the CPU's arithmetic in another order of operations. Fused networks in `float` add products in
another order. In `half` a product's inputs are rounded to 11 bits (forward) or 8 bits (gradients): 2^-9 of a term, less
in a sum, and a ReLU near zero may switch, so errors are measured over whole tensors.
"""

import pytest
import torch
from torch import Tensor

from neuralfields.errors import UsageError
from neuralfields.gpu import network as cuda_network
from neuralfields.gpu import schedules as cuda_schedules
from neuralfields.gpu.compile import source_folder
from neuralfields.gpu.hash_render import CudaPass
from neuralfields.gpu.network import Stack, using_precision
from neuralfields.gpu.schedules import SCHEDULES
from tests.support.emulate import Emulator, kernels_of
from tests.support.fused import Case, case, results
from tests.support.inputs import ALLOCATE, IN_PLACE, PLAIN, arguments, copied, tensors
from tests.support.splat_case import by_schedule, loss_inputs, losses, splat_case, steps

RELATIVE = {"float": 3e-6, "half": 1e-2}
WIDTHS = {"small": (20, 32, 5), "wide": (64, 64, 64, 3), "one layer": (32, 16)}


def distance(got: Tensor, want: Tensor) -> float:
    """Norm of the difference over the norm of what is wanted."""
    got, want = got.detach().double(), want.detach().double()
    return float((got - want).norm() / want.norm().clamp(min=1e-30))


def outputs(name: str, given: list, result: object) -> list[Tensor]:
    return tensors(given) if name in IN_PLACE else tensors(result)


def on_cpu(name: str, given: list) -> list[Tensor]:
    return outputs(name, given, getattr(torch.ops.neuralfields, name)(*given))


def emulated(name: str, given: list) -> list[Tensor]:
    return outputs(name, given, SCHEDULES[name](ALLOCATE[name], *given))


def test_every_schedule_is_that_of_an_op():
    """Each then has its case below; an op without a schedule runs on the CPU alone."""
    assert set(SCHEDULES) <= set(ALLOCATE)


def test_an_op_of_one_kernel_refuses_other_shapes():
    """By what its registration says: a kernel would read past the end."""
    x, d_out = torch.zeros(5, 3), torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"d_out has shape \[4, 3\], expected \[5, 3\]"):
        SCHEDULES["contract_backward"](ALLOCATE["contract_backward"], x, d_out, 1, 1.0)
    with pytest.raises(ValueError, match=r"x has shape \[5\], expected \[\*, 3\]"):
        SCHEDULES["contract"](ALLOCATE["contract"], torch.zeros(5), 1, 1.0)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_ops_in_float64(emulator: Emulator, name: str, reverse: bool):
    given = arguments(name, torch.float64)
    want = on_cpu(name, copied(given))
    with emulator.running(reverse):
        got = emulated(name, copied(given))
    emulator.ops.add(name)
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PLAIN if name != "march"])
def test_ops_in_float32(emulator: Emulator, name: str):
    given = arguments(name, torch.float32)
    want = on_cpu(name, copied(given))
    with emulator.running():
        got = emulated(name, copied(given))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-5)


def check_op(emulator: Emulator, name: str, given: list) -> None:
    want = on_cpu(name, copied(given))
    with emulator.running():
        got = emulated(name, copied(given))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("nodes", [(9,), (4, 1), (3, 2, 5, 4)])
def test_grids_of_other_axes(emulator: Emulator, nodes: tuple[int, ...]):
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(90, len(nodes), generator=generator, dtype=torch.float64) * 1.2 - 0.1
    x[0], x[1] = 0.0, 1.0
    grid = torch.randn(*nodes, 35, generator=generator, dtype=torch.float64)
    d_out = torch.randn(90, 35, generator=generator, dtype=torch.float64)
    check_op(emulator, "grid_interpolate", [x, grid])
    check_op(emulator, "grid_interpolate_backward", [x, grid, d_out, [True, True]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(6))
def test_every_radial_kernel(emulator: Emulator, kind: int):
    for name in ("rbf", "rbf_backward"):
        given = arguments(name, torch.float64)
        given[4 if name == "rbf_backward" else 3] = kind
        check_op(emulator, name, given)


def check_network(emulator: Emulator, widths: tuple[int, ...], precision: str, reverse: bool) -> None:
    for name in ("network", "network_backward"):
        given = arguments(name, torch.float32, widths)
        exact = on_cpu(name, [[t.double() for t in a] if isinstance(a, list) else a for a in map(_double, given)])
        with emulator.running(reverse), using_precision(precision):
            got = emulated(name, copied(given))
        # A switched ReLU of 64 units is an eighth of one sample's gradient: the bound for wide networks says so.
        bound = RELATIVE[precision] * (10 if precision == "half" and max(widths) > 32 else 1)
        assert max(distance(a, b) for a, b in zip(got, exact, strict=True)) < bound


def _double(value: object) -> object:
    return value.double() if isinstance(value, Tensor) else value


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("precision", ["float", "half"])
def test_network(emulator: Emulator, precision: str, reverse: bool):
    check_network(emulator, WIDTHS["small"], precision, reverse)


@pytest.mark.slow
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("precision", ["float", "half"])
def test_networks_of_other_widths(emulator: Emulator, widths: str, precision: str):
    check_network(emulator, WIDTHS[widths], precision, False)


def test_wide_networks_and_float64_are_products_of_torch(emulator: Emulator):
    for dtype, widths in ((torch.float32, (8, 80, 3)), (torch.float64, (8, 16, 3))):
        for name in ("network", "network_backward"):
            given = arguments(name, dtype, widths)
            before = list(emulator.launched)
            with emulator.running():
                got = emulated(name, copied(given))
            assert emulator.launched == before  # no kernel of ours
            assert max(distance(a, b) for a, b in zip(got, on_cpu(name, given), strict=True)) < 1e-5


def test_gradients_that_nobody_needs_are_not_made(emulator: Emulator):
    given = arguments("hash_encode_backward", torch.float64)
    for needs in ([True, False], [False, True]):
        with emulator.running():
            before = len(emulator.launched)
            got = emulated("hash_encode_backward", [*given[:-1], needs])
        assert [len(g) > 0 for g in got] == needs
        assert emulator.launched[before:] == ["hash_position_gradient" if needs[0] else "hash_scatter"]


def fused_on_gpu(c: Case) -> None:
    """The case's renderer goes through the CUDA pass from now on."""
    renderer = c.volume.field.fused()
    renderer._pass = torch.device("cpu"), CudaPass(renderer)


def check_render(emulator: Emulator, precision: str, reverse: bool, **config) -> None:
    c = case(dtype=torch.float32, **config)
    want, exact = c.gradients(True)
    picture = results(c.render(True, capacity=0))
    fused_on_gpu(c)
    with emulator.running(reverse), using_precision(precision):
        got, gradients = c.gradients(True)
        quick = c.render(True, capacity=0)
        points = torch.rand(70, 3, generator=torch.Generator().manual_seed(3))
        density = c.volume.density(points)
    bound = RELATIVE[precision]
    # The CPU looks at a ray in runs of samples and may evaluate some behind the one that makes it opaque.
    assert 0.95 * want.samples <= got.samples <= want.samples and bool(got.valid.all())
    assert distance(results(got), results(want)) < bound
    assert distance(results(quick), picture) < bound
    assert [distance(a, b) < bound for a, b in zip(gradients, exact, strict=True)] == [True] * len(exact)
    fused_off = c.volume.field.fused()
    fused_off._pass = None
    assert distance(density, c.volume.density(points)) < bound


def test_fused_render_in_half(emulator: Emulator):
    """Threads from the last to the first; the tests below run them from the first to the last."""
    check_render(emulator, "half", True, space="box", rays=40)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["box3", "cube4"])
@pytest.mark.parametrize("precision", ["float", "half"])
def test_fused_render_everywhere(emulator: Emulator, precision: str, space: str):
    check_render(emulator, precision, False, space=space, rays=150)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"features": 4, "levels": 8, "hidden": 32, "code": 16},
        {"features": 8, "levels": 3, "hidden": 64, "code": 5, "degree": 3, "density_layers": 2},
        {"features": 2, "levels": 5, "hidden": 20, "density_layers": 0, "colour_layers": 1, "degree": 1},
    ],
)
def test_fused_render_of_other_configs(emulator: Emulator, config: dict):
    """Exactly as the CPU in `float`: padding of every width, both parts of the colour network's input."""
    check_render(emulator, "float", False, space="box", rays=40, **config)


def test_many_rays_are_opaque_or_empty(emulator: Emulator):
    """Early stops and rays that meet nothing: lanes take new rays at different times."""
    check_render(emulator, "half", False, space="box", rays=150, contrast=20.0)


def test_a_full_record_drops_whole_rays(emulator: Emulator):
    """What was recorded of a ray that did not fit has no gradient; the others' is that of these rays alone."""
    c = case(dtype=torch.float32, rays=60)
    fused_on_gpu(c)
    with emulator.running(), using_precision("half"):
        sums, gradients = c.gradients(True, capacity=600)
        keep = sums.valid.bool()
        assert 0 < int(keep.sum()) < 60
        _, alone = c.gradients(True, rays=keep)
    assert max(distance(a, b) for a, b in zip(gradients, alone, strict=True)) < 2e-3  # other tiles, other rounding


def test_no_rays(emulator: Emulator):
    c = case(dtype=torch.float32, rays=4)
    fused_on_gpu(c)
    empty = Case(c.volume, c.rays[:0], c.jitter[:0], c.cotangents[:0])
    with emulator.running():
        sums = empty.render(True, capacity=0)
    assert sums.values.shape == (0, 7) and sums.samples == 0


def test_fields_that_the_kernels_do_not_take_go_op_by_op():
    for c in (case(dtype=torch.float64, rays=2), case(dtype=torch.float32, rays=2, hidden=80)):
        fused_on_gpu(c)
        assert c.volume.field.fused() is None


def test_occupied_blocks(emulator: Emulator):
    occupancy = torch.zeros(2, 32768, dtype=torch.int64)
    occupancy[1, (9 * 32 + 5) * 32 + 30] = 4  # brick x 30, y 5, z 9: block x 7, y 1, z 2
    with emulator.running():
        blocks = cuda_schedules.occupancy_blocks(occupancy)
    want = torch.zeros(2, 8, dtype=torch.int64)
    want[1, 2] = 1 << (1 * 8 + 7)
    assert torch.equal(blocks, want)


def test_every_kernel_is_run(emulator: Emulator):
    """Nothing in cuda/gpu escapes the cases of these tests; ops that this process has tried are not run again."""
    c = case(dtype=torch.float32, rays=4)
    fused_on_gpu(c)
    with emulator.running(), using_precision("half"):
        for name in sorted({*PLAIN, "network", "network_backward"} - emulator.ops):
            emulated(name, arguments(name, torch.float32 if name.startswith("network") else torch.float64))
        splats = splat_case(30)
        splats.all(by_schedule)
        steps(splats, True, 1)
        losses(*loss_inputs(torch.float64), True)
        c.gradients(True)
        c.render(True, capacity=0)
        c.volume.density(torch.rand(5, 3))
    launched = set(emulator.launched)
    for path in (source_folder() / "gpu").glob("*.cu"):
        missing = set(kernels_of(path.stem)) - launched
        assert not missing, f"{path.stem}: {missing} never ran"


def test_stacks_and_precision(monkeypatch: pytest.MonkeyPatch):
    stack = Stack((20, 32, 5), 12)
    assert (stack.padded, stack.text, stack.weights, stack.padded_weights) == ((32, 32, 16), "12, 20, 32, 5", 800, 1536)
    assert not Stack((65, 3), 65).fits and Stack((64, 3), 64).fits and not Stack((8,) * 9, 8).fits
    monkeypatch.setenv("NEURALFIELDS_PRECISION", "double")
    with pytest.raises(UsageError, match="NEURALFIELDS_PRECISION=double: must be one of half, float"):
        cuda_network.precision()
    with using_precision("float"):
        assert cuda_network.precision() == "float"


def test_an_op_without_a_schedule_says_so():
    with pytest.raises(UsageError, match="sobel runs on the CPU alone; use --device cpu"):
        cuda_schedules.schedule("sobel")


@pytest.mark.parametrize(
    ("name", "index", "shape", "message"),
    [
        ("contract", 0, (5, 2), r"x has shape \[5, 2\], expected \[\*, 3\]"),
        ("march", 2, (3,), r"jitter has shape \[3\], expected \[70\]"),
        ("march", 3, (1, 8), r"occupancy has shape \[1, 8\], expected \[\*, 32768\]"),
        ("composite", 3, (4, 3), r"rgb has shape \[4, 3\], expected"),
        ("hash_encode", 0, (5, 4), r"x has shape \[5, 4\], expected \[\*, 3\]"),
        ("hash_encode_backward", 4, (300, 3), r"d_out has shape \[300, 3\], expected \[300, 16\]"),
        ("grid_interpolate", 0, (5, 2), r"x has shape \[5, 2\], expected \[\*, 3\]"),
        ("rbf", 0, (5, 2), r"f has shape \[5, 2\], expected \[\*, 6\]"),
        ("network", 0, (5, 2), r"weights has shape \[32, 20\], expected \[\*, 2\]"),
        ("pixel_rays", 0, (5, 24), r"cameras has shape \[5, 24\], expected \[\*, 25\]"),
        ("adam", 1, (3,), r"gradient has shape \[3\], expected \[1000\]"),
    ],
)
def test_shapes_are_checked_at_the_door(emulator: Emulator, name: str, index: int, shape: tuple, message: str):
    """A kernel would read past the end; the words are those of the CPU's door."""
    given = arguments(name, torch.float32)
    given[index] = torch.zeros(shape, dtype=given[index].dtype)
    before = len(emulator.launched)
    with emulator.running(), pytest.raises(ValueError, match=message):
        emulated(name, given)
    assert set(emulator.launched[before:]) <= {"occupancy_blocks"}
