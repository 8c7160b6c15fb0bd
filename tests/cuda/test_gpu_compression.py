"""Networks of NeuralGS fitted on a GPU: the same start as on the CPU, and a file that is as good. Run with -m cuda."""

from pathlib import Path

import pytest
import torch

from neuralfields.compression.compress import Goal
from neuralfields.compression.files import read
from neuralfields.compression.neuralgs import Fitting, Recipe, compress
from neuralfields.compression.original import CaptureCameras, Original, drawn
from neuralfields.fields.gaussians import GaussianField
from neuralfields.models.model import Model
from neuralfields.models.nf_file import save
from neuralfields.options.models import CompressOptions
from neuralfields.verbs import compress as verb
from tests.compression.test_compress import BOUNDS, ball

pytestmark = pytest.mark.cuda
RECIPE = Recipe(clusters=3, width=16, prune=0.3, regression=200)
CAMERAS = CaptureCameras(drawn(BOUNDS, 12, 96, 1), drawn(BOUNDS, 4, 96, 2))


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


def test_regression_takes_the_same_rows():
    banks = []
    for device in ("cpu", "cuda"):
        gaussians = ball(300).to(device)
        original = Original(gaussians, BOUNDS, (0.0, 0.0, 0.0), CAMERAS)
        fitting = Fitting.of(gaussians, original.importance(), BOUNDS, RECIPE, 0)
        fitting.bank.regress(5)
        banks.append(fitting.bank)
    for mine, theirs in zip(*(bank.layers for bank in banks), strict=True):
        assert theirs.device.type == "cuda"
        torch.testing.assert_close(theirs.cpu(), mine, rtol=1e-2, atol=2e-3)


def test_a_file_made_on_a_gpu_is_as_good_and_read_on_the_cpu():
    made = {
        device: compress(ball(300).to(device), BOUNDS, Goal(steps=30), cameras=CAMERAS, recipe=RECIPE)
        for device in ("cpu", "cuda")
    }
    found = read(made["cuda"].data, "a")
    assert torch.equal(found.means, made["cuda"].gaussians.means) and found.device.type == "cpu"
    assert made["cuda"].report["psnr"] > made["cpu"].report["psnr"] - 1.0
    assert len(made["cuda"].data) < 1.1 * len(made["cpu"].data)


def test_the_command_takes_the_gpu(tmp_path: Path):
    cameras = tuple(drawn(BOUNDS, 8, 48, 5))
    save(Model(GaussianField.of(ball(200)), BOUNDS, cameras=cameras, held_out=(1,)), tmp_path / "a.nf")
    options = CompressOptions(
        tmp_path / "a.nf", out=tmp_path / "a.nfz", method="neuralgs", clusters=2, width=8, steps=6, device="cuda",
        quiet=True,
    )  # fmt: skip
    report = verb.run(options)
    assert report["method"] == "neuralgs" and (tmp_path / "a.nfz").stat().st_size == report["bytes"]
