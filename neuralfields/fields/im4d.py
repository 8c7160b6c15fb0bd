"""Im4D (arXiv:2310.08585): density from planes over space-time, colour from the photos that see a point then.

  f = planes(x, t), see kplanes.py      [h_0, h] = density network(f)      log_density = h_0
  of the V photos of that instant that see x under the smallest angles to the ray:
    g_v = relu(convolution of the photo about the point, and of the photo four times smaller)
    l_v = view network([g_v, rgb_v, angle to the photo's ray, h_0, h])
  rgb = softmax over v of l_v, times rgb_v; the field's own colour, colour network([h_0, h, harmonics]), is one more

The photos are kept in the model as a film. The convolution is evaluated where a sample asks, not over whole photos: on
a processor that is a hundredth of the work. What the paper calls its training trick: after `joint` steps gradients
reach the convolution at every `seldom`-th step alone.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from neuralfields.cameras import Camera
from neuralfields.domain import RADIANCE, Domain
from neuralfields.fields.field import ParameterGroup
from neuralfields.fields.kplanes import Config as PlanesConfig
from neuralfields.fields.kplanes import KPlanesField
from neuralfields.layers.heads import weights
from neuralfields.layers.source_photos import Seen, Shape, SourcePhotos
from neuralfields.ops.contract import Contraction, uncontract
from neuralfields.ops.network import network
from neuralfields.scene import Bounds
from neuralfields.settings import require_range


@dataclass(frozen=True)
class Config(PlanesConfig):
    """Hyper-parameters of the Im4D field: those of its planes, and of what blends the photos."""

    views: int = 3
    """photos that a point's colour is blended from; 0: its own colour alone, as K-Planes"""
    channels: int = 8
    """features of the convolution at each of two scales"""
    width: int = 32
    """width of the view network"""
    joint: int = 2000
    """steps after which gradients reach the convolution seldom"""
    seldom: int = 20
    """steps between two of which gradients reach the convolution then"""
    view_learning_rate: float = 3e-3
    """learning rate of the convolution and the view network"""
    sources: tuple[int, ...] = ()
    """sizes of the photos in the model (see layers/source_photos.py); set by the fit"""
    contraction: Literal["box", "cube"] = "box"
    """the scene's contraction; set by the fit"""
    extent: float = 1.0
    """the contraction's extent; set by the fit"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(
            self, views=(0, 8), channels=(1, 64), width=(1, 256), joint=(0, 1 << 31), seldom=(1, 1 << 31),
            view_learning_rate=(1e-7, 1.0), extent=(1.0, 1 << 16),
        )  # fmt: skip
        if self.sources:
            if len(self.sources) != 7:
                raise ValueError(f"sources {self.sources}: must be none or seven sizes")
            Shape(*self.sources)


class Im4DField(KPlanesField):
    """The Im4D field: see the module's equations. Without photos it is K-Planes."""

    Config = Config
    DOMAINS = ("radiance",)
    PHOTOS = True

    def __init__(self, config: Config, domain: Domain = RADIANCE) -> None:
        super().__init__(config, domain)
        self.photos = None
        if config.sources:
            self._take(SourcePhotos(Shape(*config.sources)))

    def _take(self, photos: SourcePhotos) -> None:
        """Keeps photos, with new networks that blend them."""
        c = self.config
        self.photos = photos
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.convolutions = nn.ParameterList(weights([36, c.channels])[0] for _ in range(2))
        self.blend = weights([2 * c.channels + 3 + 4 + c.code + 1, c.width, 1])
        self.own = weights([c.code, 1])

    @classmethod
    def placed(cls, config: Config, bounds: Bounds) -> Config:
        """The contraction, by which points are found in the photos."""
        return replace(config, contraction=bounds.contraction, extent=float(2 ** (bounds.cascades - 1)))

    def looking_at(
        self, images: Sequence[np.ndarray], cameras: Sequence[Camera], bounds: Bounds, seed: int = 0
    ) -> None:
        """Keeps photos, uint8 [H, W, 3 or 4] of pinhole cameras, as a film to read colours from."""
        if self.config.views:
            photos = SourcePhotos.of(images, cameras, bounds)
            self.config = replace(self.config, sources=astuple(photos.shape))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self._take(photos)
            self.to(self.planes[0].device)

    def features(self, x: Float[Tensor, "S D"]) -> Float[Tensor, "S F"]:
        """The planes' features, then the coordinates themselves, [S, features + D]."""
        return torch.cat([super().features(x), x], dim=1)

    def log_density(self, f: Float[Tensor, "S F"]) -> Float[Tensor, " S"]:
        """Runs the density network alone."""
        return self.heads.log_density(f[:, : self.config.features])

    def decode(
        self, f: Float[Tensor, "S F"], directions: Float[Tensor, "S 3"]
    ) -> tuple[Float[Tensor, " S"], Float[Tensor, "S 3"]]:
        """Density from the planes; colour blended from the photos and the field's own."""
        f, x = f[:, : self.config.features].contiguous(), f[:, self.config.features :]
        code, own = self.heads.code_and_colour(f, directions)
        if self.photos is None or len(x) == 0:
            return code[:, 0], own
        with torch.no_grad():
            inner = uncontract(x[:, :3], Contraction(self.config.contraction, self.config.extent))
            moments = x[:, 3] if x.shape[1] == 4 else torch.zeros_like(x[:, 0])
        seen = self.photos(inner, moments, directions, self.config.views)
        logits = torch.cat([self._logits(seen, code), network(code, list(self.own))], dim=1)
        shares = torch.softmax(logits, dim=1)
        rgb = (shares[:, :-1, None] * seen.rgb).sum(1) + shares[:, -1:] * own
        return code[:, 0], rgb

    def _logits(self, seen: Seen, code: Float[Tensor, "S code"]) -> Float[Tensor, "S V"]:
        """How much each photo's colour counts at each sample, -inf where it does not see it."""
        count, views = seen.valid.shape
        taps = seen.taps.flatten(0, 1).chunk(2, dim=1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._learns()):
            found = [torch.relu(network(part, [kernel])) for part, kernel in zip(taps, self.convolutions, strict=True)]
        shared = code[:, None].expand(-1, views, -1).flatten(0, 1)
        beside = seen.rgb.flatten(0, 1), seen.turned.flatten(0, 1), torch.ones_like(shared[:, :1])
        logits = network(torch.cat([*found, *beside, shared], dim=1), list(self.blend)).view(count, views)
        return torch.where(seen.valid, logits, -torch.inf)

    def _learns(self) -> bool:
        """Whether gradients reach the convolution in this call, by the number of calls with gradients so far."""
        self.count += 1
        count = int(self.count)
        return count <= self.config.joint or count % self.config.seldom == 0

    def groups(self) -> list[ParameterGroup]:
        """Parameter groups: planes, networks, and what blends the photos at its own learning rate."""
        if self.photos is None:
            return super().groups()
        mine = (*self.convolutions, *self.blend, *self.own)
        return [*super().groups(), ParameterGroup("network", mine, self.config.view_learning_rate)]


FIELD = Im4DField
