"""Fields (not Gaussians) to the bytes of a .nfz: steps of weights by what renderings say, then a quality or a size.

A part's error grows with the square of its step, D = s step^2; a file is best where D is the same for each number
(compression/tune.py). s is measured by renderings in which one part alone is quantised. What is tuned then, if
anything is, are weights behind rounded ones (distillation/rounded.py).
"""

import copy
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import torch
from torch import Tensor

from neuralfields.cameras import Camera
from neuralfields.compression import field_file
from neuralfields.compression.compress import Goal
from neuralfields.compression.field_file import Part, QuantisedModel, encode_part, near_in, parts_of, values_of, weights
from neuralfields.compression.nfz import section_bytes
from neuralfields.compression.original import CaptureCameras, views_of
from neuralfields.compression.tune import DECIBELS, TOLERANCE, lost_of, search, wanted_psnr
from neuralfields.errors import InputError
from neuralfields.models.model import Model
from neuralfields.pictures.metrics import psnr, psnr_from_mse, ssim

SIDE, PROBES, VIEWS, REPORT = 96, 3, 6, 8  # pixels a side of the pictures that judge; how many
PROBE = 1 / 4  # step of a part that is measured, in its root mean square
FINEST, COARSEST = 1 / 512, 8.0  # steps in root mean squares
DEAD_ZONE = 0.42  # a number is rounded up from 0.58 of a step: zeros are the cheapest
LARGEST = 2**18
BYTES_SLOPE = 0.6  # logarithm of bytes that a logarithm of the steps saves
GAINED = 3.0  # dB that tuning is expected to bring
ROOM = 0.98  # share of the bytes at which tuning begins: it adds some
ROUNDS, MARGIN = (0.6, 0.25, 0.15), 0.02  # shares of the steps; logarithm of the steps' factor, to the safe side
# A model with weights behind rounded ones, the steps of its parts by number, a count of training steps -> the model
# whose weights come nearest to the original's pictures once they are rounded.
Tune = Callable[[Model, dict[int, float], int], Model]


def rounded(values: Tensor, step: float) -> Tensor:
    """Weights that a file with this step would hold for float32 ones; see `FieldQuantiser.rounded`."""
    return (values.abs() / step + DEAD_ZONE).floor_().mul_(step).copysign_(values)


@dataclass(frozen=True)
class CompressedField:
    """The bytes of a file, the model that they decode to, and a report of plain data."""

    data: bytes
    model: Model
    report: dict[str, object]


class FieldJudge:
    """Pictures of a model's field, and how far those of its field with other weights are from them."""

    def __init__(self, model: Model, cameras: list[Camera]) -> None:
        self.cameras, self.background = cameras, model.background
        self.pictures = self.render(model)

    @torch.no_grad()
    def render(self, model: Model, views: int | None = None) -> list[np.ndarray]:
        """Pictures [H, W, 3] of a model by the first `views` cameras."""
        renderable = model.renderable()
        cameras = self.cameras[:views]
        return [renderable.render(camera, self.background).rgb.clamp(0, 1).cpu().numpy() for camera in cameras]

    def errors(self, model: Model, views: int | None = None) -> list[float]:
        """Mean squared error of each picture."""
        pairs = zip(self.render(model, views), self.pictures, strict=False)
        return [float(((a - b) ** 2).mean()) for a, b in pairs]

    def psnr(self, model: Model) -> float:
        """Mean over pictures of the PSNR in dB, at most 100 each."""
        return float(np.mean([psnr_from_mse(max(error, 1e-10)) for error in self.errors(model)]))

    def report(self, model: Model) -> dict[str, float]:
        """`psnr` and `ssim` of pictures rounded to 8 bits."""
        pairs = list(zip(self.render(model), self.pictures, strict=True))
        return {
            "psnr": float(np.mean([min(psnr(a, b), 100.0) for a, b in pairs])),
            "ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
        }


class FieldQuantiser:
    """Quantises the parts of one model's field with any steps."""

    def __init__(self, model: Model) -> None:
        self.model, self.parts = model, parts_of(model.field)
        self.values = [values_of(model.field, part) for part in self.parts]
        self.sizes = [max(float(np.sqrt((v**2).mean())), 1e-8) for v in self.values]
        self.shapes = {part.name: tuple(model.field.get_parameter(part.name).shape) for part in self.parts}
        self._predicts: dict[int, bool] = {}

    def rounded(self, i: int, step: float) -> np.ndarray:
        """Whole numbers int32 [rows, C] of a part. Raises InputError where they are too many."""
        whole = np.floor(np.abs(self.values[i]) / step + DEAD_ZONE) * np.sign(self.values[i])
        if float(np.abs(whole).max()) > LARGEST:
            raise InputError(f"{self.parts[i].name}: weights do not fit into steps of {step:.3g}; ask for less quality")
        return whole.astype(np.int32)

    def shown(self, steps: dict[int, float]) -> Model:
        """The model with parts at these steps, the others as they are."""
        parts = tuple(msgspec.structs.replace(self.parts[i], step=step) for i, step in steps.items())
        codes = tuple(self.rounded(i, step) for i, step in steps.items())
        return shown(QuantisedModel(self.model, parts, codes))

    def quantised(self, steps: dict[int, float]) -> QuantisedModel:
        """All parts at these steps; each is predicted from what is near it where that is smaller."""
        parts, codes = [], []
        for i, step in sorted(steps.items()):
            whole, part = self.rounded(i, step), msgspec.structs.replace(self.parts[i], step=step)
            if i not in self._predicts:
                self._predicts[i] = self._pays(part, whole)
            parts.append(msgspec.structs.replace(part, predict=self._predicts[i]))
            codes.append(whole)
        return QuantisedModel(self.model, tuple(parts), tuple(codes))

    def _pays(self, part: Part, codes: np.ndarray) -> bool:
        """Whether prediction from rows near makes a part smaller."""
        shape = self.shapes[part.name]
        if not (near_in(shape, part) >= 0).any():
            return False
        sizes = [len(encode_part(shape, msgspec.structs.replace(part, predict=on), codes)) for on in (False, True)]
        return sizes[1] < sizes[0]


def shown(quantised: QuantisedModel) -> Model:
    """The model that a quantised one stands for."""
    field = copy.deepcopy(quantised.model.field)
    with torch.no_grad():
        for part, codes in zip(quantised.parts, quantised.codes, strict=True):
            parameter = field.get_parameter(part.name)
            rows = parameter.view(*field_file.rows_of(tuple(parameter.shape)))
            rows[part.begin : part.end] = weights(codes, part.step).to(parameter.device)
    return replace(quantised.model, field=field)


def compress_field(
    model: Model,
    goal: Goal,
    cameras: CaptureCameras | None = None,
    stage: Callable[[str], None] = lambda _: None,
    tune: Tune | None = None,
    original: Model | None = None,
) -> CompressedField:
    """The file of a field at a goal: `quality` in dB, or `most_bytes`; quantisation-aware with `tune` and `goal.steps`.

    `original`: what it is held to where it stands in place of another. Raises InputError for a goal that cannot be
    reached.
    """
    begin = time.perf_counter()
    views = {name: _views(name, model, cameras) for name in ("tuning", "report")}
    stage("steps")
    quantiser, judge = FieldQuantiser(model), FieldJudge(model, views["tuning"])
    steps = balanced(quantiser, judge)
    if original is not None:
        judge = FieldJudge(original, views["tuning"])
    quantised = _at_goal(quantiser, judge, steps, goal)
    if tune is not None and goal.steps:
        stage("tuning")
        quantised = _best([quantised, *tuned(quantised, judge, goal, tune)], judge, goal)
    stage("coding")
    data = field_file.encode(quantised)
    seconds = time.perf_counter() - begin
    stage("report")
    decoded = field_file.decode(data, "the file just made")
    figures = FieldJudge(original or model, views["report"]).report(decoded)
    numbers = sum(parameter.numel() for parameter in model.field.parameters())
    report = {
        **figures,
        "lost": lost_of(figures["psnr"], goal.fitted),
        "bytes": len(data),
        "parameters": numbers,
        "bits_each": 8 * len(data) / numbers,
        "sections": section_bytes(data, "the file just made"),
        "views": len(views["report"]),
        "fitted": goal.fitted,
        "steps": goal.steps if tune is not None else 0,
        "seconds": seconds,
    }
    return CompressedField(data, decoded, report)


def _views(name: str, model: Model, cameras: CaptureCameras | None) -> list[Camera]:
    count = VIEWS if name == "tuning" else REPORT
    found = views_of(name, model.bounds, cameras)[:count]
    return [camera.resized(*_sides(camera)) for camera in found]


def _sides(camera: Camera) -> tuple[int, int]:
    scale = min(1.0, SIDE / max(camera.width, camera.height))
    return max(11, round(camera.width * scale)), max(11, round(camera.height * scale))


def balanced(quantiser: FieldQuantiser, judge: FieldJudge) -> dict[int, float]:
    """Steps at which every number adds about the same error to the pictures."""
    found = {}
    for i, (values, size) in enumerate(zip(quantiser.values, quantiser.sizes, strict=True)):
        probe = PROBE * size
        error = float(np.mean(judge.errors(quantiser.shown({i: probe}), PROBES)))
        found[i] = math.sqrt(values.size / max(error, 1e-12)) * probe
    # all at the probe's size on average; `search` finds the common factor
    middle = math.exp(float(np.mean([math.log(s / quantiser.sizes[i]) for i, s in found.items()])))
    return {i: _held(step / middle * PROBE, quantiser.sizes[i]) for i, step in found.items()}


def _held(step: float, size: float) -> float:
    return min(max(step, FINEST * size), COARSEST * size)


def _at(quantiser: FieldQuantiser, steps: dict[int, float], factor: float) -> dict[int, float]:
    return {i: _held(step * factor, quantiser.sizes[i]) for i, step in steps.items()}


def _at_goal(quantiser: FieldQuantiser, judge: FieldJudge, steps: dict[int, float], goal: Goal) -> QuantisedModel:
    """What meets a goal with steps in these proportions, nothing tuned."""
    if goal.most_bytes:
        return _for_bytes(quantiser, steps, goal.most_bytes)
    return _for_quality(quantiser, judge, steps, wanted_psnr(goal.quality, goal.fitted))


def tuned(plain: QuantisedModel, judge: FieldJudge, goal: Goal, tune: Tune) -> list[QuantisedModel]:
    """Quantisations that meet a goal once their weights are tuned for their steps.

    Each round begins with the weights that the one before left, at steps corrected by what it measured.
    """
    begin = GAINED / DECIBELS if goal.most_bytes is None else -math.log(ROOM) / BYTES_SLOPE
    latent, quantiser = plain.model, FieldQuantiser(plain.model)
    steps = _at(quantiser, {i: part.step for i, part in enumerate(plain.parts)}, math.exp(begin))
    found: list[QuantisedModel] = []
    for share in ROUNDS:
        latent = tune(latent, steps, max(1, round(goal.steps * share)))
        quantiser = FieldQuantiser(latent)
        made = quantiser.quantised(steps)
        factor, met = _correction(made, judge, goal)
        found += [made] if met else []
        steps = _at(quantiser, steps, math.exp(factor))
    with suppress(InputError):  # of a quality that so few steps do not reach
        found.append(_at_goal(quantiser, judge, steps, goal))
    return found


def _correction(made: QuantisedModel, judge: FieldJudge, goal: Goal) -> tuple[float, bool]:
    """Logarithm of the factor at which steps would meet the goal just so, a little to the safe side; is it met?"""
    if goal.most_bytes is not None:
        over = math.log(len(field_file.encode(made)) / goal.most_bytes) / BYTES_SLOPE
        return over + MARGIN, over <= 0
    spare = (judge.psnr(shown(made)) - wanted_psnr(goal.quality, goal.fitted)) / DECIBELS
    return spare - MARGIN, spare >= 0


def _best(those: list[QuantisedModel], judge: FieldJudge, goal: Goal) -> QuantisedModel:
    """Of those that meet a goal the smallest one, or with a goal of bytes the nearest one."""
    if goal.most_bytes is None:
        return min(those, key=lambda one: len(field_file.encode(one)))
    return max(those, key=lambda one: judge.psnr(shown(one)))


def _for_quality(
    quantiser: FieldQuantiser, judge: FieldJudge, steps: dict[int, float], wanted: float
) -> QuantisedModel:
    """The coarsest steps in these proportions whose pictures have the PSNR `wanted`."""

    def spare(at: float) -> float:
        return judge.psnr(quantiser.shown(_at(quantiser, steps, math.exp(at)))) - wanted

    good = search(spare, TOLERANCE, DECIBELS)
    if good is None:
        raise InputError(f"no steps give {wanted:.1f} dB; ask for less quality")
    return quantiser.quantised(_at(quantiser, steps, math.exp(good)))


def _for_bytes(quantiser: FieldQuantiser, steps: dict[int, float], most: int) -> QuantisedModel:
    """The finest steps in these proportions whose file has at most `most` bytes."""
    sizes: dict[float, int] = {}

    def over(at: float) -> float:
        sizes[at] = len(field_file.encode(quantiser.quantised(_at(quantiser, steps, math.exp(-at)))))
        return math.log(most / sizes[at])

    good = search(over, 0.02, BYTES_SLOPE)
    if good is None:
        raise InputError(f"the field takes {min(sizes.values())} bytes at the coarsest, {most} are allowed; "
                         "convert it to a smaller one first: nf convert --max-bytes")  # fmt: skip
    return quantiser.quantised(_at(quantiser, steps, math.exp(-good)))
