"""A scene put into another: modes against closed forms, pixels beside the box, the file, and the verb."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuralfields.cameras import Camera, look_at
from neuralfields.cli import main
from neuralfields.distillation.insert import blend, insert_model, placed, rotation
from neuralfields.errors import UsageError
from neuralfields.fields.blend import ALPHA, STEP, blended
from neuralfields.fields.gaussians import GaussianField
from neuralfields.models.model import Model, volume_of
from neuralfields.models.nf_file import load, save
from neuralfields.options.models import EditOptions
from neuralfields.rendering.blend import Blended, meets_box
from neuralfields.rendering.volume import camera_rays
from neuralfields.scene import Bounds
from neuralfields.splatting.initial import gaussians_at
from tests.support.hash_models import BACKGROUND, hash_model


def camera(model: Model, side: int = 24) -> Camera:
    """A camera that sees the whole inner cube."""
    centre = np.array(model.bounds.centre)
    pose = look_at(centre + np.array([1.5, -2.0, 1.2]) * model.bounds.side, centre, np.array([0.0, 0.0, 1.0]))
    return Camera(pose, side, side, 1.6 * side, 1.6 * side, side / 2, side / 2)


def edit(**given) -> EditOptions:
    return EditOptions(Path("a.nf"), insert=Path("b.nf"), **given)


def blend_of(base: Model, insert: Model, **given) -> Model:
    return blend(base, insert, placed(base, insert, edit(**given)))


def sparse(model: Model) -> Model:
    """The same with an eighth of its occupied bricks: a blend goes through each of its cells."""
    kept = torch.arange(model.occupancy.shape[1]) % 8 == 0
    return replace(model, occupancy=torch.where(kept, model.occupancy, 0))


def test_modes_are_their_closed_forms():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 500, generator=generator, dtype=torch.float64) * 8 - 2
    c, d = 0.01 + 0.98 * torch.rand(2, 500, 3, generator=generator, dtype=torch.float64)
    f = torch.rand(500, generator=generator, dtype=torch.float64)
    alpha = [1 - torch.exp(-x.exp() * STEP) for x in (a, b)]
    share = (alpha[0] / (alpha[0] + alpha[1]))[:, None]
    raw = [torch.log(x / (1 - x)) for x in (c, d)]
    mixed = torch.sigmoid(share * raw[0] + (1 - share) * raw[1])
    faded = torch.sigmoid(f[:, None] * raw[0] + (1 - f[:, None]) * raw[1])
    wanted = {
        "replace": (b.exp(), d),
        "add": (a.exp() + b.exp(), mixed),
        "intersect": (torch.exp(a + b), mixed),
        "fade": (f * a.exp() + (1 - f) * b.exp(), faded),
    }
    for mode, (density, rgb) in wanted.items():
        found = blended((a, c), (b, d), f, mode)
        torch.testing.assert_close(found[0].exp(), density, rtol=1e-6, atol=0)
        torch.testing.assert_close(found[1], rgb, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["replace", "fade"])
def test_a_scene_in_itself_is_itself(mode: str):
    model = hash_model()
    field = blend_of(model, sparse(model), mode=mode).field
    x = torch.rand(3000, 3, generator=torch.Generator().manual_seed(1))
    directions = torch.nn.functional.normalize(x - 0.4, dim=1)
    with torch.no_grad():
        found, wanted = (each.decode(each.features(x), directions) for each in (field, model.field))
        torch.testing.assert_close(field.log_density(field.features(x)), found[0])
    torch.testing.assert_close(found[0], wanted[0], rtol=2e-5, atol=1e-4)  # x goes to the world and back, in float32
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-4)


def test_the_fade_is_the_papers():
    model = hash_model()
    field = blend_of(model, sparse(model), mode="fade").field
    x = torch.tensor([[0.5, 0.5, 0.5], [0.75, 0.5, 0.5], [1.0, 1.0, 1.0]])
    share = [0.0, 0.25 / 3**0.5, 0.5]
    wanted = [1 - math.exp(-ALPHA * each) for each in share]
    assert field.features(x)[:, -2].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("cascades, kind", [(1, "box"), (3, "cube")])
def test_pixels_beside_the_box_are_the_same_bits(cascades: int, kind: str):
    base, insert = hash_model(cascades, kind), sparse(hash_model(seed=3))
    model = blend_of(base, insert, at=(0.3, 0.1, 0.2), scale=0.5, rotate=(20.0, 0.0, 50.0))
    view = camera(base)
    seen, before = (each.renderable().render(view, BACKGROUND) for each in (model, base))
    beside = ~meets_box(model.field.config, camera_rays(view)).reshape(24, 24)
    assert 0.3 < float(beside.float().mean()) < 0.95
    for name in ("rgb", "opacity", "depth"):
        assert torch.equal(getattr(seen, name)[beside], getattr(before, name)[beside])
    assert float((seen.rgb - before.rgb)[~beside].abs().mean()) > 0.01


def test_an_inserted_scene_looks_as_it_did():
    """In an empty base, seen by a camera that moves with it, the insert's own picture comes out: place, scale, turn."""
    insert = hash_model(seed=3)
    nothing = hash_model()
    nothing = replace(nothing, occupancy=torch.zeros_like(nothing.occupancy))
    model = blend_of(nothing, insert, at=(0.1, 0.0, 0.2), scale=0.5, rotate=(0.0, 0.0, 90.0), mode="replace")
    own, config = camera(insert), model.field.config
    turn = np.array(config.turn)
    pose = own.world_from_camera.copy()
    pose[:3, :3] = turn @ own.world_from_camera[:3, :3]
    pose[:3, 3] = config.scale * turn @ own.world_from_camera[:3, 3] + np.array(config.at)
    seen = model.renderable().render(replace(own, world_from_camera=pose), BACKGROUND)
    wanted = insert.renderable().render(own, BACKGROUND)
    assert float(wanted.opacity.mean()) > 0.2
    error = (seen.rgb - wanted.rgb).square().mean()
    assert float(-10 * error.log10()) > 28  # samples lie elsewhere along the rays
    # The base's cells are twice as large as the insert's, and this field is not empty beside its occupied cells.
    torch.testing.assert_close(seen.opacity.mean(), wanted.opacity.mean(), rtol=0.05, atol=0)


def test_a_box_of_the_insert_comes_in_alone():
    """The middle of the box goes to the place that is asked for; a box that is none is said."""
    base, insert = hash_model(), hash_model()
    where = placed(base, insert, edit(insert_box="-0.2,0.3,0.1,-0.1,0,0.2", at=(0.3, -0.2, 0.1), scale=0.5))
    low, high, origin = (np.array(v) for v in (where.low, where.high, insert.bounds.origin))
    assert low + origin == pytest.approx([-0.2, 0, 0.1]) and high + origin == pytest.approx([-0.1, 0.3, 0.2])
    middle = where.scale * np.array(where.turn) @ ((low + high) / 2) + where.at + base.bounds.origin
    assert middle == pytest.approx([0.3, -0.2, 0.1])
    with pytest.raises(UsageError, match="--insert-box"):
        placed(base, insert, edit(insert_box="1,2,3"))


def test_rotations_turn_about_x_then_y_then_z():
    assert np.allclose(rotation((90, 0, 0)) @ [0, 1, 0], [0, 0, 1])
    assert np.allclose(rotation((0, 90, 0)) @ [0, 0, 1], [1, 0, 0])
    assert np.allclose(rotation((90, 0, 90)) @ [0, 1, 0], [0, 0, 1])


def test_a_blend_is_saved_whole(tmp_path: Path):
    model = blend_of(hash_model(), sparse(hash_model(seed=2)), scale=0.5, mode="add")
    save(model, tmp_path / "both.nf")
    again = load(tmp_path / "both.nf")
    assert asdict(again.field.config) == asdict(model.field.config)
    view = camera(model, 12)
    pictures = [each.renderable().render(view, BACKGROUND).rgb for each in (model, again)]
    assert torch.equal(*pictures)
    assert isinstance(again.renderable(), Blended)


@pytest.mark.usefixtures("small_steps", "small_distillation")
def test_the_verb_inserts_and_distils(small_model: Model, tmp_path: Path):
    save(small_model, tmp_path / "a.nf")
    words = ["edit", str(tmp_path / "a.nf"), "--insert", str(tmp_path / "a.nf"), "--at", "0.1", "-0.1", "0.2"]
    words += ["--scale", "0.4", "--threads", "1", "--quiet"]
    assert main([*words, "-o", str(tmp_path / "b.nf")]) == 0
    made = load(tmp_path / "b.nf")
    assert made.made["field"] == "blend" and len(made.lineage) == 2
    assert int((volume_of(made).occupancy != volume_of(small_model).occupancy).sum()) > 0
    more = ["--to", "hash", "--steps", "5", "--force", "-o", str(tmp_path / "c.nf")]
    assert main([*words, *more]) == 0
    assert load(tmp_path / "c.nf").made["field"] == "hash"


def test_what_cannot_be_inserted_is_said(capsys):
    for given in ({"at": (1.0, 2.0, 3.0)}, {"mode": "fade"}, {"scale": 2.0}):
        with pytest.raises(UsageError, match="add --insert"):
            EditOptions(Path("a.nf"), **given)
    with pytest.raises(UsageError, match="of their own"):
        edit(erase_box=("0,0,0,1,1,1",))
    assert main(["fit", "scenes/sample", "--field", "blend", "--steps", "1", "--quiet"]) == 2
    assert "nf edit A.nf --insert B.nf" in capsys.readouterr().err


def test_gaussians_are_joined(tmp_path: Path):
    means = torch.tensor([[0.0, 0.0, 0.0], [0.9, 0.0, 0.0]])
    bounds = Bounds((0.0, 0.0, 0.0), 2.0)

    def model(colour: float) -> Model:
        made = gaussians_at(means, torch.full((2, 3), colour), torch.full((2,), 0.1), 0.9, 0)
        return Model(GaussianField.of(made), bounds)

    save(model(0.9), tmp_path / "b.nf")
    given = {"insert": tmp_path / "b.nf", "at": (0.1, 0.0, 0.0), "scale": 0.5, "rotate": (0.0, 0.0, 90.0)}
    for mode, kept in (("replace", 1), ("add", 2)):
        joined = insert_model(model(0.1), EditOptions(Path("a.nf"), mode=mode, **given), torch.device("cpu"))
        found = joined.field.gaussians()
        assert len(found) == kept + 2
        wanted = torch.tensor([[0.1, 0.0, 0.0], [0.1, 0.45, 0.0]])
        torch.testing.assert_close(found.means[-2:], wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.scales[-1].exp(), torch.full((3,), 0.05), rtol=1e-5, atol=0)
    with pytest.raises(UsageError, match="Gaussians are added"):
        insert_model(model(0.1), EditOptions(Path("a.nf"), mode="fade", **given), torch.device("cpu"))
    with pytest.raises(UsageError, match="do not blend"):
        insert_model(hash_model(), EditOptions(Path("a.nf"), **given), torch.device("cpu"))
