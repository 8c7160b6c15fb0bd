"""tiny-cuda-nn computes hash encodings and small networks from our parameters (`--backend tcnn`, on a CUDA GPU).

  hash_encode   its HashGrid has our geometry: the same scales, sizes, primes and order of levels, x fastest
  network       its FullyFusedMLP: rows of weights, inputs and outputs padded to 16; padded inputs are ones, so their
                weights here are zeros

Its modules are made once for each shape and called with our tensors in place of their own parameters, so that gradients
reach ours. Half precision throughout, with its own loss scaling, unless NEURALFIELDS_PRECISION is float.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from neuralfields.errors import UsageError
from neuralfields.gpu.network import precision

WIDTHS = (16, 32, 64, 128)
ALIGNMENT = 16


def takes_encoding(x: Tensor, table: Tensor) -> bool:
    """Whether its hash grid supports the input: three coordinates, float32."""
    return x.shape[1] == 3 and table.dtype == torch.float32


def takes_network(weights: list[Tensor]) -> bool:
    """Whether its fused MLP supports the weights: hidden layers of one of its widths; float32 in half precision."""
    hidden = {w.shape[0] for w in weights[:-1]}
    half = precision() == "half" and weights[0].dtype == torch.float32
    return half and len(hidden) == 1 and hidden <= set(WIDTHS)


def hash_encode(x: Tensor, table: Tensor, scales: Tensor, levels: Tensor) -> Tensor:
    """As `hash_encode` of ops/hash_grid.py. Raises UsageError if its grid has other sizes than ours."""
    module = _encoding(tuple(scales.tolist()), tuple(map(tuple, levels.tolist())), table.shape[1], precision())
    return _call(module, table.reshape(-1), x.clamp(0, 1))


def network(x: Tensor, weights: list[Tensor]) -> Tensor:
    """As `network` of ops/network.py, for weights that `takes_network` accepts."""
    widths = (weights[0].shape[1], *(w.shape[0] for w in weights))
    return _call(_network(widths), torch.cat([p.reshape(-1) for p in _padded(weights)]), x)


def _padded(weights: list[Tensor]) -> Iterator[Tensor]:
    """Pads weights with zeros to the columns and rows that it needs."""
    for weight in weights:
        rows, columns = ((-side) % ALIGNMENT for side in weight.shape)
        yield pad(weight, (0, columns, 0, rows))


def _call(module: nn.Module, parameters: Tensor, x: Tensor) -> Tensor:
    """Calls a module, output in our precision; gradients go to `parameters` and x."""
    return torch.func.functional_call(module, {"params": parameters}, (x,)).to(x.dtype)


@lru_cache(maxsize=64)
def _encoding(scales: tuple, levels: tuple, features: int, arithmetic: str) -> nn.Module:
    points = [scale + 1 for scale in scales]
    growth = (points[-1] / points[0]) ** (1 / max(len(points) - 1, 1))
    config = {
        "otype": "HashGrid",
        "n_levels": len(levels),
        "n_features_per_level": features,
        "log2_hashmap_size": (max(size for _, size, _, _ in levels) - 1).bit_length(),
        "base_resolution": round(points[0]),
        "per_level_scale": growth,
    }
    dtype = torch.half if arithmetic == "half" else torch.float32
    return _emptied(_package().Encoding(3, config, dtype=dtype), sum(size for _, size, _, _ in levels) * features)


@lru_cache(maxsize=64)
def _network(widths: tuple[int, ...]) -> nn.Module:
    config = {
        "otype": "FullyFusedMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": widths[1],
        "n_hidden_layers": len(widths) - 2,
    }
    wide = [side + (-side) % ALIGNMENT for side in widths]
    count = sum(a * b for a, b in pairwise(wide))
    return _emptied(_package().Network(widths[0], widths[-1], config), count)


def _emptied(module: nn.Module, count: int) -> nn.Module:
    """The module without parameters of its own, which are never used; they must be as many as ours."""
    own = module.params.numel()
    if own != count:
        raise UsageError(f"--backend tcnn: its module has {own} parameters where ours has {count}; leave it out")
    module.params = nn.Parameter(torch.empty(0, device=module.params.device))
    return module


def _package() -> Any:
    import tinycudann

    return tinycudann
