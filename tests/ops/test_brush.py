"""Another program's pictures: those with which Brush (Apache-2.0) tests its own rasteriser on a GPU."""

import math
from pathlib import Path

import pytest
import torch

from neuralfields.ops.blend import splat
from neuralfields.ops.project import View, project


@pytest.mark.parametrize("name", ["tiny_case", "basic_case"])
def test_pictures_of_brush(name: str, shared_data: Path, instruction_set):
    """4 and 16 Gaussians with all harmonics, RGBA in float. The camera is in Brush's test, not in the file: at
    (0.123, 0.456, -8) looking along z, 90 degrees wide; the file's opacities are logits, its background is black."""
    path = shared_data / "splats" / "splat_small" / "brush_reference" / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} on this machine")
    from safetensors.torch import load_file

    data = load_file(path)
    want = data["out_img"]
    height, width = want.shape[:2]
    focal = 0.5 * width / math.tan(math.pi / 4)
    eye = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    view = View(eye, (0.123, 0.456, -8.0), (focal, focal), (width / 2, height / 2), (width, height))
    rows = project(data["means"], data["scales"], data["quats"], data["opacities"], data["coeffs"], view, 3)
    found = splat(rows, (width, height), (0.0, 0.0, 0.0))
    assert float(want[..., 3].max()) > 0.5
    torch.testing.assert_close(found.rgb, want[..., :3], rtol=0, atol=2e-6)
    torch.testing.assert_close(found.opacity, want[..., 3], rtol=0, atol=2e-6)
