"""Bodies of coordinate networks: their formulas, their hook, their types."""

import pytest
import torch

from neuralfields.layers import trunk as trunk_module
from neuralfields.layers.encodings import activation
from neuralfields.layers.trunk import Shape, Trunk

RELU = activation("gaussian", 1.0)
SHAPES = {
    "plain": Shape(3, 16),
    "skip": Shape(3, 16, skip=2),
    "hourglass": Shape(3, 16, inner=6),
    "fixed lift": Shape(3, 16, inner=6, fixed_lift=True),
}


def made(shape: Shape, inputs: int = 5) -> tuple[Trunk, torch.Tensor]:
    torch.manual_seed(0)
    return Trunk(inputs, shape, RELU), torch.randn(40, inputs)


@pytest.mark.parametrize("name", SHAPES)
def test_the_hook_sees_each_hidden_layer_before_its_activation(name):
    trunk, e = made(SHAPES[name])
    seen = []

    def modulate(layer: int, h: torch.Tensor, relu: bool) -> torch.Tensor:
        seen.append((layer, h.shape[1], bool((h < 0).any())))
        return torch.relu(h) if relu else h

    assert torch.equal(trunk(e, modulate), trunk(e))
    assert [s[:2] for s in seen] == list(enumerate(SHAPES[name].modulated)) and all(s[2] for s in seen)


@pytest.mark.parametrize("name", SHAPES)
def test_what_the_hook_returns_is_used(name):
    trunk, e = made(SHAPES[name])
    assert float((trunk(e, lambda layer, h, relu: torch.relu(2 * h + 1)) - trunk(e)).detach().abs().max()) > 0.1


def test_plain_layers_with_a_skip():
    trunk, e = made(SHAPES["skip"])
    a, b, c = trunk.body.linears
    h = torch.relu(e @ a.weight.T + a.bias)
    h = torch.relu(h @ b.weight.T + b.bias)
    h = torch.relu(torch.cat([h, e], 1) @ c.weight.T + c.bias)
    torch.testing.assert_close(trunk(e), h)


def test_hourglass_blocks():
    trunk, e = made(SHAPES["hourglass"])
    body = trunk.body
    z = e @ body.lift.T
    for narrow, wide in zip(body.narrow, body.wide, strict=True):
        norm = (z - z.mean(1, keepdim=True)) / (z.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        z = z + torch.relu(norm @ narrow.weight.T + narrow.bias) @ wide.weight.T + wide.bias
    torch.testing.assert_close(trunk(e), z)


def test_a_fixed_lift_is_saved_and_not_trained():
    fixed, _ = made(SHAPES["fixed lift"])
    trained, _ = made(SHAPES["hourglass"])
    assert set(fixed.state_dict()) == set(trained.state_dict())
    assert set(dict(trained.named_parameters())) - set(dict(fixed.named_parameters())) == {"body.lift"}


def test_bfloat16_products_are_near_and_keep_float32_weights(monkeypatch):
    shape = Shape(3, 64, bfloat16=True)
    monkeypatch.setattr(trunk_module, "has_bfloat16", lambda: True)
    torch.manual_seed(0)
    trunk, e = Trunk(8, shape, RELU), torch.rand(100, 8)
    near = trunk(e)
    near.sum().backward()
    monkeypatch.setattr(trunk_module, "has_bfloat16", lambda: False)
    exact = trunk(e)
    assert near.dtype == torch.float32 and all(p.grad.dtype == torch.float32 for p in trunk.parameters())
    error = float((near - exact).detach().norm() / exact.detach().norm())
    assert 1e-4 < error < 2e-2  # bfloat16 has 8 bits: it was used, and it is near
