"""Gaussians on a GPU: every op and its gradients against the CPU, steps of a fit, a whole one. Run with pytest -m cuda.

Tolerances as in test_gpu.py; in float32 an alpha at 1/255 may fall to either side, so means are compared.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from neuralfields.captures.readers import read_scene
from neuralfields.gaussians import PARAMETERS
from neuralfields.models.nf_file import load, save
from neuralfields.ops.blend import COLOUR_ONLY
from neuralfields.ops.project import project
from neuralfields.options.fit import FitOptions
from neuralfields.rendering.splat import Splats, render_gaussians
from neuralfields.splatting.densify import State, grown
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.fit import fit_scene
from tests.support.gaussians import view
from tests.support.small_splat_training import small_splat_training
from tests.support.splat_case import BACKGROUND, listed, loss_inputs, losses, on_cpu, splat_case, steps
from tests.support.splats import random_gaussians

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


def close(got: list[Tensor], want: list[Tensor], rtol: float = 1e-8, atol: float = 1e-9) -> None:
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_ops(level: int):
    case = splat_case(3000, size=0.1)
    rows, want = case.project(on_cpu), case.all(on_cpu, level)
    there = case.to("cuda")
    found = there.project(on_cpu)
    close([found.values, found.ids, found.chunk_count, found.slot, found.totals],
          [rows.values, rows.ids, rows.chunk_count, rows.slot, rows.totals])  # fmt: skip
    assert listed(found, there.lists(on_cpu, found)) == listed(rows, case.lists(on_cpu, rows))
    close(there.all(on_cpu, level), want)


def test_ops_in_float32():
    case = splat_case(3000, torch.float32, size=0.1)
    for a, b in zip(case.to("cuda").all(on_cpu), case.all(on_cpu), strict=True):
        assert float((a.cpu() - b).abs().mean()) <= 2e-3 * float(b.abs().mean())


def test_autograd_through_a_picture():
    """render_gaussians on both devices, the gradients of its parameters."""
    found = []
    for device in ("cpu", "cuda"):
        gaussians = random_gaussians(2000).to(device)
        leaves = {name: getattr(gaussians, name).double().requires_grad_() for name in PARAMETERS}
        rows = project(*leaves.values(), view(90, 70), 3)
        rows.values.square().sum().backward()
        picture = render_gaussians(gaussians, view(90, 70), BACKGROUND, 3, COLOUR_ONLY)
        found.append([*(leaf.grad.cpu() for leaf in leaves.values()), picture.rgb.double().cpu()])
    close(found[1][:-1], found[0][:-1], rtol=1e-6)
    assert float((found[1][-1] - found[0][-1]).abs().mean()) < 1e-4


@pytest.mark.parametrize("masked", [False, True])
def test_loss_of_a_picture(masked: bool):
    rgb, target, mask = loss_inputs(torch.float64)
    want = losses(rgb, target, mask if masked else None, False)
    rgb, target, mask = loss_inputs(torch.float64, "cuda")
    close(losses(rgb, target, mask if masked else None, False), want, atol=1e-14)


def test_steps_of_a_fit():
    case = splat_case(3000, size=0.1)
    want, picture = steps(case, False)
    got, found = steps(case.to("cuda"), False)
    close(got, want, rtol=1e-5, atol=1e-8)
    close([found.rgb, found.depth], [picture.rgb, picture.depth], atol=1e-6)


def test_same_bits_every_time():
    """No kernel adds by atomics."""
    case = splat_case(20_000, torch.float32, size=0.05).to("cuda")
    first, second = steps(case, False, 5)[0], steps(case, False, 5)[0]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_twenty_steps_and_a_checkpoint(small_capture: Path, tmp_path: Path):
    """The same pictures as on the CPU after them; the state goes to a CPU's trainer; growth follows."""
    made = {device: small_splat_training(small_capture, device) for device in ("cpu", "cuda")}
    for step in range(20):
        reports = [training.step(step / 20) for training in made.values()]
    assert reports[0].samples == reports[-1].samples
    camera = read_scene(small_capture).frames[0].camera
    pictures = [training.volume.render(camera, (0.0, 0.0, 0.0)).rgb.cpu() for training in made.values()]
    assert float((pictures[0] - pictures[-1]).abs().mean()) < 2e-3
    Checkpoint(tmp_path / "c", {}).save(made["cuda"], 1.0)
    Checkpoint(tmp_path / "c", {}).load(made["cpu"])
    there, here = made["cuda"].tensors(), made["cpu"].tensors()
    assert all(torch.equal(there[name].cpu(), here[name]) for name in there)
    grew = []
    for training in made.values():
        training.statistics[:, 1] += 1
        generator = torch.Generator().manual_seed(1)
        state = grown(training.state, training.statistics, 2500, 100.0, generator)
        assert isinstance(state, State)
        grew.append(state.values.core.cpu())
    assert grew[0].shape == grew[-1].shape
    torch.testing.assert_close(grew[0], grew[-1], rtol=1e-5, atol=1e-6)
    made["cpu"].step(0.5)


def test_a_short_fit(small_capture: Path, tmp_path: Path):
    """As good as on the CPU, saved, and rendered alike from either device."""
    options = {"steps": 240, "quiet": True, "eval_every": 0, "set": ("most=3000", "degree=1")}
    scene, psnr = read_scene(small_capture), {}
    for device in ("cpu", "cuda"):
        model = fit_scene(scene, FitOptions(small_capture, field="gaussians", device=device, **options))
        psnr[device] = model.metrics["psnr"]
    assert psnr["cuda"] > psnr["cpu"] - 0.7
    save(model, tmp_path / "a.nf")
    pictures = []
    for device in ("cpu", "cuda"):
        again = load(tmp_path / "a.nf", device)
        splats = again.renderable()
        assert isinstance(splats, Splats) and splats.device.type == device
        pictures.append(splats.render(again.cameras[0], (1.0, 1.0, 1.0)).rgb.cpu())
    assert float((pictures[0] - pictures[-1]).abs().mean()) < 1e-3
