import pytest
import torch
from torch.nn.functional import avg_pool2d

from neuralfields.ops.plane_sweep import Sources, plane_sweep, plane_sweep_reference


def smooth_noise(*shape: int, generator: torch.Generator, dtype: torch.dtype) -> torch.Tensor:
    return avg_pool2d(torch.rand(*shape, generator=generator, dtype=dtype)[:, None], 3, 1, 1)[:, 0].contiguous()


def scene(generator: torch.Generator, dtype: torch.dtype, count: int = 3) -> tuple:
    """Three photos of other sizes and poses than the reference, of which parts are not seen."""
    reference = smooth_noise(1, 37, 50, generator=generator, dtype=dtype)[0]
    grey = smooth_noise(3, 40, 52, generator=generator, dtype=dtype)
    sizes = torch.tensor([[52, 40], [47, 33], [50, 37]], dtype=torch.int32)
    a = torch.eye(3, dtype=dtype) + 1e-3 * torch.randn(3, 3, 3, generator=generator, dtype=dtype)
    b = torch.tensor([[10.0, 0.0, 0.1], [-10.0, 3.0, 0.0], [0.0, 8.0, -0.1]], dtype=dtype)
    centre = 0.1 * torch.rand(37, 50, generator=generator, dtype=dtype)
    return reference, Sources(grey[:count], sizes[:count], a[:count], b[:count]), centre


def shaped() -> tuple:
    return *scene(torch.Generator().manual_seed(7), torch.float32), torch.linspace(0.1, 1.0, 3)


SHAPED = {"plane_sweep.plane_sweep": shaped, "plane_sweep.plane_sweep_reference": shaped}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_reference(count, dtype, tolerance, generator, instruction_set):
    """Score and inverse depth of every pixel; in float32 two hypotheses that score alike may change places."""
    given = *scene(generator, dtype, count), torch.linspace(0.1, 1.0, 20, dtype=dtype), 0.15
    (q, score), (want, want_score) = plane_sweep(*given), plane_sweep_reference(*given)
    torch.testing.assert_close(score, want_score, rtol=0, atol=tolerance)
    assert ((q - want).abs() > 100 * tolerance).float().mean() <= (0 if dtype == torch.float64 else 0.003)


def test_one_hypothesis_has_no_parabola(generator):
    reference, sources, centre = scene(generator, torch.float64)
    q, _ = plane_sweep(reference, sources, centre, torch.tensor([0.2], dtype=torch.float64))
    assert torch.equal(q, centre + 0.2)


def test_threads_do_not_matter(generator):
    given = *scene(generator, torch.float32), torch.linspace(0.0, 1.0, 9)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(plane_sweep(*given))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_textured_plane():
    """Analytic truth: a slanted plane with a pattern, seen by three pinholes moved aside, has its depth everywhere."""
    focal, height, width = 60.0, 48, 64
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")

    def pattern(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.2 * torch.sin(9 * x + 3 * torch.sin(2 * y)) + 0.2 * torch.sin(7 * y + 4 * torch.sin(3 * x))

    def photo(shift: float) -> tuple[torch.Tensor, torch.Tensor]:
        """z = 3 + 0.4 x in the world of the reference, seen from (shift, 0, 0)."""
        a, b = (columns - width / 2) / focal, (rows - height / 2) / focal
        depth = (3 + 0.4 * shift) / (1 - 0.4 * a)
        return pattern(shift + a * depth, b * depth), depth

    reference, depth = photo(0.0)
    shifts = (-0.3, 0.25, 0.4)
    grey = torch.stack([photo(shift)[0] for shift in shifts])
    sizes = torch.tensor([[width, height]] * 3, dtype=torch.int32)
    b = torch.tensor([[-shift * focal, 0.0, 0.0] for shift in shifts])
    sources = Sources(grey, sizes, torch.eye(3).repeat(3, 1, 1), b)
    q, score = plane_sweep(reference, sources, torch.zeros(height, width), torch.linspace(0.1, 0.6, 40))
    inner = slice(4, -4), slice(10, -10)
    error = (q * depth - 1).abs()[inner]
    assert score[inner].median() > 0.98
    assert error.median() < 0.01
    assert (error < 0.04).float().mean() > 0.97


def test_what_no_photo_sees_scores_least(generator):
    reference, sources, centre = scene(generator, torch.float32)
    away = Sources(sources.grey, sources.sizes, sources.a, sources.b + torch.tensor([1e6, 0.0, 0.0]))
    _, score = plane_sweep(reference, away, centre, torch.tensor([0.5, 1.0]))
    assert (score == -1).all()
