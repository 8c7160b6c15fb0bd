"""The learned grid against an analytic density, and against rays of the cameras that it listens to."""

import numpy as np
import pytest
import torch

from neuralfields.cameras import NO_DISTORTION, Camera
from neuralfields.captures.hull import Silhouette
from neuralfields.ops.occupancy_bits import BRICKS, CELLS, cells_of, grown, occupied
from neuralfields.ops.occupancy_bits import bricks_of as bits_of
from neuralfields.ops.pixel_rays import camera_table, pixel_rays
from neuralfields.rendering.occupancy import DECAY, DENSITY_THRESHOLD, UNSEEN, Occupancy

CENTRE, RADIUS, DENSITY = torch.tensor([0.55, 0.48, 0.5]), 0.3, 100.0
BALL = np.array([0.2, -0.1, 0.1])
FOX = (0.0578421, -0.0805099, -0.000980296, 0.00015575, 0.0, 0.0, 0.0, 0.0)


def ball(x: torch.Tensor) -> torch.Tensor:
    """Density of a ball in the frame of the inner cube."""
    return torch.where((x - CENTRE).norm(dim=1) < RADIUS, DENSITY, 0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cell_centres(count: int, cascade: int, seed: int = 3) -> torch.Tensor:
    """Centres of random cells of a cascade."""
    cell = torch.randint(0, CELLS, (count, 3), generator=seeded(seed))
    return ((cell + 0.5) / CELLS - 0.5) * 2.0**cascade + 0.5


@pytest.mark.parametrize("coarse", [True, False])
def test_one_look_at_everything_finds_the_ball(coarse):
    grid = Occupancy(2)
    grid.update(ball, seeded(), 1.0, coarse)
    for cascade in (0, 1):
        x = cell_centres(50_000, cascade)
        size = 2.0**cascade / CELLS * (2 if coarse else 1)
        got = occupied(x, torch.full((len(x),), cascade), grid.bits)
        distance, margin = (x - CENTRE).norm(dim=1), 3**0.5 * size
        assert bool(got[distance < RADIUS - margin].all())
        assert not bool(got[distance > RADIUS + margin].any())
        assert int(got.sum()) > 100


def test_a_thin_thing_is_found_by_looking_again():
    """A look may miss what fills a part of a cell; maxima are kept, so later looks add what earlier ones missed."""
    grid, generator = Occupancy(1), seeded()
    line = CENTRE[1:]

    def wire(x: torch.Tensor) -> torch.Tensor:
        return torch.where((x[:, 1:] - line).norm(dim=1) < 0.3 / CELLS, DENSITY, 0.0)

    found = []
    for _ in range(6):
        grid.update(wire, generator, 1.0, False)
        found.append(grid.share())
    assert found[0] < found[2] < found[5]


def test_bits_are_the_densities_above_the_threshold():
    grid = Occupancy(2)
    grid.density = torch.rand(grid.density.shape, generator=seeded()) * 40
    grid.density[0, 7] = UNSEEN
    grid.pack()
    assert grid.threshold() == pytest.approx(DENSITY_THRESHOLD)
    i = torch.arange(BRICKS**3)
    corner = torch.stack([i % BRICKS, i // BRICKS % BRICKS, i // BRICKS**2], 1) * 4
    for cell in (1, 4, 16, 37):
        inside = torch.tensor([cell % 4, cell // 4 % 4, cell // 16])
        for cascade in (0, 1):
            x = ((corner + inside + 0.5) / CELLS - 0.5) * 2.0**cascade + 0.5
            got = occupied(x, torch.full((len(x),), cascade), grid.bits)
            assert torch.equal(got, grid.density[cascade, :, cell] > grid.threshold())


@pytest.mark.parametrize("hidden", [0.0, 0.9])
def test_share_is_that_of_the_bits(hidden):
    """Also where most bricks are hidden, so that the mean of all densities is below zero."""
    grid = Occupancy(1)
    grid.density[:, torch.rand(BRICKS**3, generator=seeded(1)) < hidden] = UNSEEN
    grid._order_visible()
    grid.update(lambda x: ball(x) * 0.03, seeded(), 1.0, True)
    bits = np.unpackbits(grid.bits.numpy().view(np.uint8)).mean()
    assert 0 < bits < 0.2
    assert grid.share() == pytest.approx(bits)


def test_what_is_gone_fades():
    grid = Occupancy(1)
    grid.update(ball, seeded(), 1.0, False)
    before = grid.density.clone()
    grid.update(lambda x: torch.zeros(len(x)), seeded(), 1.0, False)
    torch.testing.assert_close(grid.density, before * DECAY)


def bricks_of(x: torch.Tensor) -> torch.Tensor:
    b = (x * BRICKS).floor().long().clamp(0, BRICKS - 1)
    return (b[:, 2] * BRICKS + b[:, 1]) * BRICKS + b[:, 0]


@pytest.mark.parametrize("share, calls", [(1 / 8, 8), (0.3, 4)])
def test_every_visible_brick_is_looked_at_once_a_cycle(share, calls):
    grid = Occupancy(1)
    hidden = torch.rand(BRICKS**3, generator=seeded(5)) < 0.5
    grid.density[0, hidden] = UNSEEN
    grid._order_visible()
    visible, looked = int((~hidden).sum()), []

    def spy(x: torch.Tensor) -> torch.Tensor:
        looked.append(bricks_of(x).reshape(-1, 64))
        return ball(x)

    for _ in range(calls + 1):
        grid.update(spy, seeded(), share, False)
    rows = torch.cat(looked)
    assert bool((rows == rows[:, :1]).all())  # 64 looks at one brick
    cycle = rows[:visible, 0]
    assert len(rows) >= visible and len(cycle.unique()) == visible
    assert not bool(hidden[cycle].any())
    assert torch.equal(rows[visible:, 0], rows[: len(rows) - visible, 0])  # and then from the start again
    assert bool((grid.density[0, hidden] == UNSEEN).all())
    assert not bool(grid.bits[0, hidden].any())


def test_the_same_seed_gives_the_same_bits():
    grids = [Occupancy(2) for _ in range(2)]
    for grid in grids:
        generator = seeded(9)
        for step in range(4):
            grid.update(ball, generator, 0.2, coarse=step < 2)
    assert torch.equal(grids[0].bits, grids[1].bits) and torch.equal(grids[0].density, grids[1].density)


def looking_at(eye: np.ndarray, target: np.ndarray, model: str, distortion: tuple[float, ...], focal: float) -> Camera:
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.1, 0.2, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = np.stack([right, np.cross(forward, right), forward], 1), eye
    return Camera(pose, 270, 480, focal, focal, 138.6, 241.3, model, distortion)


LENSES = {
    "fox": ("perspective", FOX, 343.9),
    "barrel": ("perspective", (-0.25, 0.06, 1e-3, -1e-3, 0.0, 0.0, 0.0, 0.0), 200.0),
    "wide": ("perspective", (0.0,) * 8, 90.0),
    "fisheye": ("fisheye", (-0.02, 0.006, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 150.0),
}


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("cascades", [1, 3])
def test_nothing_that_a_camera_sees_is_hidden(lens, cascades):
    """Brute force from the other side: points at random distances on rays of random pixels."""
    centre, side = (0.4, -0.2, 1.0), 1.7
    rng = np.random.default_rng(8)
    eyes = np.array(centre) + rng.normal(size=(3, 3)) * side * 0.5
    cameras = [looking_at(eye, np.array(centre) + rng.normal(size=3) * 0.2, *LENSES[lens]) for eye in eyes]
    grid = Occupancy(cascades)
    grid.hide_unseen(cameras, centre, side)
    count = 20_000
    pixel = torch.rand(count, 2, generator=seeded(1), dtype=torch.float64) * torch.tensor([270.0, 480.0])
    index = torch.randint(0, 3, (count,), generator=seeded(2))
    origins, directions = pixel_rays(camera_table(cameras, torch.float64), index, pixel)
    for cascade in range(cascades):
        distance = torch.rand(count, 1, generator=seeded(3), dtype=torch.float64) * side * 2 ** (cascade + 1)
        x = (origins + directions * distance - torch.tensor(centre)) / side + 0.5
        inside = x[(x - 0.5).abs().amax(1) < 0.5 * 2**cascade]
        assert len(inside) > 1000
        assert bool(occupied(inside, torch.full((len(inside),), cascade), grid.bits).all())


def test_what_no_camera_sees_is_hidden():
    """One pinhole on the axis, 40 degrees wide: what lies a brick outside its pyramid or behind it is empty."""
    pose = np.eye(4)
    pose[2, 3] = -0.25
    focal = 50 / np.tan(np.radians(20))
    grid = Occupancy(1)
    grid.hide_unseen([Camera(pose, 100, 100, focal, focal, 50.0, 50.0)], (0.0, 0.0, 0.0), 1.0)
    x = torch.rand(50_000, 3, generator=seeded(4))
    local = x - 0.5 + torch.tensor([0.0, 0.0, 0.25])
    outside = local[:, :2].abs().amax(1) * np.cos(np.radians(20)) - local[:, 2] * np.sin(np.radians(20))
    margin = 2 * 3**0.5 / 2 / BRICKS  # from a brick's middle to the plane, and from a point to the middle
    hidden = (outside > margin) | (local[:, 2] < -margin)
    got = occupied(x, torch.zeros(len(x), dtype=torch.int64), grid.bits)
    assert int(hidden.sum()) > 20_000
    assert not bool(got[hidden].any())
    assert bool(got[(outside < 0) & (local[:, 2] > 0)].all())


def test_what_no_box_reaches_is_hidden():
    """Boxes, some beyond the cube, in two cascades: a brick is visible if and only if it meets one of them."""
    low = torch.rand(40, 3, generator=seeded(6)) * 2 - 0.5
    high = low + torch.rand(40, 3, generator=seeded(7)) * 0.1
    grid = Occupancy(2)
    grid.hide_empty(low, high)
    for cascade in (0, 1):
        corner = (grid._brick - 0.5) * 2**cascade + 0.5
        side = 2**cascade / BRICKS
        meets = ((low[None] < corner[:, None] + side) & (high[None] >= corner[:, None])).all(2).any(1)
        assert 0.001 < float(meets.float().mean()) < 0.5
        assert torch.equal(grid.bits[cascade] != 0, meets)


def test_density_in_hidden_bricks_is_never_asked_for():
    grid = Occupancy(1)
    grid.hide_unseen([looking_at(np.array([0.0, 0, -2]), np.zeros(3), *LENSES["fox"])], (0.0, 0.0, 0.0), 4.0)
    hidden = grid.density[0, :, 0] < 0
    assert 0.2 < float(hidden.float().mean()) < 0.98

    def strict(x: torch.Tensor) -> torch.Tensor:
        assert not bool(hidden[bricks_of(x)].any())
        return torch.full((len(x),), DENSITY)

    grid.update(strict, seeded(), 1.0, True)
    assert torch.equal(grid.bits[0] == 0, hidden)


def silhouette_of_ball(camera: Camera, middle: np.ndarray, radius: float) -> Silhouette:
    v, u = np.mgrid[: camera.height, : camera.width] + 0.5
    d = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
    d = d @ camera.world_from_camera[:3, :3].T
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    offset = middle - camera.centre
    return Silhouette(camera, offset @ offset - (d @ offset) ** 2 < radius**2)


def test_silhouettes_carve_what_lies_beside_an_object_and_nothing_of_it():
    generator, shapes = np.random.default_rng(0), []
    for _ in range(24):
        away = generator.normal(size=3)
        eye = 4 * away / np.linalg.norm(away)
        shapes.append(silhouette_of_ball(looking_at(eye, np.zeros(3), "perspective", NO_DISTORTION, 100.0), BALL, 0.5))
    shapes[0] = Silhouette(shapes[0].camera, np.zeros_like(shapes[0].map))  # a mask that is all black
    grid = Occupancy(1)
    grid.hide_background(shapes, (0.0, 0.0, 0.0), 2.0)
    middle = (grid._brick.numpy() + 0.5 / BRICKS - 0.5) * 2.0
    distance, size = np.linalg.norm(middle - BALL, axis=1), 3**0.5 / BRICKS
    opened = (grid.bits[0] != 0).numpy()
    assert opened[distance < 0.5 + size].all()
    assert not opened[distance > 0.5 + 4 * size].any()
    whole = Occupancy(1)
    whole.hide_background([], (0.0, 0.0, 0.0), 2.0)
    assert bool((whole.bits != 0).all())


class Post:
    """A volume of a thin post, slanted, with an analytic picture: rendered through an occupancy grid."""

    low, high, density = 0.47, 0.525, 400.0

    def sigma(self, x: torch.Tensor) -> torch.Tensor:
        across = x[:, 0] - 0.13 * (x[:, 1] - 0.5)
        return torch.where((across > self.low) & (across < self.high), self.density, 0.0)

    def opacity(self, x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
        """Opacity of rays along z through (x, y) [R, 2], by steps of a quarter of a cell."""
        z = (torch.arange(4 * CELLS) + 0.5) / (4 * CELLS)
        points = torch.cat([x[:, None].expand(-1, len(z), -1), z[None, :, None].expand(len(x), -1, -1)], 2)
        flat = points.reshape(-1, 3)
        inside = occupied(flat, torch.zeros(len(flat), dtype=torch.int64), bits)
        depth = (self.sigma(flat) * inside).reshape(len(x), -1).sum(1) / (4 * CELLS)
        return 1 - torch.exp(-depth)


def test_an_edge_has_no_notches_once_it_is_opened():
    """Cells that a sample missed are empty; opened, every pixel of an analytic edge is whole again."""
    post, grid, generator = Post(), Occupancy(1), seeded(4)
    for _ in range(3):
        grid.update(post.sigma, generator, 1.0, False)
        grid.density *= 0.9  # the maxima fade as in a fit
    y = torch.linspace(0.1, 0.9, 400)
    edge = 0.13 * (y - 0.5) + post.low + 0.001
    rays = torch.stack([edge, y], 1)
    solid = torch.full_like(grid.bits, -1)
    assert bool((post.opacity(rays, solid) > 0.99).all())
    hard = grid.bits.clone()
    holes = cells_of(hard)
    for k in range(20, 110, 9):  # cells of the edge that ended empty, all along the ray
        column = int((0.13 * ((k + 0.5) / CELLS - 0.5) + post.low + 0.001) * CELLS)
        holes[0, :, k, column] = False
    grid.bits = bits_of(holes)
    assert float(post.opacity(rays, grid.bits).min()) < 0.5  # notches
    assert float(post.opacity(rays, grid.edges_open(9)).min()) > 0.99
    grid.density[0, :, :] = UNSEEN
    assert torch.equal(grid.edges_open(9), grid.bits)  # what no camera sees stays as it is


def test_opening_edges_adds_a_layer_and_no_more():
    cells = torch.zeros(1, CELLS, CELLS, CELLS, dtype=torch.bool)
    cells[0, :, :, 40:60] = True
    cells[0, 5, 5, 100] = True  # a speck stays a speck
    more = cells_of(grown(bits_of(cells), 9))
    assert bool(more[0, 1:-1, 1:-1, 39:61].all())
    assert int(more.sum()) <= int(cells.sum()) + 2 * CELLS * CELLS
    assert bool(more[0, 5, 5, 100]) and not bool(more[0, 5, 5, 101])


def test_of_what_moves_only_what_no_photo_ever_shows_is_carved():
    """A ball that is elsewhere in each photo: of each place one photo alone knows."""
    generator, shapes = np.random.default_rng(0), []
    path = [np.array([0.6 * np.sin(3.0 * k / 24), 0.0, 0.6 * k / 24]) for k in range(24)]
    for middle in path:
        away = generator.normal(size=3)
        eye = 4 * away / np.linalg.norm(away)
        camera = looking_at(eye, np.zeros(3), "perspective", NO_DISTORTION, 100.0)
        shapes.append(silhouette_of_ball(camera, middle, 0.2))
    grid = Occupancy(1, moves=True)
    grid.hide_background(shapes, (0.0, 0.0, 0.0), 2.0)
    middle = (grid._brick.numpy() + 0.5 / BRICKS - 0.5) * 2.0
    distance = np.min([np.linalg.norm(middle - place, axis=1) for place in path], axis=0)
    opened = (grid.bits[0] != 0).numpy()
    assert opened[distance < 0.2].all()
    assert not opened[distance > 1.2].all()
