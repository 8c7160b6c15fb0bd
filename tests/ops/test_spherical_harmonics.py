import math

import numpy as np
import pytest
import torch

from neuralfields.ops.spherical_harmonics import spherical_harmonics, spherical_harmonics_reference
from tests.support.judges import assert_matches


def unit(count: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator, dtype=dtype), dim=1)


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_reference(degree, generator, instruction_set):
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        d = unit(301, generator, dtype).requires_grad_()
        if degree == 1:  # constant: the reference has no graph
            assert torch.equal(spherical_harmonics(d, 1), spherical_harmonics_reference(d.detach(), 1))
            continue
        assert_matches(
            lambda v: spherical_harmonics(v, degree), lambda v: spherical_harmonics_reference(v, degree), [d], tolerance
        )


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_gradcheck(degree, generator):
    """The direction is a free vector here: the gradient is that of the polynomials, on and off the sphere."""
    d = torch.randn(7, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: spherical_harmonics(v, degree), d)


def test_orthonormal_over_the_sphere():
    """Analytic truth: the integral of Y_i Y_j over the sphere is 1 where i = j, else 0 (a rule exact for degree 6)."""
    rings, turn = 8, 16
    z, weight = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(rings))
    phi = torch.arange(turn, dtype=torch.float64) * (2 * math.pi / turn)
    rim = torch.sqrt(1 - z * z)[:, None]
    d = torch.stack([rim * phi.cos(), rim * phi.sin(), z[:, None].expand(-1, turn)], -1).reshape(-1, 3)
    y = spherical_harmonics(d, 4)
    area = (weight * 2 * math.pi / turn)[:, None].expand(-1, turn).reshape(-1, 1)
    torch.testing.assert_close(y.T @ (y * area), torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-13)


def test_values_by_associated_legendre_functions(generator):
    """Another formula: sqrt(2) N P_l^|m|(cos theta) cos or sin(|m| phi), with the Condon-Shortley sign in P."""
    d = unit(50, generator)
    theta, phi = d[:, 2].clamp(-1, 1), torch.atan2(d[:, 1], d[:, 0])
    s = torch.sqrt(1 - theta * theta)
    legendre = {
        (0, 0): torch.ones_like(theta),
        (1, 0): theta,
        (1, 1): -s,
        (2, 0): (3 * theta**2 - 1) / 2,
        (2, 1): -3 * theta * s,
        (2, 2): 3 * s**2,
        (3, 0): (5 * theta**3 - 3 * theta) / 2,
        (3, 1): -1.5 * (5 * theta**2 - 1) * s,
        (3, 2): 15 * theta * s**2,
        (3, 3): -15 * s**3,
    }
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            m = abs(order)
            norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
            turn = torch.sin(m * phi) if order < 0 else torch.cos(m * phi)
            columns.append((math.sqrt(2) if m else 1) * norm * legendre[degree, m] * turn)
    torch.testing.assert_close(spherical_harmonics(d, 4), torch.stack(columns, 1), rtol=0, atol=1e-12)


def test_empty_batch_and_refusals():
    assert spherical_harmonics(torch.zeros(0, 3), 4).shape == (0, 16)
    for degree in (0, 5):
        with pytest.raises(ValueError, match="degree must be 1 to 4"):
            spherical_harmonics(torch.zeros(2, 3), degree)
    with pytest.raises(ValueError, match=r"x has shape \[2, 4\], expected \[\*, 3\]"):
        spherical_harmonics(torch.zeros(2, 4), 2)
    with pytest.raises(TypeError, match="float32 or float64"):
        spherical_harmonics(torch.zeros(2, 3).half(), 2)


def test_opcheck(generator):
    args = (unit(5, generator).requires_grad_(), 3)
    torch.library.opcheck(torch.ops.neuralfields.spherical_harmonics, args)
