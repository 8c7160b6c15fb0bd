"""Coordinate-aware modulation, CAM (arXiv:2311.14993): a coordinate network with scale and shift from small grids.

  h <- act(gamma(c) * normalise(W h + b) + beta(c))      after every hidden linear layer; c: some of the coordinates
  normalise   zero mean, unit variance over the features of a sample
  gamma = exp(sum over the grids g of a_g(c))            beta = b_0(c) * product over the others of (1 + b_g(c))
  All grids are 0 at first, so that gamma is 1 and beta is 0, exactly.

The paper's gamma, the product of 1 + a_g (`scale="linear"`), may pass through 0: it erases the layer there, and a spot
of the image never recovers its detail. An image of text, three seeds: 32.2 dB with it, 33.3 with the exponential; on
scenes the difference is within that of seeds.

  image              one grid over u, v; one number a layer
  shape, radiance    `planes`: three grids over pairs of axes, one number a layer
                     `direction`: one grid over azimuth and elevation, for the colour network's hidden layers
  video              one grid over time, one number a feature        sound: over time, one number a layer
  scenes in time     a warp W (layers/space_time.py) takes a point and its time to a canonical space, whose network
                     has one grid over time, one number a layer

Everything else is the coordinate network of mlp.py. Grids learn at 10 times the network's rate, as in the paper. The
widths are for two CPU cores: the paper's radiance fields have 8 layers of 256 and no planes, or planes of 512 nodes.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import ParameterGroup
from neuralfields.fields.mlp import DEGREE, Mlp
from neuralfields.layers.encodings import Encoding, require_frequencies
from neuralfields.layers.space_time import Warp
from neuralfields.layers.trunk import Modulate, Shape
from neuralfields.layers.whole import Whole, whole
from neuralfields.ops.grid import grid_interpolate
from neuralfields.ops.network import modulate, network
from neuralfields.ops.spherical_harmonics import spherical_harmonics
from neuralfields.settings import require_range

MOST_EXPONENT = 10.0  # of gamma: nothing else holds it where the next layer is normalised, and it overflowed in the end
GRID_RATE = 10.0  # of the network's learning rate
Scale = Literal["exponential", "linear"]
SPAN = {2: ((0, 1),), 3: ((0, 1), (0, 2), (1, 2))}  # the grids' axes by the number of spatial coordinates


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of the cam field."""

    encoding: Encoding = "gaussian"
    """positional encoding: octaves, gaussian, siren or finer"""
    frequencies: float | None = None
    """octaves: number; gaussian: deviation in cycles; siren: omega; finer: range of biases; none: chosen by FreSh"""
    count: int = 64
    """number of random frequencies of gaussian; a sine and a cosine of each"""
    layers: int = 3
    """number of hidden layers"""
    width: int = 64
    """width of the hidden layers"""
    hidden: int | None = None
    """width of a scene's two decoder heads; none: 64 for a student of a distillation, 32 from photos"""
    modulation: bool = True
    """whether modulation grids are used"""
    scale: Scale = "exponential"
    """scale from the grids: exp of their sum, or the paper's product of 1 + a"""
    normalise: bool = True
    """whether hidden layers are normalised"""
    coordinates: Literal["planes", "direction", "both"] = "planes"
    """coordinates of a scene's grids: planes of its points, viewing direction, or both"""
    nodes: int = 64
    """nodes along an axis of a grid over space or time"""
    motion: Literal["warp", "direct"] = "warp"
    """a scene in time: by a warp before a canonical network, or with time as one more of its inputs"""
    moments: int = 5
    """nodes of a scene's grid over time"""
    azimuths: int = 10
    """nodes around the vertical axis of a grid over directions"""
    elevations: int = 3
    """nodes from pole to pole of a grid over directions"""
    learning_rate: float = 2e-3
    """learning rate of the networks; ten times that for the grids"""
    warp_learning_rate: float = 1e-3
    """learning rate of the warp"""

    def __post_init__(self) -> None:
        require_frequencies(self.encoding, self.frequencies)
        require_range(
            self, count=(1, 4096), layers=(1, 16), width=(1, 2048), hidden=(1, 512), nodes=(2, 2048),
            azimuths=(2, 1024), elevations=(2, 1024), moments=(2, 1024), learning_rate=(1e-7, 0.1),
            warp_learning_rate=(1e-7, 0.1),
        )  # fmt: skip
        if self.normalise and self.encoding in ("siren", "finer"):
            raise ValueError(f"normalise true: {self.encoding} sets the scale of its layers itself, give false")
        if self.motion not in ("warp", "direct"):
            raise ValueError(f"motion {self.motion!r}: must be warp or direct")
        if self.scale not in ("exponential", "linear"):
            raise ValueError(f"scale {self.scale!r}: must be exponential or linear")
        if self.coordinates not in ("planes", "direction", "both"):
            raise ValueError(f"coordinates {self.coordinates!r}: must be planes, direction or both")

    @property
    def shape(self) -> Shape:
        """The trunk's shape."""
        return Shape(self.layers, self.width)


class Modulation(nn.Module):
    """Scales and shifts of some layers as functions of coordinates: a product of grids over some axes each.

    `axes`: the coordinates of each grid; `nodes`: along each of a grid's axes; `widths`: numbers of each layer, 1 for
    one that all its features share. `scale`: see Config. `around`: the first axis of the grids is a circle.
    """

    def __init__(
        self, axes: tuple[tuple[int, ...], ...], nodes: tuple[int, ...], widths: tuple[int, ...], scale: Scale,
        around: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.axes, self.widths, self.scale, self.around = axes, widths, scale, around
        self.grids = nn.ParameterList(nn.Parameter(torch.zeros(*nodes[: len(a)], 2 * sum(widths))) for a in axes)

    def forward(self, c: Tensor) -> list[tuple[Tensor, Tensor]]:
        """c [S, coordinates] in [0, 1] -> gamma and beta of each layer, [S, its width]."""
        gamma, beta = self.together(c)
        return list(zip(gamma.split(self.widths, 1), beta.split(self.widths, 1), strict=True))

    def together(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """c [S, coordinates] in [0, 1] -> gamma and beta of all layers side by side, [S, sum of widths]."""
        gamma = beta = None
        exponential = self.scale == "exponential"
        for axes, grid in zip(self.axes, self.grids, strict=True):
            closed = torch.cat([grid, grid[:1]]) if self.around else grid
            step = axes[-1] - axes[0] or 1  # a slice: an index of two columns takes as long as the rest
            a, b = grid_interpolate(c[:, axes[0] : axes[-1] + 1 : step], closed).chunk(2, dim=1)
            gamma = (a if exponential else 1 + a) if gamma is None else gamma + a if exponential else gamma * (1 + a)
            beta = b if beta is None else beta * (1 + b)
        return gamma.clamp(-MOST_EXPONENT, MOST_EXPONENT).exp() if exponential else gamma, beta


def hook(pairs: list[tuple[Tensor, Tensor]] | None, normalise: bool) -> Modulate | None:
    """Makes trunk.py's hook after each hidden linear layer: normalise, scale, shift; None for the identity."""
    if pairs is None and not normalise:
        return None

    def apply(layer: int, h: Tensor, relu: bool) -> Tensor:
        gamma, beta = (h.new_ones(len(h), 1), h.new_zeros(len(h), 1)) if pairs is None else pairs[layer]
        return modulate(h.to(gamma.dtype), gamma, beta, normalise, relu)

    return apply


def angles(directions: Tensor) -> Tensor:
    """Unit directions [S, 3] -> azimuth (once around) and elevation (pole to pole), [S, 2] in [0, 1]."""
    x, y, z = directions.unbind(1)
    azimuth = torch.atan2(y, x) / (2 * math.pi) + 0.5
    return torch.stack([azimuth, torch.atan2(z, torch.hypot(x, y)) / math.pi + 0.5], dim=1)


class Cam(Mlp):
    """A coordinate network (mlp.py) whose hidden layers are normalised and modulated: see the module's equations."""

    Config = Config
    FINER: ClassVar[dict[int, dict[str, Any]]] = {180: {"nodes": 96, "width": 96}, 360: {"nodes": 104, "width": 128}}
    FORMER: ClassVar[dict[str, Any]] = {"scale": "linear"}
    WIDE = math.inf  # normalised layers learn at any width alike (a photo at width 316: 23.6 dB, at half the rate 23.4)

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        warps = domain.dimensions == 4 and config.motion == "warp"
        super().__init__(config, RADIANCE if warps else domain)
        config, self.domain = self.config, domain
        self.warp = Warp() if warps else None
        if config.normalise:  # behind a normalisation weights have no scale; Adam turns small ones faster
            for linear in self.trunk.body.linears:
                linear.reset_parameters()
        self.by_point = _of_points(config, domain) if config.modulation else None
        self.by_direction = None
        if config.modulation and domain.radiance and config.coordinates != "planes":
            nodes, hidden = (config.azimuths, config.elevations), len(self.heads.colour) - 1
            self.by_direction = Modulation(((0, 1),), nodes, (1,) * hidden, config.scale, around=True)

    def whole(self) -> Whole | None:
        """The network as the native op takes it, where all features of a layer are modulated alike."""
        takes = self.domain.radiance and (self.by_point is None or max(self.by_point.widths) == 1)
        return whole(self, self.config.normalise) if takes else None

    def whole_heads(self) -> Whole | None:
        """The same where directions modulate nothing."""
        return self.whole() if self.config.coordinates == "planes" else None

    def canonical(self, x: Tensor) -> Tensor:
        """Places in the space of the network: by the warp where there is one."""
        return x if self.warp is None else self.warp(x)

    def modulation(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Scales and shifts [S, layers] of hidden layers at x, or None."""
        return None if self.by_point is None else self.by_point.together(x)

    def tile(self, x: Tensor) -> Tensor:
        """Features of one tile of points."""
        modulated = hook(self.by_point and self.by_point(x), self.config.normalise)
        h = self.trunk(self.encoding(self.canonical(x)), modulated)
        return self.readout(h) if self.domain.radiance else h

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Runs the shared heads; with `direction` the colour network's hidden layers are modulated as the trunk's."""
        if self.config.coordinates == "planes":
            return super().decode(f, directions)
        code = network(f, list(self.heads.density))
        h = torch.cat([code, spherical_harmonics(directions, DEGREE)], dim=1)
        modulated = hook(self.by_direction and self.by_direction(angles(directions)), self.config.normalise)
        *hidden, last = self.heads.colour
        for layer, weight in enumerate(hidden):
            h = h @ weight.T
            h = torch.relu(h) if modulated is None else modulated(layer, h, True)
        return code[:, 0], torch.sigmoid(h @ last.T)

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: the grids, at ten times the learning rate of everything else."""
        grids = [p for part in (self.by_point, self.by_direction) if part is not None for p in part.parameters()]
        (every,) = super().groups()
        warp = [] if self.warp is None else list(self.warp.parameters())
        others = set(every.parameters).difference(grids, warp)
        network = replace(every, parameters=tuple(p for p in every.parameters if p in others))
        grid = replace(every, role="grid", parameters=tuple(grids), learning_rate=GRID_RATE * every.learning_rate)
        groups = [grid, network] if grids else [network]
        if warp:
            rate = self.config.warp_learning_rate
            groups.append(replace(every, parameters=tuple(warp), learning_rate=rate))
        return groups


def _of_points(config: Config, domain: Domain) -> Modulation | None:
    """The modulation of the trunk, or None if the direction alone modulates."""
    widths, time = config.shape.modulated, domain.dimensions - 1
    if domain.dimensions == 4:
        return Modulation(((time,),), (config.moments,), (1,) * len(widths), config.scale)
    if domain.kind == "video":
        return Modulation(((time,),), (config.nodes,), widths, config.scale)
    if domain.radiance and config.coordinates == "direction":
        return None
    axes = ((0,),) if domain.kind == "sound" else SPAN[domain.dimensions]
    return Modulation(axes, (config.nodes,) * 2, (1,) * len(widths), config.scale)


FIELD = Cam
