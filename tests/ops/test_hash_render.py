"""The fused path against the composition of the ops, against finite differences, and against itself."""

import copy
from dataclasses import replace

import pytest
import torch

from neuralfields.ops.march import Marching
from neuralfields.rays import Rays, RaySums
from tests.support.fused import ROOM, Case, case, results, surface_case
from tests.support.unchecked import unchecked

CONFIGS = [
    {"space": "box"},
    {"space": "box", "hidden": 64, "colour_layers": 1, "degree": 3},
    {"space": "box", "levels": 8, "features": 4, "hidden": 32, "degree": 1},
    {"space": "box", "contrast": 20.0, "density_layers": 2},
    {"space": "box3", "hidden": 32, "degree": 2},
    {"space": "box3", "levels": 8, "features": 4, "colour_layers": 1, "contrast": 20.0},
    {"space": "cube4", "hidden": 64, "levels": 8, "features": 4, "code": 16},
    {"space": "cube4", "colour_layers": 1, "degree": 1, "contrast": 20.0, "features": 8},
]


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def name(config: dict) -> str:
    return "-".join(str(v) if k == "space" else f"{k}{v:g}" for k, v in config.items())


def assert_close(got: list[torch.Tensor], want: list[torch.Tensor], tolerance: float) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(float(b.abs().max()), 1e-3))


def values(sums: RaySums) -> list[torch.Tensor]:
    return list(results(sums).detach().unbind(1))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=["f64", "f32"])
@pytest.mark.parametrize("config", CONFIGS, ids=name)
def test_equals_the_composition_of_the_ops(config, dtype, tolerance, instruction_set):
    scene = case(dtype=dtype, **config)
    want, want_gradients = scene.gradients(fused=False)
    got, gradients = scene.gradients(fused=True)
    assert bool(got.valid.all())
    opaque = float((want.opacity > 0.999).float().mean())
    assert opaque > 0.2 if "contrast" in config else opaque < 1
    assert_close(values(got), values(want), tolerance)
    assert_close(gradients, want_gradients, tolerance)
    assert all(float(g.abs().max()) > 0 for g in gradients)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-4)], ids=["f64", "f32"])
@pytest.mark.parametrize("active", [2, 4])
@pytest.mark.parametrize("space", ["box", "box3", "cube4"])
def test_a_signed_distance_equals_the_composition_of_the_ops(space, active, dtype, tolerance, instruction_set):
    scene = surface_case(space, dtype, active)
    want, want_gradients = scene.gradients(fused=False)
    got, gradients = scene.gradients(fused=True)
    assert 0.1 < float(want.opacity.detach().mean()) < 1
    assert_close(values(got), values(want), tolerance)
    assert_close(gradients, want_gradients, tolerance)
    assert all(float(g.abs().max()) > 0 for g in gradients)
    with torch.no_grad():
        x = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).to(dtype) + 0.5
        field, contraction = scene.volume.field, scene.volume.contraction
        want = torch.exp(field.log_density(field.features(contraction(x))).clamp(max=15))
    torch.testing.assert_close(field.fused().density(x, contraction), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("config", CONFIGS[::2], ids=name)
def test_without_a_record_the_values_are_the_same(config, instruction_set):
    scene = case(**config)
    recorded = scene.render(fused=True)
    with torch.no_grad():
        renderer = scene.volume.field.fused()
        origins, directions = scene.volume.normalise(scene.rays)
        plain = renderer.render(marching(scene, Rays(origins, directions), scene.jitter, 2.0))
    assert_close(values(plain), values(recorded), 1e-12)
    assert not plain.values.requires_grad and recorded.values.requires_grad


def marching(scene: Case, rays: Rays, jitter: torch.Tensor | None = None, coarseness: float = 1.0) -> Marching:
    volume = scene.volume
    return Marching(rays, jitter, volume.occupancy, volume.settings(coarseness), volume.contraction)


def slope(scene: Case, parameter: torch.Tensor, direction: torch.Tensor, step: float = 1e-7) -> float:
    """Central difference of the loss along a direction in one parameter; a short step crosses few kinks of relu."""
    ends = []
    with torch.no_grad():
        for sign in (1, -1):
            parameter.add_(direction, alpha=sign * step)
            ends.append(float(scene.loss(scene.render(fused=True))))
            parameter.add_(direction, alpha=-sign * step)
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("space", ["box", "box3", "cube4"])
def test_finite_differences(space):
    """Every parameter along random directions, and the table, whose gradient is added in place, entry by entry."""
    check_finite_differences(case(space, density_layers=2))


@pytest.mark.parametrize("space", ["box", "cube4"])
def test_finite_differences_of_a_signed_distance(space):
    """As above, the scale of the density among the parameters; steps are shorter, for its density is steep."""
    check_finite_differences(surface_case(space), 1e-8)


def check_finite_differences(scene: Case, step: float = 1e-7) -> None:
    _, gradients = scene.gradients(fused=True)
    generator = torch.Generator().manual_seed(2)
    for p, g in zip(scene.parameters(), gradients, strict=True):
        for _ in range(3):
            direction = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            want = slope(scene, p, direction, step)
            assert float((g * direction).sum()) == pytest.approx(want, rel=1e-5, abs=1e-5)
    table, g = scene.volume.field.table, gradients[0]
    touched = g.flatten().nonzero().flatten()
    for at in touched[torch.randperm(len(touched), generator=generator)[:20]].tolist():
        direction = torch.zeros(table.numel(), dtype=torch.float64)
        direction[at] = 1
        want = slope(scene, table, direction.view_as(table), step)
        assert float(g.flatten()[at]) == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_table_gradient_is_added_to_what_is_there():
    scene = case()
    table = scene.volume.field.table
    _, (once, *_) = scene.gradients(fused=True)
    table.grad = torch.ones_like(table)
    kept = table.grad
    scene.loss(scene.render(fused=True)).backward()
    assert table.grad is kept
    torch.testing.assert_close(kept, once + 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 1e-4)], ids=["f64", "f32"])
def test_threads_agree_and_repeat_to_the_bit(dtype, tolerance):
    scene = case("cube4", dtype, rays=400)
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        sums, gradients = scene.gradients(fused=True)
        again, repeated = scene.gradients(fused=True)
        assert all(torch.equal(a, b) for a, b in zip(values(sums), values(again), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(gradients, repeated, strict=True))
        assert sums.samples == again.samples
        found[threads] = values(sums) + gradients
    assert all(torch.equal(a, b) for a, b in zip(found[1][:6], found[2][:6], strict=True))
    assert_close(found[1][6:], found[2][6:], tolerance)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_rays_past_the_capacity_are_flagged_and_teach_nothing(share, threads):
    torch.set_num_threads(threads)
    scene = case("box3", rays=300)
    whole, _ = scene.gradients(fused=True)
    got, gradients = scene.gradients(fused=True, capacity=int(whole.samples * share))
    valid = got.valid.bool()
    assert 0 < int((~valid).sum()) < 300 or share < 0.05
    for a, b in zip(values(got), values(whole), strict=True):
        torch.testing.assert_close(a[valid], b[valid], rtol=0, atol=1e-12)
    if valid.any():
        _, want = scene.gradients(fused=False, rays=valid)
        assert_close(gradients, want, 1e-9)
    else:
        assert not any(g.any() for g in gradients)


def test_weight_floor_is_invisible():
    for contrast in (1.0, 20.0):
        scene = case("box3", rays=300, contrast=contrast)
        renderer = scene.volume.field.fused()
        rays = Rays(*scene.volume.normalise(scene.rays))
        exact, quick = (renderer.render(marching(scene, rays), 0, floor) for floor in (0.0, 1e-4))
        assert float((exact.rgb - quick.rgb).abs().max()) < 2 / 255
        assert float((exact.opacity - quick.opacity).abs().max()) < 2 / 255


def test_density_alone_equals_the_field(instruction_set):
    for space in ("box3", "cube4"):
        scene = case(space)
        x = torch.randn(1000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 0.5
        field = scene.volume.field
        want = torch.exp(field.log_density(field.features(scene.volume.contraction(x)))).detach()
        got = field.fused().density(x, scene.volume.contraction)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


def test_the_record_of_a_step_gives_its_samples():
    """The surface's penalty is taken at some of them; a record that was used, or none, gives nothing."""
    scene = surface_case("cube4")
    renderer = scene.volume.field.fused()
    assert renderer.recorded(10) is None
    sums = scene.render(fused=True)
    places = renderer.recorded(10)
    assert places.shape == (10, 3) and bool(((places > 0) & (places < 1)).all())
    assert len(renderer.recorded(1 << 20)) <= sums.samples
    scene.loss(sums).backward()
    assert renderer.recorded(10) is None


def test_a_copied_field_renders_by_itself():
    """Its levels and the scale of its density are its own."""
    scene = surface_case("cube4")
    field = scene.volume.field
    field.fused()
    copied = copy.deepcopy(field)
    copied.active = 2
    with torch.no_grad():
        copied.log_beta.add_(0.2)
    other = replace(scene, volume=replace(scene.volume, field=copied))
    assert_close(values(other.render(fused=True)), values(other.render(fused=False)), 1e-9)


def test_what_a_distance_may_be_is_checked():
    scene = surface_case("box")
    renderer = scene.volume.field.fused()
    native = renderer.native._field(scene.volume.contraction)
    with pytest.raises(ValueError, match="beta must be above 0"):
        native.set_distance(0.5, 0.1, 0.25, 0.0)
    with pytest.raises(ValueError, match="from 1 to the number of levels"):
        native.set_active(5)


def test_no_rays():
    scene = case(rays=1)
    empty = torch.zeros(0, 3, dtype=torch.float64)
    renderer = scene.volume.field.fused()
    for capacity in (0, ROOM):
        sums = renderer.render(marching(scene, Rays(empty, empty)), capacity)
        assert sums.values.shape == (0, 7) and sums.samples == 0


def test_backward_needs_its_own_record():
    """One record serves one step: a backward whose record was overwritten or used must fail, not be wrong."""
    scene = case()
    first = scene.loss(scene.render(fused=True))
    scene.render(fused=True)
    with pytest.raises(RuntimeError, match="record"):
        first.backward()


def test_backward_twice_is_refused():
    scene = case()
    loss = scene.loss(scene.render(fused=True))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="record"):
        loss.backward()


def test_wrong_shapes_are_refused():
    scene = case()
    renderer, (origins, directions) = scene.volume.field.fused(), scene.volume.normalise(scene.rays)
    with pytest.raises(ValueError, match=r"directions has shape \[59, 3\], expected \[60, 3\]"):
        renderer.render(marching(scene, unchecked(Rays, origins=origins, directions=directions[:-1])))
    with pytest.raises(ValueError, match=r"jitter has shape \[3\], expected \[60\]"):
        renderer.render(marching(scene, Rays(origins, directions), scene.jitter[:3]))
    renderer.colour_weights[0] = renderer.colour_weights[0][:, :-1]
    with pytest.raises(ValueError, match="colour network: first layer must take"):
        renderer.render(marching(scene, Rays(origins, directions)))
