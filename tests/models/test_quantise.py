"""8-bit storage: no value is further off than half a step, the file stays what it was, and the cost is measured."""

import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from neuralfields.captures.readers import read_scene
from neuralfields.domain import Domain
from neuralfields.errors import InputError, UsageError
from neuralfields.evaluation.evaluate import evaluate
from neuralfields.fields import field_class, field_names
from neuralfields.models import model, nf_file, quantise
from neuralfields.models import nf_header as header
from neuralfields.models.quantise import Codes, decode, encode, plan, round_parameters
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import InfoOptions
from neuralfields.scene import Bounds
from neuralfields.trainers.trainer import StepReport, Trainer
from neuralfields.training.fit import fit_to_file
from neuralfields.training.plan import plan_fit
from neuralfields.verbs import info
from tests.support.settings import set_training
from tests.support.small_configs import small_config

BOUNDS = Bounds((0.0, 0.0, 0.0), 1.0)


def there_and_back(tensor: torch.Tensor, channels: bool = False) -> torch.Tensor:
    return decode(encode(tensor, channels), list(tensor.shape))


NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays("float32", array_shapes(min_dims=2, max_dims=4, max_side=6), elements=NUMBERS))
@settings(max_examples=100, deadline=None)
def test_no_value_is_further_off_than_half_a_step(values):
    tensor = torch.from_numpy(values)
    for channels in (False, True):
        again = there_and_back(tensor, channels)
        flat = tensor.reshape(-1, tensor.shape[-1] if channels else 1).double()
        span = flat.amax(0) - flat.amin(0)
        # What float32 loses in a sum of two such numbers, and in a step below its smallest normal number.
        slack = 1e-6 * flat.abs().amax(0) + 1e-37
        error = (again.reshape(flat.shape).double() - flat).abs().amax(0)
        assert again.shape == tensor.shape and again.dtype == torch.float32
        assert bool((error <= span / 510 * (1 + 1e-4) + slack).all())


def test_extremes_constants_and_zeros_come_back():
    tensor = torch.tensor([[-0.25, 0.0], [0.5, 0.125]])
    again = there_and_back(tensor)
    assert float(again.min()) == -0.25 and float(again.max()) == pytest.approx(0.5, abs=1e-6)
    for constant in (0.0, 1.0, -3.5, 1e-42):
        assert there_and_back(torch.full((3, 4), constant)).allclose(torch.full((3, 4), constant), atol=1e-40)
    assert there_and_back(torch.zeros(0, 4)).shape == (0, 4)


def test_all_256_codes_are_used_and_each_has_its_value():
    tensor = (torch.arange(256.0) / 255).reshape(16, 16)
    codes = encode(tensor)
    assert codes.coding == "raw" and codes.stored.flatten().tolist() == list(range(256))
    assert there_and_back(tensor).allclose(tensor, atol=1e-7)


def test_a_channel_of_its_own_is_not_drowned_by_a_larger_one():
    torch.manual_seed(0)
    tensor = torch.randn(300, 4) * torch.tensor([1.0, 1e-3, 10.0, 0.1])
    together, apart = (there_and_back(tensor, channels) for channels in (False, True))
    assert float((together - tensor)[:, 1].abs().max()) > 1e-4 and float((apart - tensor)[:, 1].abs().max()) < 2e-5
    assert len(encode(tensor, channels=True).low) == 4 and len(encode(tensor).low) == 1


def test_huffman_is_taken_where_it_pays_and_only_there():
    torch.manual_seed(0)
    bell, flat = torch.randn(200, 200), torch.rand(200, 200)
    for tensor, coding in ((bell, "deflate"), (flat, "raw"), (torch.zeros(200, 200), "deflate")):
        codes = encode(tensor)
        assert codes.coding == coding
        size = codes.stored.numel()
        assert size <= tensor.numel() and size >= tensor.numel() / header.PACKED  # what the reader allows
        raw = Codes(quantise._codes(tensor, codes.low, codes.step), codes.low, codes.step, "raw")
        assert torch.equal(decode(raw, [200, 200]), decode(codes, [200, 200]))
    assert encode(bell).stored.numel() < 0.95 * bell.numel()


def test_a_stream_that_is_not_what_it_says():
    packed = zlib.compress(bytes(range(100)))
    good = Codes(torch.frombuffer(bytearray(packed), dtype=torch.uint8), [0.0], [1.0], "deflate")
    assert decode(good, [10, 10]).flatten().tolist() == list(range(100))
    cases = [(packed, [99]), (packed, [101]), (packed[:-3], [100]), (packed + b"x", [100]), (b"\x00" + packed, [100])]
    for data, shape in cases:
        stored = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        with pytest.raises(InputError, match=r"codes for|stream of|damaged"):
            decode(replace(good, stored=stored), shape)
    with pytest.raises(InputError, match="4 codes for 6 values"):
        decode(Codes(torch.zeros(4, dtype=torch.uint8), [0.0], [1.0], "raw"), [2, 3])


@pytest.mark.parametrize("name", field_names())
def test_every_field_in_eight_bits(name: str, tmp_path: Path):
    torch.manual_seed(1)
    field = field_class(name)(small_config(name))
    full, small = tmp_path / "full.nf", tmp_path / "small.nf"
    nf_file.save(model.Model(field, BOUNDS), full)
    nf_file.save(model.Model(field, BOUNDS), small, bits=8)
    again = nf_file.load(small).field
    round_parameters(field)
    assert plan(field) and all(torch.equal(v, again.state_dict()[k]) for k, v in field.state_dict().items())
    assert small.stat().st_size < 0.45 * full.stat().st_size
    facts = header.describe(small)
    assert facts["bits"] == 8 and facts["parameters"] == header.describe(full)["parameters"]
    assert "stored in 8 bits" in info.text(info.run(InfoOptions(small)))


def test_what_is_fixed_or_small_keeps_its_bits():
    kind = field_class("cam")
    for nodes, form in ((16, "half"), (64, "channels")):
        forms = plan(kind(kind.Config(nodes=nodes), Domain("image", 2, 3)))
        assert forms["by_point.grids.0"] == form
        assert forms["trunk.body.linears.0.weight"] == forms["readout.weight"] == "codes"
        assert not any("bias" in name or "matrix" in name for name in forms)
    forms = plan(kind(kind.Config(nodes=60), Domain("video", 3, 3)))
    assert forms["by_point.grids.0"] == "codes"  # 60 moments of 384 channels


def test_stays_a_safetensors_file(tmp_path: Path):
    from safetensors import safe_open

    kind = field_class("cam")
    nf_file.save(model.Model(kind(kind.Config()), BOUNDS), tmp_path / "a.nf", bits=8)
    with safe_open(tmp_path / "a.nf", framework="pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys() if name.startswith("field.")}
    assert kinds["field.trunk.body.linears.1.weight"] == torch.uint8
    assert kinds["field.trunk.body.linears.1.bias"] == torch.float32


def test_not_finite_and_not_known_are_refused(tmp_path: Path):
    kind = field_class("cam")
    field = kind(kind.Config())
    for bits, half in ((7, False), (8, True)):
        with pytest.raises(ValueError, match="bits"):
            nf_file.save(model.Model(field, BOUNDS), tmp_path / "a.nf", half=half, bits=bits)
    with torch.no_grad():
        field.readout.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"readout\.weight holds 1 of"):
        nf_file.save(model.Model(field, BOUNDS), tmp_path / "a.nf", bits=8)
    assert not (tmp_path / "a.nf").exists()
    with pytest.raises(UsageError, match="--half and --bits 8: give only one"):
        FitOptions(Path("scene"), half=True, bits=8)
    with pytest.raises(UsageError, match="--bits 4: must be 8 or 32"):
        FitOptions(Path("scene"), bits=4)


def test_a_fit_says_what_its_small_file_scores(tiny_capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And eight bits cost next to nothing: the fit before rounding is the same one."""

    set_training(monkeypatch, samples=1 << 11)
    scene = read_scene(tiny_capture)
    options = FitOptions(
        scene.root, steps=60, eval_every=0, quiet=True, threads=torch.get_num_threads(),
        field="hash", set=("levels=6", "table=12", "finest=128")
    )  # fmt: skip
    scores, sizes = {}, {}
    for bits in (32, 8):
        path = tmp_path / f"{bits}.nf"
        made = fit_to_file(plan_fit(replace(options, bits=bits, out=path), scene))
        scores[bits], sizes[bits] = made.metrics["psnr"], path.stat().st_size
    assert evaluate(nf_file.load(tmp_path / "8.nf")).psnr == pytest.approx(scores[8], abs=1e-3)
    assert abs(scores[32] - scores[8]) < 0.15 and scores[8] != scores[32] and sizes[8] < sizes[32]


def picture_fit(bits: int, steps: int):
    """A cam field that learned a picture of stripes, and PSNR of it as it comes back from 8 bits."""
    x = torch.cartesian_prod(*[(torch.arange(24) + 0.5) / 24] * 2)
    y = torch.stack([((7 * x[:, 0]).floor() + i * (5 * x[:, 1]).floor()) % 2 for i in range(3)], 1)
    kind = field_class("cam")
    torch.manual_seed(0)
    made = kind(kind.Config(frequencies=6.0, width=32, nodes=8), Domain("image", 2, 3))
    fit = Fit(made, x, y)
    fit.bits = bits
    for step in range(steps):
        fit.step(step / steps)
    return fit


class Fit(Trainer):
    """All pixels in each step; `seen`: which tensors had the values of an 8-bit file, of every sixth step."""

    def __init__(self, field, x, y) -> None:
        super().__init__(field, 0)
        self.x, self.y, self.seen, self.taken = x, y, {}, 0

    def error(self) -> torch.Tensor:
        return (self.field.values(self.field.features(self.x)) - self.y).square().mean()

    def step(self, progress: float) -> StepReport:
        self.advance(progress)
        if self.taken % 6 == 0 or self.taken == 599:
            self.seen[self.taken] = [name for name in plan(self.field) if self.is_rounded(name)]
        self.taken += 1
        self.descend(self.error(), progress)
        return StepReport(0, 0, 0.0)

    def is_rounded(self, name: str) -> bool:
        """Whether it lies within rounding of float32 on the codes' values."""
        tensor, form = self.field.get_parameter(name).detach(), plan(self.field)[name]
        again = tensor.half().float() if form == "half" else there_and_back(tensor, form == "channels")
        return torch.allclose(tensor, again, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_towards_the_end_a_fit_is_rounded_in_turn_and_learns_around_it(one_thread: None):
    plain, rounded = picture_fit(32, 600), picture_fit(8, 600)
    names = list(plan(rounded.field))
    assert len(names) == 5 and len(plain.seen) == 101
    assert not any(seen for step, seen in plain.seen.items() if step)  # at first the grid is 0
    assert not any(seen for step, seen in rounded.seen.items() if 0 < step < 540)
    assert [len(rounded.seen[540 + i]) for i in (0, 6, 18, 30, 42, 54, 59)] == [1, 1, 2, 3, 4, 5, 5]
    assert all(seen == names[: len(seen)] for step, seen in rounded.seen.items() if step)
    exact, errors = float(plain.error().detach()), []
    for fit in (plain, rounded):
        round_parameters(fit.field)
        errors.append(float(fit.error().detach()))
    assert errors[1] - exact < 0.5 * (errors[0] - exact), (exact, errors)


def test_a_fit_that_goes_on_rounds_what_is_left(one_thread: None):
    """As a resumed one does: what was rounded stays, bit for bit, and the rest follows."""
    whole, first = picture_fit(8, 100), picture_fit(8, 0)
    for step in range(94):
        first.step(step / 100)
    again = picture_fit(8, 0)
    again.restore(first.tensors(), first.counters())
    assert again.rounded == first.rounded == 2
    for step in range(94, 100):
        again.step(step / 100)
    assert again.rounded == whole.rounded == 5
    assert all(torch.equal(a, b) for a, b in zip(again.field.parameters(), whole.field.parameters(), strict=True))
