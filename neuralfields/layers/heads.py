"""Decoder heads: the small MLPs on features, shared by architectures, so that one can inherit another's (PVD).

radiance   [h_0, h] = density network(f)      log_density = h_0
           rgb = sigmoid(colour network([h_0, h, harmonics(direction)]))
others     values = value network(f)
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from neuralfields.domain import Domain
from neuralfields.ops.network import network
from neuralfields.ops.spherical_harmonics import spherical_harmonics


class Heads(nn.Module):
    """Bias-free ReLU networks (ops/network.py) from `inputs` features to the outputs of the domain.

    `hidden`: width; `layers`: hidden layers of the density and of the colour network (a signal's one network has both);
    `code`: outputs of the density network; `degree`: of the direction's harmonics.
    """

    def __init__(
        self, inputs: int, hidden: int, layers: tuple[int, int], code: int, degree: int, domain: Domain
    ) -> None:
        super().__init__()
        self.degree = degree
        if domain.radiance:
            self.density = weights([inputs] + [hidden] * layers[0] + [code])
            self.colour = weights([code + degree**2] + [hidden] * layers[1] + [3])
        else:
            self.value = weights([inputs] + [hidden] * sum(layers) + [domain.channels])

    def decode(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes f [S, inputs], unit directions [S, 3] -> log_density [S], rgb [S, 3]."""
        code, rgb = self.code_and_colour(f, directions)
        return code[:, 0], rgb

    def code_and_colour(self, f: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes as `decode`, with the whole code [S, code] in place of its first number."""
        code = self.code(f)
        harmonics = spherical_harmonics(directions, self.degree)
        return code, torch.sigmoid(network(torch.cat([code, harmonics], dim=1), list(self.colour)))

    def code(self, f: Tensor) -> Tensor:
        """Runs the density network alone: f [S, inputs] -> [S, code]."""
        return network(f, list(self.density))

    def log_density(self, f: Tensor) -> Tensor:
        """Runs the density network alone: f [S, inputs] -> log_density [S]."""
        return network(f, list(self.density))[:, 0]

    def values(self, f: Tensor) -> Tensor:
        """Runs the value network: f [S, inputs] -> [S, channels]."""
        return network(f, list(self.value))


def weights(widths: list[int]) -> nn.ParameterList:
    """Uniform weights of variance 2 / fan-in (He et al., arXiv:1502.01852)."""
    return nn.ParameterList(
        nn.Parameter(torch.empty(o, i).uniform_(-1, 1).mul_(math.sqrt(6 / i))) for i, o in pairwise(widths)
    )
