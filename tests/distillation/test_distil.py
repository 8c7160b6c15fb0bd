"""Distillation: what is handed over, what each stage compares, what is looked at again, and that students learn."""

from dataclasses import replace
from unittest import mock

import pytest
import torch

from neuralfields.fields import field_class
from neuralfields.fields.hash import Config, HashField
from neuralfields.fields.rbf import Config as RbfConfig
from neuralfields.fields.rbf import RbfField
from neuralfields.fields.voxels import Config as VoxelConfig
from neuralfields.fields.voxels import VoxelField
from neuralfields.models.model import Model, volume_of
from neuralfields.ops.composite import composite
from neuralfields.ops.occupancy_bits import CELLS, bricks_of
from neuralfields.pictures.metrics import psnr_from_mse
from neuralfields.rays import Rays, Samples
from neuralfields.trainers.distil import LIGHT, Distillation, Recipe, copy, inherit, shown_by
from neuralfields.trainers.hard_examples import AGAIN, POSES, ROUND, RayPool
from neuralfields.trainers.point_pool import MOST_ASKED, PASSES, PointPool, Points
from neuralfields.trainers.sampled_cameras import Viewpoints
from tests.support.small_configs import small_config

TINY = Config(levels=6, table=10, finest=64, hidden=32)


pytestmark = pytest.mark.usefixtures("one_thread", "small_steps")


def student(seed: int = 5, config: Config = TINY) -> HashField:
    torch.manual_seed(seed)
    return HashField(config)


def distillation(model: Model, field: torch.nn.Module | None = None, **recipe: object) -> Distillation:
    viewpoints = Viewpoints(list(model.cameras), model.bounds)
    return Distillation(field or student(), volume_of(model), viewpoints, Recipe(**recipe), 3)


def likeness(what: Distillation, model: Model) -> float:
    """PSNR in dB of the student's pictures against the teacher's, over the held-out views."""
    errors = []
    for index in model.held_out[:3]:
        camera = model.cameras[index].resized(32, 32)
        pictures = [v.render(camera, model.background).rgb for v in (what.volume, volume_of(model))]
        errors.append(float((pictures[0] - pictures[1]).square().mean()))
    return psnr_from_mse(sum(errors) / len(errors))


def test_heads_are_handed_over_whole_or_not_at_all(small_model: Model):
    mine = student()
    names = inherit(mine, small_model.field)
    assert names and all(name.startswith("heads.") for name in names)
    theirs = dict(small_model.field.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in mine.named_parameters() if name in names)
    wide = student(config=replace(TINY, hidden=16))
    before = [p.clone() for p in wide.parameters()]
    assert inherit(wide, small_model.field) == []
    assert all(torch.equal(a, b) for a, b in zip(before, wide.parameters(), strict=True))


def test_only_the_same_architecture_of_the_same_config_is_copied(small_model: Model):
    twin = student(config=small_model.field.config)
    assert copy(twin, small_model.field) and not copy(student(), small_model.field)
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), small_model.field.parameters(), strict=True))


def test_a_copy_is_already_there(small_model: Model):
    what = distillation(small_model, student(config=small_model.field.config))
    assert what.copied and likeness(what, small_model) > 90
    report = what.step(0.9)
    assert report.loss < 1e-8


def test_a_student_learns_its_teacher(small_model: Model):
    what = distillation(small_model)
    before = likeness(what, small_model)
    for step in range(120):
        what.step(step / 120)
    assert before < 14 < 21.5 < likeness(what, small_model)  # a table of a quarter of the teacher's entries
    assert all(p.grad is None or not bool(p.grad.any()) for p in small_model.field.parameters())


def test_an_encoding_that_both_read_alike_is_handed_over(small_model: Model):
    source = small_model.field
    shape = {name: getattr(source.config, name) for name in ("levels", "features", "table", "base", "finest")}
    units = RbfField(RbfConfig(**shape))
    what = distillation(small_model, units)
    assert what.encoded and torch.equal(units.table, source.table)
    x = torch.rand(50, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(units.features(x), source.features(x))
    for other in (RbfField(RbfConfig(**shape | {"base": 5})), VoxelField(VoxelConfig(resolution=9))):
        assert not distillation(small_model, other).encoded
    assert not distillation(small_model, RbfField(RbfConfig(**shape)), inherit_encoding=False).encoded


def test_voxels_begin_with_what_their_teacher_says(small_model: Model):
    """Without a step they are nearer to it than a student that learned for a while; what they read is not smoothed."""
    grids = VoxelField(VoxelConfig(resolution=65, colour_resolution=33))
    what = distillation(small_model, grids)
    assert what.initialised and what.stage == len(grids.stages())
    assert likeness(what, small_model) > 21.5
    assert not distillation(small_model, VoxelField(VoxelConfig(resolution=17)), read_nodes=False).initialised


def test_what_is_shown_is_near_an_occupied_cell(small_model: Model):
    """Every point within reach of the one occupied cell, and none that is two cells further, along each axis."""
    cells = torch.zeros(1, CELLS, CELLS, CELLS, dtype=torch.bool)
    cells[0, 30, 20, 10] = True  # z, y, x
    middle = (torch.tensor([10, 20, 30]) + 0.5) / CELLS
    shown = shown_by(replace(volume_of(small_model), occupancy=bricks_of(cells)))
    for reach in (1 / 256, 1 / 32):
        away = torch.cat([torch.eye(3), -torch.eye(3)])
        assert bool(shown(middle + away * reach, reach).all()) and bool(shown(middle[None], reach))
        assert not shown(middle + away * (reach + 2 / CELLS), reach).any()
    far = replace(small_model.bounds, cascades=3)
    assert shown_by(replace(volume_of(small_model), bounds=far)) is None


def test_stages_follow_the_recipe(small_model: Model):
    what = distillation(small_model, inherit_heads=True, features=0.2, points=0.3)
    assert [what.stage_of(p) for p in (0.0, 0.19, 0.21, 0.49, 0.51, 1.0)] == [1, 1, 2, 2, 3, 3]
    alone = distillation(small_model, features=0.2, points=0.3)
    assert alone.stage_of(0.0) == 2  # features that nobody shares are not compared
    assert distillation(small_model, features=0.0, points=0.0).stage_of(0.0) == 3


def test_the_first_stage_teaches_features_alone(small_model: Model):
    what = distillation(small_model, inherit_heads=True)
    heads = [p.clone() for p in what.field.heads.parameters()]
    table = what.field.table.detach().clone()
    first = what.step(0.0).loss
    for _ in range(30):
        last = what.step(0.0).loss
    assert last < 0.5 * first
    assert all(torch.equal(a, b) for a, b in zip(heads, what.field.heads.parameters(), strict=True))
    assert not torch.equal(table, what.field.table)


def test_without_the_teachers_occupancy_the_student_finds_its_own(small_model: Model):
    what = distillation(small_model, inherit_occupancy=False)
    assert bool((what.volume.occupancy == -1).all())
    for step in range(40):
        what.step(step / 40)
    assert not torch.equal(what.volume.occupancy, small_model.occupancy)
    kept = distillation(small_model)
    kept.step(0.5)
    assert torch.equal(kept.volume.occupancy, small_model.occupancy)


def points(taught: float, count: int = 4) -> Points:
    """The same everywhere: black, of no weight."""
    nothing = torch.zeros(count)
    log_density = torch.full((count,), taught)
    return Points(torch.zeros(count, 3), torch.zeros(count, 3), nothing, log_density, torch.zeros(count, 3), nothing)


def pull(what: Distillation, mine: float, theirs: float) -> torch.Tensor:
    """The gradient on a student's log-densities that are all `mine` beside a teacher's that are all `theirs`."""
    value = torch.full((4,), mine, requires_grad=True)
    with mock.patch.object(what.field, "decode", lambda f, directions: (value, torch.zeros(4, 3))):
        loss = what._point_loss(torch.zeros(4), points(theirs))
    loss.backward() if loss.requires_grad else None
    return torch.zeros(4) if value.grad is None else value.grad


@pytest.mark.parametrize("clamp, pushed", [((-2.0, 8.0), False), (None, True)])
def test_emptiness_of_any_degree_is_empty(small_model: Model, clamp: tuple[float, float] | None, pushed: bool):
    """A student far below the range beside a teacher that is below it too: no gradient, unless nothing is clamped."""
    what = distillation(small_model, clamp=clamp)
    assert bool((pull(what, -40.0, -7.0) != 0).any()) == pushed


def test_a_student_that_is_empty_where_its_teacher_is_not_is_pulled_back(small_model: Model):
    assert bool((pull(distillation(small_model), -40.0, 3.0) < 0).all())


def test_the_teacher_is_asked_where_there_is_weight_and_as_often_where_there_is_none(small_model: Model):
    what = distillation(small_model, heavy_points=False)
    asked = what._sample_teacher(what.generator())
    heavy = asked.weight > LIGHT
    assert len(asked) > 1000 and 0.45 < float(heavy.float().mean()) < 0.55
    field = small_model.field
    log_density, rgb = field.decode(field.features(asked.x), asked.directions)
    assert torch.equal(log_density, asked.log_density) and torch.equal(rgb, asked.rgb)


def test_the_heaviest_points_are_compared_and_a_few_others(small_model: Model):
    every, heavy = distillation(small_model, heavy_points=False), distillation(small_model)
    asked = [what._sample_teacher(what.generator()) for what in (every, heavy)]
    assert 0 < len(asked[1]) < 0.8 * len(asked[0])
    light = float((asked[1].weight <= LIGHT).float().mean())
    assert 0.1 < light < 0.45 and light < float((asked[0].weight <= LIGHT).float().mean())
    heavy.step(0.5)
    assert heavy.points_compared > 0


def test_what_is_half_transparent_everywhere_is_taught_too(small_model: Model):
    what = distillation(small_model)
    with mock.patch("neuralfields.trainers.distil.OPAQUE_ENOUGH", 2.0):
        assert len(what._sample_teacher(what.generator())) > 100


def test_a_pool_gives_each_point_as_often_as_it_passes_in_no_order():
    asked = []

    def more(generator: torch.Generator) -> Points:
        asked.append(torch.arange(100.0) + 100 * len(asked))
        each = asked[-1]
        return Points(each[:, None], each, each, each, each, each)

    pool, generator = PointPool(more, 250), torch.Generator().manual_seed(0)
    drawn = [pool.draw(64, generator).weight for _ in range(10)]
    assert len(asked) == 3 and [len(part) for part in drawn] == [64] * 9 + [24]
    first = torch.cat(drawn)[:300]
    assert torch.equal(first.sort()[0], torch.arange(300.0)) and not torch.equal(first, torch.arange(300.0))
    assert torch.equal(torch.cat(drawn)[300:].sort()[0], torch.arange(300.0))
    assert float(pool.draw(64, generator).weight.min()) >= 300 and len(asked) == 6
    empty = PointPool(lambda generator: Points(*[torch.zeros(0)] * 6), 9)
    assert len(empty.draw(5, generator)) == 0
    few = PointPool(lambda generator: Points(*[torch.zeros(1)] * 6), 10**6)
    assert len(few.draw(10**6, generator)) == PASSES * MOST_ASKED  # what hardly meets anything does not ask for ever
    plain = PointPool(more, 1, shuffle=False)
    assert torch.equal(plain.draw(64, generator).weight, 600 + torch.arange(64.0))


def test_heavy_points_are_the_top_of_opaque_rays():
    from neuralfields.trainers.distil import _heavy

    density = torch.tensor([0.1, 5.0, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1] + [0.001] * 10)
    one = torch.ones(20)
    samples = Samples(torch.zeros(20, 3), one, one, torch.tensor([0, 10, 20]))
    weight = composite(density, one, one, torch.zeros(20, 3), samples.offsets)[1]
    keep = _heavy(weight, samples)
    assert int(keep[:10].sum()) == 3 and bool(keep[1]) and not bool(keep[10:].any())


def test_bad_poses_come_back_turned(small_model: Model):
    what = distillation(small_model)
    poses = what.poses
    poses.end()
    assert poses.pool == []  # nothing was seen through them
    first = list(poses.cameras)
    error = torch.zeros(POSES)
    error[7] = 1.0
    poses.learn(torch.arange(POSES), error)
    poses.end()
    assert poses.pool[0] is first[7] and len(poses.pool) == round(AGAIN * POSES)
    assert poses.from_pool == round(AGAIN * POSES)
    for again in poses.cameras[-poses.from_pool :]:
        assert any((again.centre == old.centre).all() for old in poses.pool)
    for _ in range(round(1 / AGAIN) + 2):  # until the pool is full, and beyond
        poses.learn(torch.arange(POSES), torch.rand(POSES))
        poses.end()
    assert len(poses.pool) == POSES


def test_rounds_end_by_themselves_and_each_level_can_be_left_out(small_model: Model):
    active = distillation(small_model)
    passive = distillation(small_model, hard_cameras=False, hard_rays=False, heavy_points=False)
    for what in (active, passive):
        what.rays = 64
        with mock.patch("neuralfields.trainers.distil.ROUND", 4):
            for _ in range(10):
                what.step(0.9)
    assert active.poses.round == passive.poses.round == 3
    assert active.poses.from_pool > 0 and passive.poses.from_pool == 0
    assert active.pool.seen_again > 0 and passive.pool.seen_again == 0
    assert f"hard examples: {active.poses.from_pool} cameras" in active.counts()
    assert f"and {active.pool.seen_again} rays and points by weight" in active.counts()
    assert "hard examples: none" in passive.counts()
    assert ROUND > 10


def test_hard_rays_are_replaced_by_what_was_worst_among_them():
    pool = RayPool()
    generator = torch.Generator().manual_seed(0)

    def rays(value: float, count: int) -> Rays:
        return Rays(torch.full((count, 3), value), torch.full((count, 3), value))

    pool.draw(100, generator)
    pool.learn(rays(1.0, 100), torch.arange(100.0))
    assert len(pool.rays) == 10
    again = pool.draw(100, generator)
    assert len(again) == 10 and pool.seen_again == 10
    pool.learn(rays(2.0, 110), torch.arange(110.0))
    assert len(pool.rays) == 11 and bool((pool.rays == 2.0).all())


def test_the_same_seed_gives_the_same_bits(small_model: Model):
    students = []
    for _ in range(2):
        what = distillation(small_model)
        for step in range(6):
            what.step(step / 6)
        students.append([p.detach().clone() for p in what.field.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*students, strict=True))


@pytest.mark.parametrize(
    "name, gain", [("voxels", 1.5), ("triplane", 1.5), pytest.param("mlp", 1.5, marks=pytest.mark.slow)]
)
def test_other_architectures_learn_too(small_model: Model, name: str, gain: float):
    """In a few steps: a dense grid that reads nothing learns node by node; mlp takes more and smaller steps."""
    kind = field_class(name)
    config = small_config(name) if name != "mlp" else kind.Config(frequencies=4.0, width=32, layers=2)
    torch.manual_seed(0)
    what = distillation(small_model, kind(config), read_nodes=False)
    before, steps = likeness(what, small_model), 160 if name == "mlp" else 20
    for step in range(steps):
        what.step(step / steps)
    assert likeness(what, small_model) > before + gain
