"""What every differentiable op is judged by: its plain-torch reference under random cotangents."""

from collections.abc import Callable

import torch
from torch import Tensor


def assert_matches(
    op: Callable[..., Tensor | tuple], reference: Callable[..., Tensor | tuple], inputs: list[Tensor], rtol: float
) -> None:
    """Values and gradients of `op` equal those of `reference`; inputs that require a gradient are compared by it.

    `rtol` is relative to the largest element of what is compared.
    """
    results = []
    for function in (op, reference):
        leaves = [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]
        out = function(*leaves)
        out = list(out if isinstance(out, tuple) else (out,))
        generator = torch.Generator().manual_seed(3)
        loss = sum((o * torch.randn(o.shape, generator=generator, dtype=o.dtype)).sum() for o in out if o.requires_grad)
        loss.backward()
        results.append((out, [x.grad for x in leaves if x.requires_grad]))
    for got, want in zip(results[0][0] + results[0][1], results[1][0] + results[1][1], strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got, want, rtol=0, atol=rtol * max(float(want.detach().abs().max()), 1e-6))
