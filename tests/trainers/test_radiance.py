"""Training learns, repeats itself bit for bit, takes the same way on both paths, and survives numbers gone wrong."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.domain import MOVING
from neuralfields.errors import NeuralfieldsError
from neuralfields.fields.hash import HashField
from neuralfields.options.training import DEFAULT
from neuralfields.rendering.volume import Volume
from neuralfields.supervision.pixels import Batch, Pixels
from neuralfields.trainers import radiance as training
from neuralfields.trainers import trainer
from neuralfields.trainers.radiance import Background, RadianceTrainer
from tests.support.moving import moving_capture
from tests.support.settings import set_training
from tests.support.small_training import SMALL, WHITE, held_out_psnr, same_bits, small_training, steps

SAMPLES = 1 << 12  # of small_steps
pytestmark = pytest.mark.usefixtures("one_thread", "small_steps")


def test_it_learns_what_it_was_not_shown() -> None:
    what = small_training()
    before = held_out_psnr(what)
    reports = steps(what, 300)
    loss = [sum(report.loss for report in part) for part in (reports[:20], reports[-20:])]
    assert loss[1] < loss[0] / 4
    psnr = [sum(report.psnr for report in part) / 20 for part in (reports[:20], reports[-20:])]
    assert psnr[1] > psnr[0] + 6
    after = held_out_psnr(what)
    # An empty picture has 14 dB or so here; 300 such steps reach 23 dB.
    assert before < 16
    assert after > 21.5


def test_same_seed_same_bits() -> None:
    one, two = small_training(), small_training()
    assert steps(one, 40) == steps(two, 40)
    same_bits(one, two)


def test_same_seed_and_two_threads_same_bits() -> None:
    torch.set_num_threads(2)
    one, two = small_training(), small_training()
    assert steps(one, 25) == steps(two, 25)
    same_bits(one, two)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that the first steps do not fill: the fused path leaves out the rays that go beyond twice of it."""
    set_training(monkeypatch, samples=1 << 15)


def test_one_thread_and_two_agree_but_for_rounding(room: None) -> None:
    one = steps(small_training(), 10)
    torch.set_num_threads(2)
    two = steps(small_training(), 10)
    assert [report.samples for report in one] == [report.samples for report in two]
    for first, second in zip(one, two, strict=True):
        assert first.loss == pytest.approx(second.loss, rel=1e-3)


def test_other_seeds_other_batches_and_other_weights() -> None:
    one, two = small_training(0), small_training(1)
    first, second = steps(one, 3), steps(two, 3)
    assert all(a.loss != b.loss for a, b in zip(first, second, strict=True))
    assert not torch.equal(one.field.table, two.field.table)


def test_randomness_follows_the_step_not_the_history() -> None:
    one, two = small_training(), small_training()
    steps(one, 2)
    torch.rand(1000)  # the global generator is nobody's business
    two.step(0.0)
    torch.manual_seed(99)
    two.step(1 / 300)
    same_bits(one, two)


@pytest.mark.parametrize("seed", [2**31, 2**32, 2**63 - 1])
def test_every_allowed_seed_works(seed: int) -> None:
    assert steps(small_training(seed), 1)[0].samples > 0


class ComposableField(HashField):
    """The same field without its native renderer."""

    def fused(self) -> Any:
        """None: the ops are composed."""
        return None


@pytest.fixture
def looks_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both paths look at all of space in the beginning: by itself the one without a fused renderer looks at a part."""
    set_training(monkeypatch, occupancy_share=1.0)


def test_composable_path_follows_the_fused_one(room: None, looks_everywhere: None) -> None:
    fused, composed = small_training(), small_training(kind=ComposableField)
    start = {name: p.detach().clone() for name, p in fused.field.named_parameters()}
    assert all(torch.equal(p, start[name]) for name, p in composed.field.named_parameters())
    for one, two in zip(steps(fused, 8), steps(composed, 8), strict=True):
        assert (one.rays, one.samples) == (two.rays, two.samples)
        assert one.loss == pytest.approx(two.loss, rel=1e-4)
    other = dict(composed.field.named_parameters())
    for name, p in fused.field.named_parameters():
        way = (p - start[name]).norm()
        assert way > 0
        assert (p - other[name]).norm() < 1e-3 * way, name
    rays = fused.pixels.every(2000).rays
    with torch.no_grad():
        pictures = [what.volume.sums(rays).rgb for what in (fused, composed)]
    assert (pictures[0] - pictures[1]).abs().max() < 1e-3


def test_first_gradients_of_both_paths_are_the_same(room: None, looks_everywhere: None) -> None:
    gradients = []
    for kind in (HashField, ComposableField):
        what, kept = small_training(kind=kind), {}
        what.optimiser.step = lambda decay, kept=kept, what=what: kept.update(  # type: ignore[method-assign]
            {name: p.grad.clone() for name, p in what.field.named_parameters()}
        )
        what.step(0.0)
        gradients.append(kept)
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert gradient.norm() > 0
        assert (gradient - other).norm() < 1e-3 * other.norm(), name


def spoil(what: RadianceTrainer, times: int) -> None:
    """Makes the next batches of a training hold a pixel that is not a number."""
    draw, left = what.pixels.batch, [times]

    def batch(rays: int, generator: torch.Generator) -> Batch:
        good = draw(rays, generator)
        if left[0] > 0:
            left[0] -= 1
            good.rgb[3, 1] = float("nan")
            good.alpha[3] = 1.0
        return good

    what.pixels.batch = batch  # type: ignore[method-assign]


def parameters(what: RadianceTrainer) -> list[torch.Tensor]:
    return [tensor.clone() for name, tensor in what.tensors().items() if not name.startswith("occupancy")]


def unchanged(before: list[torch.Tensor], what: RadianceTrainer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(before, parameters(what), strict=True))


def test_a_step_with_a_broken_pixel_changes_nothing_and_is_counted() -> None:
    what = small_training()
    steps(what, 3)
    before = parameters(what)
    spoil(what, 2)
    for count in (1, 2):
        what.step(0.0)
        assert what.bad_steps == count and what.step_count == 3 + count
        assert unchanged(before, what)
    what.step(0.0)
    assert what.bad_steps == 0 and not unchanged(before, what)
    assert what.remarks()[0].startswith("2 of 6 steps were skipped, as their loss or a gradient was not finite;")
    again = small_training()
    again.restore(what.tensors(), what.counters())
    assert again.remarks() == what.remarks()
    what.step_count = 2000  # one in a thousand is nothing to speak of
    assert not what.remarks()


def test_too_many_broken_steps_in_a_row_end_the_fit() -> None:
    what = small_training()
    spoil(what, 100)
    steps(what, trainer.BAD_STEPS_IN_A_ROW - 1)
    with pytest.raises(NeuralfieldsError, match=r"the loss is not finite for 20 steps, now at step 19; lower --set"):
        what.step(0.0)


@pytest.mark.parametrize("name", ["table", "heads.density.0", "heads.colour.1"])
def test_a_parameter_that_is_not_finite_is_named(name: str) -> None:
    what = small_training()
    steps(what, 2)
    with torch.no_grad():
        what.field.get_parameter(name)[:] = float("nan")
    with pytest.raises(NeuralfieldsError, match=f"parameter {name} is not finite for 20 steps"):
        steps(what, 25)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_reaches_no_parameter(value: float) -> None:
    what = small_training()
    steps(what, 2)
    before = parameters(what)
    weight = what.field.get_parameter("heads.colour.0")
    hook = weight.register_hook(lambda gradient: torch.full_like(gradient, value))
    what.step(0.0)
    hook.remove()
    assert all(bool(torch.isfinite(p).all()) for p in what.field.parameters())
    assert unchanged(before, what) and what.bad_steps == 1
    what.step(0.0)
    assert not unchanged(before, what) and what.bad_steps == 0
    assert all(bool(torch.isfinite(p).all()) for p in what.field.parameters())


def test_the_number_of_rays_follows_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    set_training(monkeypatch, coarse_steps=80)  # where the march's steps change, and so the samples of a ray
    what = small_training()
    assert what.rays == 512
    reports = steps(what, 140)
    assert all(DEFAULT.fewest_rays <= report.rays <= DEFAULT.most_rays for report in reports)
    for now, after in pairwise(reports):
        assert 0.49 < after.rays / now.rays < 2.01
    for part in (reports[20:75], reports[95:]):
        mean = sum(report.samples for report in part) / len(part)
        assert 0.6 * SAMPLES < mean < 1.5 * SAMPLES
    assert max(report.samples for report in reports[20:75] + reports[95:]) < 3 * SAMPLES


@pytest.mark.parametrize(("samples", "rays"), [(1 << 8, DEFAULT.fewest_rays), (1 << 22, None)])
def test_the_number_of_rays_stays_in_its_range(monkeypatch: pytest.MonkeyPatch, samples: int, rays: int | None) -> None:
    set_training(monkeypatch, most_rays=2048)
    set_training(monkeypatch, samples=samples)
    what = small_training()
    steps(what, 6)
    assert what.rays == (rays or 2048)


def seen_backgrounds(what: RadianceTrainer) -> list[torch.Tensor]:
    """The background of three steps."""
    seen: list[torch.Tensor] = []
    over = Batch.over
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "over", lambda self, colour: (seen.append(colour), over(self, colour))[1])
        steps(what, 3)
    return seen


def test_random_backgrounds_differ_by_ray_and_step() -> None:
    seen = seen_backgrounds(small_training())
    assert seen[0].shape == (512, 3) and float(seen[0].std(0).min()) > 0.2
    assert 0 <= float(seen[0].min()) and float(seen[0].max()) <= 1
    assert not torch.equal(seen[0][:64], seen[1][:64])


def test_a_fixed_background_is_fixed() -> None:
    what = small_training()
    what.background = Background((0.2, 0.4, 0.6), random=False)
    for colour in seen_backgrounds(what):
        assert colour.expand(9, 3).unique(dim=0).tolist() == [pytest.approx([0.2, 0.4, 0.6])]


def test_report_psnr_is_the_losss() -> None:
    assert training.StepReport(1, 1, 0.01).psnr == pytest.approx(20.0)
    assert training.StepReport(1, 1, 0.0).psnr == pytest.approx(100.0)


def test_rays_of_what_moves_are_of_times_about_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """By up to eleven of 24 photos' share of the time at first, half in 500 steps, none at the end of the fit."""
    scene = read_scene(moving_capture())
    loaded = load_frames(scene, range(len(scene.frames)))
    assert len(loaded.images) == 24 and scene.bounds.times == (0.0, 1.0)
    seen = []
    sums = Volume.sums
    monkeypatch.setattr(Volume, "sums", lambda self, rays, *a: seen.append(rays.times) or sums(self, rays, *a))
    torch.manual_seed(0)
    field = HashField(replace(SMALL, moments=8), MOVING)
    what = RadianceTrainer(field, scene.bounds, Pixels(loaded.images, loaded.cameras), Background(WHITE, False), 0)
    own, batch = [], what.pixels.batch
    monkeypatch.setattr(what.pixels, "batch", lambda *a: own.append(batch(*a)) or own[-1])
    for progress, count, left in ((0.0, 0, 1.0), (0.5, 0, 0.5), (0.0, 500, 0.5), (0.75, 1000, 1 / 16), (1.0, 9, 0.0)):
        what.step_count = count
        what.step(progress)
        aside, most = (seen[-1] - own[-1].rays.times).abs().max(), 11 / 24 * left
        assert 0.8 * most <= aside <= most
        assert seen[-1].min() >= 0 and seen[-1].max() <= 1
    monkeypatch.setattr(HashField, "SMOOTH_IN_TIME", True)  # as K-Planes are
    what.step(0.0)
    assert torch.equal(seen[-1], own[-1].rays.times)
    monkeypatch.setattr(HashField, "SMOOTH_IN_TIME", False)
    what.settings = replace(what.settings, time_jitter=0.0)
    what.step(0.0)
    assert torch.equal(seen[-1], own[-1].rays.times)
