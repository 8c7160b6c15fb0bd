"""Fields that are still to grow are saved as they will be."""

from pathlib import Path

import pytest
import torch

from neuralfields import fields
from neuralfields.domain import RADIANCE
from neuralfields.models.model import Model
from neuralfields.models.nf_file import load, save
from neuralfields.models.whole import whole
from neuralfields.scene import Bounds


@pytest.mark.parametrize("name", ["voxels", "lowrank", "triplane"])
def test_a_field_that_is_still_to_grow_is_saved_at_its_last_stage(tmp_path: Path, name: str) -> None:
    """As the viewer saves it in the middle of a fit; the fit's own field stays as it is."""
    kind = fields.field_class(name)
    field = kind(kind.Config(), RADIANCE)
    field.grow(0)
    before = {key: tensor.clone() for key, tensor in field.state_dict().items()}
    save(Model(field, Bounds((0.0, 0.0, 0.0), 1.0)), tmp_path / "a.nf")
    again = load(tmp_path / "a.nf").field
    assert any(tensor.shape != again.state_dict()[key].shape for key, tensor in before.items())
    assert all(torch.equal(tensor, before[key]) for key, tensor in field.state_dict().items())
    field.grow(len(field.stages()))
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in field.state_dict().items())
    assert whole(field) is field and whole(again) is again
