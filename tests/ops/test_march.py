import functools

import pytest
import torch

from neuralfields.ops.march import MarchSettings, march_rays, march_rays_reference
from neuralfields.ops.occupancy_bits import BRICKS, CELLS, occupied
from neuralfields.rays import Samples
from tests.support.marching_cases import WORDS, nested, rays, sparse

# Every number is exact in float32, as which the core takes them.
EVEN = MarchSettings(1 / 256, 1 / 256, 0.0, 0.0)
GROWING = MarchSettings(1 / 256, 1 / 4, 1 / 128, 0.0)


def full(cascades: int) -> torch.Tensor:
    return torch.full((cascades, WORDS), -1, dtype=torch.int64)


def assert_same(got: Samples, want: Samples) -> None:
    assert torch.equal(got.offsets, want.offsets)
    for name in ("x", "t", "length"):
        torch.testing.assert_close(getattr(got, name), getattr(want, name), rtol=0, atol=1e-9)


@functools.cache
def marched_by_reference(cascades: int, even: bool) -> tuple[tuple[torch.Tensor, ...], torch.Tensor, Samples]:
    """Rays, occupancy and their samples, once for all instruction sets."""
    generator = torch.Generator().manual_seed(7)
    occupancy = (sparse if even else nested)(cascades, generator)
    lines = rays(70 if even else 150, cascades, generator)
    return lines, occupancy, march_rays_reference(*lines, occupancy, EVEN if even else GROWING)


@pytest.mark.parametrize("even", [True, False], ids=["even", "growing"])
@pytest.mark.parametrize("cascades", [1, 2, 4])
def test_reference(cascades, even, instruction_set):
    lines, occupancy, want = marched_by_reference(cascades, even)
    got = march_rays(*lines, occupancy, EVEN if even else GROWING)
    assert got.x.shape[0] > 1000
    assert_same(got, want)


def test_reference_with_growing_steps_and_cascades_that_disagree(generator):
    """Where a step outgrows its cells in the middle of an empty brick, the coarser cascade has to be asked."""
    occupancy = sparse(4, generator)
    origins, directions, jitter = rays(150, 4, generator)
    assert_same(
        march_rays(origins, directions, jitter, occupancy, GROWING),
        march_rays_reference(origins, directions, jitter, occupancy, GROWING),
    )


def test_float32_takes_nearly_the_same_samples(generator):
    occupancy, lines = sparse(2, generator), rays(400, 2, generator)
    exact = march_rays(*lines, occupancy, EVEN)
    got = march_rays(*(a.float() for a in lines), occupancy, EVEN)
    assert got.t.dtype == torch.float32
    assert abs(len(got.t) - len(exact.t)) < 0.01 * len(exact.t)


@pytest.mark.parametrize("cascades", [1, 3])
def test_lengths_in_a_full_grid_add_up_to_the_chord(cascades, generator):
    """Analytic truth: all steps that start inside are taken, so the sum is the chord rounded up to whole steps."""
    origins, directions, _ = rays(300, cascades, generator)
    samples = march_rays(origins, directions, torch.zeros(300, dtype=torch.float64), full(cascades), EVEN)
    half = 0.5 * 2 ** (cascades - 1)
    a, b = (0.5 - half - origins) / directions, (0.5 + half - origins) / directions
    parallel = directions == 0
    outside = (parallel & ((origins - 0.5).abs() > half)).any(1)
    enter = torch.minimum(a, b).masked_fill(parallel, -torch.inf).amax(1).clamp(min=0)
    leave = torch.maximum(a, b).masked_fill(parallel, torch.inf).amin(1)
    chord = (leave - enter).clamp(min=0).masked_fill(outside, 0)
    total = torch.zeros(300, dtype=torch.float64).index_add(0, samples.ray, samples.length)
    excess = total - chord
    assert bool((excess > -1e-9).all()) and bool((excess < EVEN.min_step + 1e-9).all())
    assert bool((total[chord == 0] == 0).all()) and int((chord == 0).sum()) > 10
    start = samples.t[samples.offsets[:-1][chord > 0]] - EVEN.min_step / 2
    torch.testing.assert_close(start, enter[chord > 0], rtol=0, atol=1e-12)


def test_empty_grid_has_no_samples(generator):
    samples = march_rays(*rays(200, 2, generator), torch.zeros(2, WORDS, dtype=torch.int64), GROWING)
    assert samples.x.shape == (0, 3) and not samples.offsets.any()


def test_one_brick_holds_all_samples(generator):
    """Analytic truth: brick (5, 20, 9) of cascade 0 is the box [5, 6] x [20, 21] x [9, 10] / 32."""
    occupancy = torch.zeros(1, WORDS, dtype=torch.int64)
    occupancy[0, (9 * BRICKS + 20) * BRICKS + 5] = -1
    low = torch.tensor([5.0, 20.0, 9.0], dtype=torch.float64) / BRICKS
    origins, _, jitter = rays(300, 1, generator)
    target = low + torch.rand(300, 3, generator=generator, dtype=torch.float64) / BRICKS
    directions = torch.nn.functional.normalize(target - origins, dim=1)
    samples = march_rays(origins, directions, jitter, occupancy, EVEN)
    assert bool(((samples.x >= low) & (samples.x <= low + 1 / BRICKS)).all())
    assert int((samples.offsets.diff() > 0).sum()) > 270  # a chord of a corner may be shorter than a step


def test_one_cell_is_found_through_its_bit():
    """The bit of cell (x, y, z) in its brick is x + 4 y + 16 z of the cell's place there."""
    x = torch.tensor([[(37 + 0.5) / CELLS, (90 + 0.5) / CELLS, (7 + 0.5) / CELLS]], dtype=torch.float64)
    occupancy = torch.zeros(1, WORDS, dtype=torch.int64)
    occupancy[0, ((7 // 4) * BRICKS + 90 // 4) * BRICKS + 37 // 4] = 1 << (37 % 4 + 4 * (90 % 4) + 16 * (7 % 4))
    assert bool(occupied(x, torch.zeros(1, dtype=torch.int64), occupancy))
    for axis in range(3):
        direction = torch.eye(3, dtype=torch.float64)[axis : axis + 1]
        origin = x - direction * x[:, axis : axis + 1]  # on the face of the cube
        samples = march_rays(origin, direction, torch.zeros(1, dtype=torch.float64), occupancy, EVEN)
        assert samples.x.shape[0] == 2 and float((samples.x - x).abs().max()) <= 0.5 / CELLS


def test_rays_that_miss_or_look_away():
    origins = torch.tensor([[2.0, 2.0, 2.0], [-1.0, 0.5, 0.5], [0.5, 1.5, 0.5]], dtype=torch.float64)
    directions = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0]], dtype=torch.float64)
    assert march_rays(origins, directions, torch.zeros(3, dtype=torch.float64), full(1), EVEN).x.shape[0] == 0


def test_near_is_kept(generator):
    settings = MarchSettings(1 / 256, 1 / 256, 0.0, 0.25)
    origins, directions, jitter = rays(100, 1, generator)
    samples = march_rays(origins, directions, jitter, full(1), settings)
    assert float((samples.t - samples.length / 2).min()) >= 0.25
    assert_same(samples, march_rays_reference(origins, directions, jitter, full(1), settings))


def test_jitter_moves_samples_by_a_part_of_a_step(generator):
    origins, directions, jitter = rays(50, 1, generator)
    still, moved = (march_rays(origins, directions, j, full(1), EVEN) for j in (torch.zeros_like(jitter), jitter))
    for r in range(50):
        if still.offsets[r] < still.offsets[r + 1] and moved.offsets[r] < moved.offsets[r + 1]:
            shift = moved.t[moved.offsets[r]] - still.t[still.offsets[r]]
            assert float(shift) == pytest.approx(float(jitter[r]) * EVEN.min_step, abs=1e-12)


def test_same_bits_for_any_threads(generator):
    lines, occupancy = rays(5000, 2, generator), sparse(2, generator)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(march_rays(*lines, occupancy, GROWING))
    torch.set_num_threads(before)
    for name in ("x", "t", "length", "offsets"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name))


def test_empty_batch_and_refusals(generator):
    origins, directions, jitter = rays(5, 1, generator)
    assert march_rays(origins[:0], directions[:0], jitter[:0], full(1), EVEN).offsets.tolist() == [0]
    with pytest.raises(ValueError, match=r"directions has shape \[4, 3\], expected \[5, 3\]"):
        march_rays(origins, directions[:4], jitter, full(1), EVEN)
    with pytest.raises(ValueError, match=r"jitter has shape \[3\], expected \[5\]"):
        march_rays(origins, directions, jitter[:3], full(1), EVEN)
    with pytest.raises(ValueError, match=r"occupancy has shape \[1, 100\], expected \[\*, 32768\]"):
        march_rays(origins, directions, jitter, full(1)[:, :100], EVEN)
    with pytest.raises(ValueError, match="steps must be positive"):
        march_rays(origins, directions, jitter, full(1), MarchSettings(0.0, 0.1, 0.0, 0.0))
    with pytest.raises(TypeError, match="float32 or float64"):
        march_rays(origins.half(), directions.half(), jitter.half(), full(1), EVEN)


def test_opcheck(generator):
    lines = rays(6, 1, generator)
    torch.library.opcheck(torch.ops.neuralfields.march, (*lines, full(1), [1 / 64, 1 / 64, 0.0, 0.0]))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [EVEN, GROWING], ids=["even", "growing"])
@pytest.mark.parametrize("occupied_everywhere", [True, False])
def test_a_march_ends_at_any_distance(kind, settings, occupied_everywhere):
    """Where t + step would be t, a march would never end; such a ray takes no sample, and the reference agrees."""
    distance = torch.tensor([1e2, 1e4, 3e4, 1e5, 1e6, 1e9, 1e20, 1e38, torch.inf, torch.nan], dtype=kind)
    origins = torch.full((len(distance), 3), 0.5, dtype=kind)
    origins[:, 2] -= distance
    directions = torch.tensor([[0.0, 0.0, 1.0]], dtype=kind).expand(len(distance), 3).contiguous()
    occupancy = full(2) if occupied_everywhere else torch.zeros(2, WORDS, dtype=torch.int64)
    jitter = torch.zeros(len(distance), dtype=kind)
    got = march_rays(origins, directions, jitter, occupancy, settings)
    want = march_rays_reference(origins, directions, jitter, occupancy, settings)
    assert torch.equal(got.offsets, want.offsets)
    counts = got.offsets.diff()
    assert bool(counts[0] >= 8) == occupied_everywhere  # seen from a hundred cubes away
    assert not counts[4 if kind == torch.float32 and settings is EVEN else 6 :].any()


def test_a_march_along_a_direction_of_no_length_ends():
    origins = torch.full((2, 3), 0.5)
    directions = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1e-9]])
    assert not len(march_rays(origins, directions, torch.zeros(2), full(1), EVEN).t)
