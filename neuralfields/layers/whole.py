"""A coordinate network of a scene as one native op on a CPU (ops/coordinate.py), from points to features to colours.

It takes plain layers of ReLU on Fourier features; others, signals and CUDA run layer by layer (layers/trunk.py). Both
compute the same, to rounding. Products are in bfloat16 where the CPU has them, unless the Config says no.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from neuralfields.layers.encodings import Direct, Fourier
from neuralfields.layers.heads import Heads
from neuralfields.layers.trunk import Trunk
from neuralfields.ops.coordinate import (
    MOST_CYCLES,
    MOST_LAYERS,
    MOST_WIDTH,
    Layers,
    coordinate_network,
    log_density_head,
    radiance_heads,
)

MOST_FREQUENCIES = {"octaves": 19.0, "gaussian": MOST_CYCLES / 8}  # of the Config, so that all lie below MOST_CYCLES


class Settings(Protocol):
    """What of a field's Config decides whether it has the op."""

    encoding: str
    frequencies: float | None
    layers: int
    width: int


class Network(Protocol):
    """A coordinate network's parts."""

    config: Settings
    encoding: Fourier | Direct
    trunk: Trunk
    readout: nn.Linear


@dataclass(frozen=True)
class Whole:
    """A network's layers, and whether its products are of bfloat16 where there are some."""

    layers: Layers
    bfloat16: bool

    def features(self, x: Tensor, modulation: tuple[Tensor, Tensor] | None, known: Tensor | None = None) -> Tensor:
        """Features of x [S, D] -> [S, F]; see coordinate_network."""
        return coordinate_network(x, self.layers, modulation, self.bfloat16, known)

    def decode(self, heads: Heads, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes f [S, F], unit directions [S, 3] -> log_density [S], rgb [S, 3]."""
        return radiance_heads(f, directions, list(heads.density), list(heads.colour), heads.degree, self.bfloat16)

    def log_density(self, heads: Heads, f: Tensor) -> Tensor:
        """The log-density of f [S, F] -> [S], without a gradient."""
        return log_density_head(f, list(heads.density), self.bfloat16)


def whole(network: Network, normalise: bool = False) -> Whole | None:
    """The layers of a network as the op takes them; None where it does not."""
    config, body = network.config, network.trunk.body
    takes = config.encoding in MOST_FREQUENCIES and config.frequencies <= MOST_FREQUENCIES[config.encoding]
    if not takes or network.trunk.shape.inner or config.layers > MOST_LAYERS or config.width > MOST_WIDTH:
        return None
    linears = [*body.linears, network.readout]
    weights, biases = [layer.weight for layer in linears], [layer.bias for layer in linears]
    layers = Layers(network.encoding.matrix, network.encoding.direct, weights, biases, body.skip, normalise)
    return Whole(layers, getattr(config, "bfloat16", None) is not False)
