"""Gradients by finite differences at the corners of a tetrahedron: four values in place of the six along the axes."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

CORNERS = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))


def gradient_of(
    function: Callable[[Tensor], Tensor], points: Float[Tensor, "S 3"], half: float
) -> tuple[Float[Tensor, "S 3"], Float[Tensor, " S"]]:
    """The gradient of a function [S, 3] -> [S] at points, and the mean of its values around each.

    `half`: half the side of the cube that the tetrahedron stands in. Exact for linear functions; for others an error
    of first order, `half` times the mixed second derivatives. The function is called once, with all corners: a call's
    way back costs as much as its tables are large.
    """
    corners = points.new_tensor(CORNERS)
    values = function((points[:, None] + half * corners).flatten(0, 1)).unflatten(0, (-1, len(CORNERS)))
    return values @ corners / (4 * half), values.mean(1)
