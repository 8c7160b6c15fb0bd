"""Positional encodings of coordinate networks, with the activations and the initialisation that belong to them.

Vocabulary
  D  coordinates     M  random frequencies     x  [S, D] in [0, 1];  u = 2 x - 1
  cycles  across the whole of an axis, from 0 to 1

  octaves    [u, sin(2 pi 2^k x), cos(2 pi 2^k x)], k = 0 ... L - 1     L: their number (NeRF, arXiv:2003.08934)
  gaussian   [sin(2 pi x B), cos(2 pi x B)], B [D, M] ~ N(0, sigma^2)   sigma: in cycles (arXiv:2006.10739)
  siren      u, then sin(omega (W u + b)), and sin(30 (W h + b)) in the later layers   omega (arXiv:2006.09661)
  finer      u, then sin(30 (|z| + 1) z), z = W u + b, b ~ U(-k, k)     k: range of the first biases (arXiv:2312.02434)

The number on the right, `frequencies`, is the one hyper-parameter that sets the frequencies of the untrained network.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Encoding = Literal["octaves", "gaussian", "siren", "finer"]
# Ranges of `frequencies` of each encoding, and its value if there is no target to choose it by.
RANGES = {"octaves": (1, 24), "gaussian": (0.0, 1e6), "siren": (1e-3, 1e6), "finer": (0.0, 1e4)}
USUAL = {"octaves": 8.0, "gaussian": 10.0, "siren": 30.0, "finer": 1.0}
HIDDEN_OMEGA = 30.0


def require_frequencies(encoding: str, frequencies: float | None) -> None:
    """Validates `encoding` and, if set, its `frequencies`; raises ValueError."""
    if encoding not in RANGES:
        raise ValueError(f"encoding {encoding!r}: must be one of {', '.join(RANGES)}")
    low, high = RANGES[encoding]
    if frequencies is not None and not low <= frequencies <= high:
        raise ValueError(f"frequencies {frequencies}: {encoding} needs one between {low:g} and {high:g}, or none")
    if frequencies is not None and encoding == "octaves" and frequencies != int(frequencies):
        raise ValueError(f"frequencies {frequencies}: octaves needs a whole number of them")


class Fourier(nn.Module):
    """Fourier features: sines and cosines of x times frequencies [D, M] in cycles, after u itself if `direct`.

    The matrix is a buffer, so that a file carries the random frequencies.
    """

    def __init__(self, matrix: Tensor, direct: bool) -> None:
        super().__init__()
        self.direct = direct
        self.outputs = 2 * matrix.shape[1] + (matrix.shape[0] if direct else 0)
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Encodes x [S, D] -> [S, outputs]."""
        angles = x @ (2 * math.pi * self.matrix)
        waves = [torch.sin(angles), torch.cos(angles)]
        return torch.cat([2 * x - 1, *waves] if self.direct else waves, dim=1)


class Direct(nn.Module):
    """The identity encoding u, for networks whose first layer of sines is the encoding."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.outputs = dimensions

    def forward(self, x: Tensor) -> Tensor:
        """Rescales x [S, D] to u [S, D]."""
        return 2 * x - 1


def encoding(kind: Encoding, dimensions: int, count: int, frequencies: float) -> Fourier | Direct:
    """Makes the encoding of `dimensions` coordinates; `count`: number of random frequencies of `gaussian`."""
    if kind == "octaves":
        octaves = torch.tensor([2.0**octave for octave in range(int(frequencies))])
        matrix = torch.zeros(dimensions, dimensions, len(octaves))
        for axis in range(dimensions):
            matrix[axis, axis] = octaves
        return Fourier(matrix.flatten(1), direct=True)
    if kind == "gaussian":
        return Fourier(torch.randn(dimensions, count).mul_(frequencies), direct=False)
    return Direct(dimensions)


@dataclass(frozen=True)
class Activation:
    """An activation and its initialisation: `omegas` of the first and of later layers, 0 for ReLU.

    `chirp`: FINER's, whose frequency grows with |z|; `reach`: range of its first biases.
    """

    omegas: tuple[float, float] = (0.0, 0.0)
    chirp: bool = False
    reach: float = 0.0

    def rectified(self, layer: int) -> bool:
        """Whether hidden layer number `layer` ends with a ReLU."""
        return self.omegas[layer > 0] == 0

    def __call__(self, layer: int, z: Tensor) -> Tensor:
        """z [S, width] of hidden layer number `layer` -> [S, width]."""
        omega = self.omegas[layer > 0]
        if self.rectified(layer):
            return torch.relu(z)
        return torch.sin(omega * (torch.abs(z) + 1) * z) if self.chirp else torch.sin(omega * z)

    @torch.no_grad()
    def initialise(self, layer: int, linear: nn.Linear) -> None:
        """Initialises the weights of hidden layer number `layer`.

        ReLU: variance 2 / fan-in (He et al., arXiv:1502.01852), no bias. Sines: U(-1/D, 1/D) before the first and
        U(-a, a), a = sqrt(6 / fan-in) / omega, before the later ones, which keeps their distribution through depth.
        """
        inputs, omega = linear.in_features, self.omegas[layer > 0]
        bound = math.sqrt(6 / inputs) / (omega or 1.0) if layer or not omega else 1 / inputs
        linear.weight.uniform_(-bound, bound)
        bias = 0.0 if not omega else self.reach if self.chirp and layer == 0 else 1 / math.sqrt(inputs)
        linear.bias.uniform_(-bias, bias)


def activation(kind: Encoding, frequencies: float) -> Activation:
    """The activation that belongs to an encoding."""
    if kind == "siren":
        return Activation((frequencies, HIDDEN_OMEGA))
    if kind == "finer":
        return Activation((HIDDEN_OMEGA, HIDDEN_OMEGA), chirp=True, reach=frequencies)
    return Activation()
