"""Checkpoints of vanilla NeRF (arXiv:2003.08934) as the programs named nerf-pytorch write them: a teacher, read only.

Vocabulary
  x    [S, 3] in our unit cube        w = (x - 0.5) * side + centre: the same point in the NeRF's own units
  e    w (if the weights say so), then sin(2^i w), cos(2^i w) for i = 0, 1, ...: no pi
  h    trunk(e) [S, width], what `features` gives         sigma = alpha(h), per unit of the NeRF's world
  rgb  sigmoid(readout(views(feature(h), e(direction))))

Their density is relu(sigma) per world unit, ours exp(log_density) per inner cube, whose side is `side` world units:
log_density = log(max(sigma * side, EMPTY)). Sizes come from the weights' shapes alone: configs beside them are known
to be wrong. Three layouts are told apart by their names; what shapes cannot say stands in LAYOUTS:

  original  pts_linears.N, alpha_linear, ...   the layout of the paper's code, with a skip
  flexible  layer1, layers_xyz.N, fc_alpha     no ReLU after layer1, one after fc_feat
  paper     layers_xyz.N, fc_alpha             density out of the feature; the last of layers_dir is never used

Scenes in normalised device coordinates (forward-facing LLFF) are refused: their density is per unit of a projective
space whose length depends on the ray, so that no density per unit of the world exists that renders alike.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuralfields.codecs.placement import Placement, box, find_occupied, synthetic_cameras
from neuralfields.codecs.torch_weights import state
from neuralfields.errors import InputError
from neuralfields.fields.field import Field, ParameterGroup
from neuralfields.models.model import Model
from neuralfields.rendering.volume import Volume

SIDE, NEAR = 3.0, 2.0  # the synthetic scenes lie in [-1.5, 1.5]^3 and are seen from 2 to 6
WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
EMPTY = 3e-7  # stands for a density of 0, whose logarithm would be infinite; a ray through it loses nothing
MOST_LAYERS, MOST_WIDTH = 32, 4096
FINE = ("network_fine_state_dict", "model_fine_state_dict")
COARSE = ("network_fn_state_dict", "model_coarse_state_dict", "model_state_dict")
CONFIGS, CONFIG_LIMIT = ("config.yml", "config.yaml", "config.txt", "args.txt"), 1 << 20
Layout = Literal["original", "flexible", "paper"]


@dataclass(frozen=True)
class _Names:
    """A layout's names, and what its shapes cannot say."""

    trunk: tuple[str, ...]
    feature: str
    alpha: str
    views: str
    rgb: str
    both: str
    relu_first: bool = True
    relu_feature: bool = False
    encoding_first: bool = True
    alpha_from_feature: bool = False
    views_used: int = MOST_LAYERS


LAYOUTS: dict[Layout, _Names] = {
    "original": _Names(
        ("pts_linears",), "feature_linear", "alpha_linear", "views_linears", "rgb_linear", "output_linear"
    ),
    "flexible": _Names(
        ("layer1", "layers_xyz"), "fc_feat", "fc_alpha", "layers_dir", "fc_rgb", "fc_out",
        relu_first=False, relu_feature=True, encoding_first=False,
    ),
    "paper": _Names(
        ("layers_xyz",), "fc_feat", "fc_alpha", "layers_dir", "fc_rgb", "fc_out", alpha_from_feature=True, views_used=3
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """What the checkpoint's weights and the place of its scene say; not chosen, but found."""

    layout: Layout
    shapes: dict[str, tuple[int, ...]] = field(repr=False)
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    side: float = SIDE


class Nerf(Field):
    """See the module's equations. Made of a state_dict; not one of the architectures that can be fitted or saved."""

    Config = Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        names, shapes = LAYOUTS[config.layout], config.shapes
        self.names = names
        self.trunk = nn.ModuleList(_linear(shapes, name) for name in _numbered(shapes, names.trunk))
        self.inputs, self.width = self.trunk[0].in_features, self.trunk[-1].out_features
        self.sees_direction = f"{names.rgb}.weight" in shapes
        if self.sees_direction:
            self.feature, self.alpha = _linear(shapes, names.feature), _linear(shapes, names.alpha)
            self.views = nn.ModuleList(_linear(shapes, name) for name in _numbered(shapes, (names.views,)))
            self.views = self.views[: names.views_used]
            self.readout = _linear(shapes, names.rgb)
        else:
            self.both = _linear(shapes, names.both)
        self._check()

    def _check(self) -> None:
        """ValueError where one layer's outputs are not the next one's inputs."""
        width = 0
        for index, layer in enumerate(self.trunk):
            allowed = (self.inputs,) if index == 0 else (width, width + self.inputs)
            _require(layer.in_features in allowed, f"trunk layer {index} takes {layer.in_features} of {allowed}")
            width = layer.out_features
        _require(self.inputs % 6 in (0, 3) and 3 <= self.inputs < 6 * 24, f"an encoding of {self.inputs} values")
        if not self.sees_direction:
            _require(self.both.in_features == width and self.both.out_features in (4, 5), "the output layer's shape")
            return
        _require(self.feature.in_features == width, "the feature layer's shape")
        alpha = self.feature.out_features if self.names.alpha_from_feature else width
        _require((self.alpha.in_features, self.alpha.out_features) == (alpha, 1), "the density layer's shape")
        width, extra = self.feature.out_features, self.views[0].in_features - self.feature.out_features
        _require(extra >= 0 and extra % 6 in (0, 3) and extra < 6 * 24, f"a direction of {extra} values")
        for index, layer in enumerate(self.views):
            _require(layer.in_features == width + (extra if index == 0 else 0), f"colour layer {index}'s shape")
            width = layer.out_features
        _require((self.readout.in_features, self.readout.out_features) == (width, 3), "the colour's shape")

    def features(self, x: Tensor) -> Tensor:
        """The trunk's last hidden layer, [S, width]."""
        centre = x.new_tensor(self.config.centre)
        e = octaves((x - 0.5) * self.config.side + centre, self.inputs)
        h = self.trunk[0](e)
        h = torch.relu(h) if self.names.relu_first else h
        for layer in self.trunk[1:]:
            if layer.in_features > h.shape[1]:
                h = torch.cat((e, h) if self.names.encoding_first else (h, e), dim=1)
            h = torch.relu(layer(h))
        return h

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Density from the trunk, colour from it and the direction where the NeRF sees directions."""
        if not self.sees_direction:
            out = self.both(f)
            return self._log(out[:, 3]), torch.sigmoid(out[:, :3])
        feature = self.feature(f)
        sigma = self.alpha(feature if self.names.alpha_from_feature else f)[:, 0]
        h = torch.relu(feature) if self.names.relu_feature else feature
        seen = self.views[0].in_features - h.shape[1]
        h = torch.cat([h, octaves(directions, seen)], dim=1) if seen else h
        for layer in self.views:
            h = torch.relu(layer(h))
        return self._log(sigma), torch.sigmoid(self.readout(h))

    def log_density(self, f: Tensor) -> Tensor:
        """The density alone."""
        if not self.sees_direction:
            return self._log(self.both(f)[:, 3])
        return self._log(self.alpha(self.feature(f) if self.names.alpha_from_feature else f)[:, 0])

    def _log(self, sigma: Tensor) -> Tensor:
        return torch.log((sigma * self.config.side).clamp(min=EMPTY))

    def groups(self) -> list[ParameterGroup]:
        """All weights alike, with the paper's learning rate."""
        return [ParameterGroup("network", tuple(self.parameters()), 5e-4)]


def octaves(w: Tensor, size: int) -> Tensor:
    """w [S, 3] -> [S, size]: w itself where the size leaves room for it, then a sine and a cosine per octave."""
    parts = [w] if size % 6 else []
    for octave in range(size // 6):
        parts += [torch.sin(w * 2.0**octave), torch.cos(w * 2.0**octave)]
    return torch.cat(parts, dim=1)


def layout_of(checkpoint: dict[str, Any]) -> Layout | None:
    """Which layout a checkpoint's weights have, or None where they are no vanilla NeRF's."""
    found = _weights_entry(checkpoint)
    keys = set(checkpoint[found]) if found else set()
    if "pts_linears.0.weight" in keys:
        return "original"
    if "layers_xyz.0.weight" in keys and keys & {"fc_alpha.weight", "fc_out.weight"}:
        return "flexible" if "layer1.weight" in keys else "paper"
    return None


def describe(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What the checkpoint is, as plain data."""
    entry = _weights_entry(checkpoint)
    weights = state(path, checkpoint[entry], entry)
    sizes = [list(value.shape) for key, value in weights.items() if key.endswith("weight")]
    return {"layout": layout_of(checkpoint), "steps": _steps(checkpoint), "layers": sizes}


def read(path: Path, checkpoint: dict[str, Any], place: Placement) -> Model:
    """The fine network (the only one where there is but one) as a Model with synthetic cameras.

    Raises InputError for scenes in normalised device coordinates and for weights that do not fit together.
    """
    settings = _settings(path)
    forward = settings.get("type", settings.get("dataset_type")) == "llff"
    if forward and settings.get("no_ndc", "false") != "true":
        raise InputError(
            f"{path}: its config says that the scene is forward-facing (llff, no_ndc false): such a NeRF lives in "
            "normalised device coordinates, where density has no fixed unit; only scenes in world units can be read"
        )
    entry, layout = _weights_entry(checkpoint), layout_of(checkpoint)
    weights = state(path, checkpoint[entry], entry)
    bounds = box(place, SIDE, 0.0 if forward else NEAR)
    config = Config(layout, {key: tuple(value.shape) for key, value in weights.items()}, bounds.centre, bounds.side)
    try:
        module = Nerf(config)
        module.load_state_dict(_renamed(module, weights))
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"{path}: {entry}: its layers do not make a NeRF of the {layout} layout: {reason}") from None
    module.eval().requires_grad_(False)
    blank = torch.zeros(1, 0, dtype=torch.int64)
    made = {"source": "nerf-pytorch", "file": path.name, "steps": _steps(checkpoint), "cameras": "synthetic"}
    return Model(
        module,
        bounds,
        find_occupied(Volume(module, bounds, blank)),
        synthetic_cameras(),
        background=place.background or (BLACK if forward else WHITE),
        made={name: value for name, value in made.items() if value is not None},
        lineage=[f"nerf-pytorch {layout} ({path.name})"],
    )


def _weights_entry(checkpoint: dict[str, Any]) -> str | None:
    """The entry that renders: the fine network's, or else the only one's."""
    for name in (*FINE, *COARSE):
        if isinstance(checkpoint.get(name), dict) and checkpoint[name]:
            return name
    return None


def _steps(checkpoint: dict[str, Any]) -> int | None:
    steps = checkpoint.get("iter", checkpoint.get("global_step"))
    return steps if isinstance(steps, int) else None


def _settings(path: Path) -> dict[str, str]:
    """Words `name: value` or `name = value` of the configs beside a checkpoint, for what weights cannot say."""
    found: dict[str, str] = {}
    for name in CONFIGS:
        beside = path.with_name(name)
        if beside.is_file() and beside.stat().st_size <= CONFIG_LIMIT:
            text = beside.read_text(encoding="utf-8", errors="replace").lower()
            for key, value in re.findall(r"^[ \t]*(type|dataset_type|no_ndc)[ \t]*[:=][ \t]*(\w+)", text, re.MULTILINE):
                found.setdefault(key, value)
    return found


def _numbered(shapes: dict[str, tuple[int, ...]], groups: tuple[str, ...]) -> list[str]:
    """Names of a group's layers in order: the group itself, or group.0, group.1, ..."""
    names = []
    for group in groups:
        if f"{group}.weight" in shapes:
            names.append(group)
        names += [f"{group}.{i}" for i in range(MOST_LAYERS) if f"{group}.{i}.weight" in shapes]
    if not names:
        raise ValueError(f"no layer {groups[0]}")
    return names


def _linear(shapes: dict[str, tuple[int, ...]], name: str) -> nn.Linear:
    shape, bias = shapes[f"{name}.weight"], shapes[f"{name}.bias"]
    _require(len(shape) == 2 and bias == (shape[0],), f"{name} has shapes {shape} and {bias}")
    _require(max(shape) <= MOST_WIDTH and min(shape) > 0, f"{name} has {shape}, at most {MOST_WIDTH} are read")
    layer = nn.utils.skip_init(nn.Linear, shape[1], shape[0])
    layer.source = name
    return layer


def _renamed(module: Nerf, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's tensors under the module's names."""
    found = {}
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            found |= {f"{name}.{part}": weights[f"{layer.source}.{part}"] for part in ("weight", "bias")}
    return found


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
