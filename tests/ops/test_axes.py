"""A field whose coordinates enter in another order: the fused path, the plain one and a turned scene agree."""

from dataclasses import replace

import pytest
import torch

from neuralfields.domain import Domain
from neuralfields.fields.hash import Config, HashField
from neuralfields.ops.hash_render import TurnedRenderer
from neuralfields.ops.occupancy_bits import ORDERS, bricks_of, cells_of, occupied, turn_occupancy
from neuralfields.rays import Rays
from neuralfields.rendering.volume import Volume
from neuralfields.scene import Bounds

CONFIG = Config(levels=3, features=2, table=9, base=4, finest=16, hidden=16, axes="yzx")
ORDER = ORDERS["yzx"]


def random_bits(cascades: int = 2) -> torch.Tensor:
    """Half of all cells."""
    return torch.randint(-(2**63), 2**63 - 1, (cascades, 32768), generator=torch.Generator().manual_seed(0))


def volume_of(config: Config) -> Volume:
    torch.manual_seed(4)
    field = HashField(config)
    with torch.no_grad():
        field.table.uniform_(-1, 1)
    return Volume(field, Bounds((0.0, 0.0, 0.0), 1.0, 2), random_bits())


def rays() -> Rays:
    generator = torch.Generator().manual_seed(2)
    origins = torch.rand(60, 3, generator=generator) * 0.4 - 0.2
    return Rays(origins, torch.nn.functional.normalize(torch.randn(60, 3, generator=generator), dim=1))


def test_cells_and_bricks_are_the_same_bits():
    bits = random_bits()
    assert torch.equal(bricks_of(cells_of(bits)), bits)
    middle = (torch.tensor([[5.0, 70.0, 127.0]]) + 0.5) / 128
    assert bool(cells_of(bits)[0, 127, 70, 5]) == bool(occupied(middle, torch.tensor([0]), bits))


@pytest.mark.parametrize("order", [*ORDERS.values(), (2, 0, 1), (1, 0, 2)])
def test_turned_occupancy_answers_for_turned_points(order):
    generator, bits = torch.Generator().manual_seed(0), random_bits()
    x, cascade = torch.rand(500, 3, generator=generator), torch.randint(0, 2, (500,), generator=generator)
    turned = turn_occupancy(bits, order)
    assert torch.equal(occupied(x[:, order], cascade, turned), occupied(x, cascade, bits))
    assert torch.equal(turn_occupancy(turned, tuple(order.index(axis) for axis in range(3))), bits)


def test_both_paths_agree_in_values_and_gradients():
    volume, found = volume_of(CONFIG), []
    assert isinstance(volume.field.fused(), TurnedRenderer) and volume.field.fused().available
    for fused in (True, False):
        volume.field.zero_grad()
        sums = volume.sums(rays(), capacity=1 << 16, fused=fused)
        assert bool(sums.valid.all()) and float(sums.opacity.detach().max()) > 0.5
        (sums.rgb.square().sum() + sums.depth.sum()).backward()
        found.append([sums.values[:, :5].detach(), *(p.grad.clone() for p in volume.field.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3 * float(other.abs().max()), rtol=0)


def test_it_is_the_plain_field_in_a_turned_scene():
    """Turn the scene by hand: rays and occupancy in, the same sums out."""
    turned, plain = volume_of(CONFIG), volume_of(replace(CONFIG, axes="xyz"))
    plain.field.load_state_dict(turned.field.state_dict())
    seen = rays()
    by_hand = Volume(plain.field, plain.bounds, turn_occupancy(turned.occupancy, ORDER))
    expected = by_hand.sums(Rays(seen.origins[:, ORDER], seen.directions[:, ORDER])).values
    torch.testing.assert_close(turned.sums(seen).values, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(plain.sums(seen).values, expected, atol=1e-2)
    x = seen.origins + 0.5
    torch.testing.assert_close(turned.density(x), plain.density(x[:, ORDER]))


def test_occupancy_that_is_written_to_is_turned_again():
    volume = volume_of(CONFIG)
    assert float(volume.sums(rays()).opacity.max()) > 0.5
    volume.occupancy.zero_()
    assert float(volume.sums(rays()).opacity.max()) == 0


def test_only_scenes_are_turned():
    with pytest.raises(ValueError, match="axes yzx"):
        HashField(CONFIG, Domain("image", 2, 3))
    with pytest.raises(ValueError, match="axes 'zyx'"):
        Config(axes="zyx")
