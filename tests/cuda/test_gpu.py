"""On a GPU: every op and its gradients against the CPU, the fused field, a short fit. Run with pytest -m cuda.

Tolerances: float64 runs the CPU's formulas, contracted to fused multiply-adds: 1e-9 relative. float32 the same, with
other exponentials (2 units in the last place): 2e-4. `half`: see test_emulated.py. Sums by atomics come in another
order in every run.
"""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.captures.images import load_frames
from neuralfields.captures.readers import read_scene
from neuralfields.distillation.convert import new_distillation
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.evaluation.render import render
from neuralfields.fields import field_class, field_names
from neuralfields.fields.field import Field
from neuralfields.fields.hash import Config as HashConfig
from neuralfields.gpu.network import using_precision
from neuralfields.mesh.files import read_mesh
from neuralfields.models.nf_file import load, save
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import ConvertOptions, ExportOptions
from neuralfields.rendering.volume import Volume
from neuralfields.trainers.distil import Recipe
from neuralfields.training.checkpoint import Checkpoint
from neuralfields.training.fit import fit_scene, fit_to_file
from neuralfields.training.photos import new_training
from neuralfields.training.plan import plan_fit
from neuralfields.verbs import doctor_cuda as cuda_doctor
from neuralfields.verbs import export
from tests.support.fused import Case, case, results
from tests.support.inputs import IN_PLACE, PLAIN, arguments, copied, moved, tensors
from tests.support.settings import plan_of

pytestmark = pytest.mark.cuda
TOLERANCE = {torch.float64: (1e-9, 1e-11), torch.float32: (2e-4, 2e-5)}
RELATIVE = {"float": 1e-5, "half": 1e-2}
GEOMETRY = {"hash_encode": (2, 3), "hash_encode_backward": (2, 3)}  # arguments that stay on the CPU


@pytest.fixture(autouse=True)
def gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


def distance(got: Tensor, want: Tensor) -> float:
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    return float((got - want).norm() / want.norm().clamp(min=1e-30))


def run(name: str, given: list, device: str) -> list[Tensor]:
    there = [a if i in GEOMETRY.get(name, ()) else moved(a, device) for i, a in enumerate(copied(given))]
    result = getattr(torch.ops.neuralfields, name)(*there)
    return [t.cpu() for t in tensors(there if name in IN_PLACE else result)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", PLAIN)
def test_ops(name: str, dtype: torch.dtype):
    given = arguments(name, dtype)
    want, got = run(name, given, "cpu"), run(name, given, "cuda")
    assert len(got) == len(want) > 0
    for a, b in zip(got, want, strict=True):
        if name == "march" and a.shape != b.shape:  # a step at a cell's face may fall to either side in float32
            assert dtype == torch.float32 and abs(len(a) - len(b)) <= 2
            continue
        torch.testing.assert_close(a, b, rtol=TOLERANCE[dtype][0], atol=TOLERANCE[dtype][1])


@pytest.mark.parametrize("widths", [(20, 32, 5), (32, 32, 16), (64, 64, 64, 3), (16, 16), (8, 80, 3)])
@pytest.mark.parametrize("precision", ["float", "half"])
def test_networks(precision: str, widths: tuple[int, ...]):
    for name in ("network", "network_backward"):
        given = arguments(name, torch.float32, widths)
        exact = run(name, [_double(a) for a in given], "cpu")
        with using_precision(precision):
            got = run(name, given, "cuda")
        bound = RELATIVE[precision] * (10 if precision == "half" and max(widths) > 32 else 1)
        assert max(distance(a, b) for a, b in zip(got, exact, strict=True)) < bound


def _double(value: object) -> object:
    if isinstance(value, list):
        return [_double(v) for v in value]
    return value.double() if isinstance(value, Tensor) else value


def on_gpu(c: Case) -> Case:
    """The same case with everything on the GPU."""
    volume = Volume(c.volume.field.to("cuda"), c.volume.bounds, c.volume.occupancy.cuda())
    return Case(volume, c.rays.to("cuda"), c.jitter.cuda(), c.cotangents.cuda())


@pytest.mark.parametrize("space", ["box", "box3", "cube4"])
@pytest.mark.parametrize("precision", ["float", "half"])
def test_fused_render_and_gradients(precision: str, space: str):
    c = case(space, torch.float32, rays=1000)
    want, exact = c.gradients(True)
    there = on_gpu(c)
    with using_precision(precision):
        got, gradients = there.gradients(True)
        picture = there.render(True, capacity=0)
    bound = RELATIVE[precision] * 3
    assert got.samples == pytest.approx(want.samples, rel=0.05) and bool(got.valid.all())
    assert distance(results(got), results(want)) < bound
    assert distance(results(picture), results(want)) < max(bound, 1e-3)  # pictures leave out weights under 1e-4
    assert max(distance(a, b) for a, b in zip(gradients, exact, strict=True)) < bound


def test_op_by_op_is_the_fused_pass():
    c = on_gpu(case("box3", torch.float32, rays=500))
    with using_precision("float"):
        (fused, d_fused), (plain, d_plain) = c.gradients(True), c.gradients(False)
    assert distance(results(plain), results(fused)) < 1e-4
    assert max(distance(a, b) for a, b in zip(d_plain, d_fused, strict=True)) < 1e-3


def test_float64_goes_op_by_op():
    c = case("box", torch.float64, rays=200)
    want, exact = c.gradients(False)
    got, gradients = on_gpu(c).gradients(True)
    assert distance(results(got), results(want)) < 1e-9
    assert max(distance(a, b) for a, b in zip(gradients, exact, strict=True)) < 1e-8


@pytest.mark.parametrize("name", field_names())
def test_every_field_gives_the_same_on_both(name: str):
    """Features, density, colour and all gradients of a field of default Config."""
    kind = field_class(name)
    torch.manual_seed(2)
    field = kind(kind.Config())
    x = torch.rand(500, 3)
    d = torch.nn.functional.normalize(torch.randn(500, 3), dim=1)
    want = _gradients_of(field, x, d)
    with using_precision("float"):
        got = _gradients_of(field.to("cuda"), x.cuda(), d.cuda())
    assert max(distance(a, b) for a, b in zip(got, want, strict=True)) < 2e-3


def _gradients_of(field: Field, x: Tensor, d: Tensor) -> list[Tensor]:
    log_density, rgb = field.decode(field.features(x), d)
    for p in field.parameters():
        p.grad = None
    (log_density.sum() + (rgb * torch.tensor([1.0, -2.0, 0.5], device=x.device)).sum()).backward()
    return [log_density, rgb, *(p.grad.clone() for p in field.parameters() if p.grad is not None)]


def test_the_doctors_self_test():
    assert cuda_doctor.self_test() < cuda_doctor.TOLERANCE


def test_kernels_follow_torchs_stream():
    given = moved(arguments("composite", torch.float32), "cuda")
    want = torch.ops.neuralfields.composite(*given)[0]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(10_000_000)  # whatever does not wait for this stream reads what is not there yet
        late = [g + 0 for g in given]
        got = torch.ops.neuralfields.composite(*late)[0]
    side.synchronize()
    assert torch.equal(got, want)


def test_a_short_fit_on_the_sample_scene(sample_scene: Path, tmp_path: Path):
    """As good as on the CPU, saved, loaded on both devices, and rendered alike."""
    scene = read_scene(sample_scene)
    options = FitOptions(sample_scene, steps=600, device="cuda", eval_every=0, quiet=True, field="hash")
    begin = time.perf_counter()
    model = fit_scene(scene, options)
    seconds = time.perf_counter() - begin
    on_cpu = fit_scene(scene, FitOptions(sample_scene, steps=600, device="cpu", eval_every=0, quiet=True, field="hash"))
    assert model.metrics["psnr"] > on_cpu.metrics["psnr"] - 0.5, f"in {seconds:.1f} s"
    save(model, tmp_path / "a.nf")
    pictures = []
    for device in ("cpu", "cuda"):
        again = load(tmp_path / "a.nf", device)
        pictures.append(render(again, again.cameras[0]).rgb.cpu())
    assert float((pictures[0] - pictures[1]).abs().max()) < 0.05
    assert float((pictures[0] - pictures[1]).abs().mean()) < 1e-3


def test_a_checkpoint_goes_from_the_gpu_to_the_cpu(small_capture: Path, tmp_path: Path):
    scene = read_scene(small_capture)
    loaded = load_frames(scene, scene.train, None)
    options = FitOptions(small_capture, field="hash")
    config = HashConfig(levels=4, table=12)
    made = {d: new_training(scene, plan_of(scene, options, config, d), loaded) for d in ("cuda", "cpu")}
    for step in range(3):
        made["cuda"].step(step / 3)
    Checkpoint(tmp_path / "c", {}).save(made["cuda"], 1.0)
    Checkpoint(tmp_path / "c", {}).load(made["cpu"])
    there, here = made["cuda"].tensors(), made["cpu"].tensors()
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name].cpu(), here[name]) for name in there)
    made["cpu"].step(0.5)


def test_a_fit_in_eight_bits(small_capture: Path, tmp_path: Path):
    """Rounded in turn where the tensors are; the file scores the same on the CPU."""
    options = FitOptions(
        small_capture, field="cam", steps=60, bits=8, out=tmp_path / "a.nf", device="cuda", eval_every=0, quiet=True
    )
    made = fit_to_file(plan_fit(options, read_scene(small_capture)))
    assert evaluate(load(tmp_path / "a.nf")).psnr == pytest.approx(made.metrics["psnr"], abs=0.05)


def test_a_mesh_is_the_same_from_either_device(small_file: Path, tmp_path: Path):
    """The verb with --device: the field computes there, the mesh is made here."""
    meshes = []
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.ply"
        assert export.run(ExportOptions(small_file, out, resolution=48, device=device))["faces"] > 500
        meshes.append(read_mesh(out))
    here, there = meshes
    assert len(there.faces) == pytest.approx(len(here.faces), rel=0.02)
    assert np.abs(there.vertices.mean(0) - here.vertices.mean(0)).max() < 0.01
    assert np.abs(there.colours.mean(0) - here.colours.mean(0)).max() < 3


@pytest.mark.parametrize("name", ["mlp", "voxels", "triplane"])
def test_a_conversion_on_the_gpu(small_file: Path, name: str):
    """All of its parts at once, and the student as close to its teacher as on the CPU."""
    recipe = Recipe(hard_rays=True, heavy_points=name == "triplane", inherit_occupancy=name != "mlp")
    close = {}
    for device in ("cpu", "cuda"):
        teacher = load(small_file, device)
        options = ConvertOptions(small_file, to=name, quiet=True, eval_every=0)
        distillation, _, look = new_distillation(teacher, options, recipe)
        assert distillation.device.type == device
        for step in range(120):
            distillation.step(step / 120)
        close[device] = look()
    assert close["cuda"] > close["cpu"] - 1.5


def test_pictures_of_a_camera_stay_on_the_gpu():
    c = on_gpu(case("box", torch.float32, rays=2))
    view = Camera(np.eye(4), 32, 24, 30.0, 30.0, 16.0, 12.0)
    assert c.volume.render(view, (0.0, 0.0, 0.0)).rgb.is_cuda
