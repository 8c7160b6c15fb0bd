"""What tiny-cuda-nn and nerfacc answer, by their documentation and sources, in plain torch: judges of what we ask them.

Both need a GPU. These take the same arguments and hold the same conventions (sizes, order, padding, shared edges), but
not their precision or speed; test_gpu.py asks the real ones where they are installed.
"""

import math
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

PRIMES = (1, 2654435761, 805459861)


class Encoding(nn.Module):
    """tinycudann.Encoding of a HashGrid: level after level, x fastest, sizes rounded up to 8."""

    def __init__(self, n_input_dims: int, config: dict[str, Any], dtype: torch.dtype | None = None) -> None:
        super().__init__()
        assert n_input_dims == 3 and config["otype"] == "HashGrid"
        self.dtype, self.features = dtype or torch.half, config["n_features_per_level"]
        self.levels, offset = [], 0
        for level in range(config["n_levels"]):
            exponent = level * math.log2(config["per_level_scale"])
            scale = float(torch.tensor(2.0**exponent, dtype=torch.float32) * config["base_resolution"] - 1)
            points = math.ceil(scale) + 1
            size = min((points**3 + 7) // 8 * 8, 1 << config["log2_hashmap_size"])
            self.levels.append((scale, points, size, offset))
            offset += size
        self.params = nn.Parameter(torch.zeros(offset * self.features))

    def forward(self, x: Tensor) -> Tensor:
        table = self.params.to(self.dtype).float().reshape(-1, self.features)
        return torch.cat([self.level(x.float(), table, *level) for level in self.levels], 1).to(self.dtype)

    def level(self, x: Tensor, table: Tensor, scale: float, points: int, size: int, offset: int) -> Tensor:
        position = x * scale + 0.5
        low = position.floor()
        total = torch.zeros(len(x), self.features)
        for corner in ((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)):
            place = low.long() + torch.tensor(corner)
            weight = torch.where(torch.tensor(corner).bool(), position - low, 1 - (position - low)).prod(1)
            if points**3 <= size:
                index = place[:, 0] + points * place[:, 1] + points**2 * place[:, 2]
            else:
                index = torch.zeros(len(x), dtype=torch.int64)
                for axis, prime in enumerate(PRIMES):
                    index = index ^ (place[:, axis] * prime & 0xFFFFFFFF)
            total = total + weight[:, None] * table[index % size + offset]
        return total


class Network(nn.Module):
    """tinycudann.Network, fully fused: rows of weights in half precision, padded inputs are ones."""

    def __init__(self, n_input_dims: int, n_output_dims: int, config: dict[str, Any]) -> None:
        super().__init__()
        assert config["otype"] == "FullyFusedMLP" and config["activation"] == "ReLU"
        assert config["output_activation"] == "None" and config["n_neurons"] in (16, 32, 64, 128)
        wide, self.outputs = config["n_neurons"], n_output_dims
        sides = [_next(n_input_dims), *[wide] * config["n_hidden_layers"], _next(n_output_dims)]
        self.shapes = list(zip(sides[1:], sides[:-1], strict=True))
        self.params = nn.Parameter(torch.zeros(sum(rows * columns for rows, columns in self.shapes)))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([x.float(), torch.ones(len(x), _next(x.shape[1]) - x.shape[1])], 1)
        matrices = self.params.half().float().split([rows * columns for rows, columns in self.shapes])
        for layer, (matrix, shape) in enumerate(zip(matrices, self.shapes, strict=True)):
            h = h @ matrix.reshape(shape).T
            h = torch.relu(h) if layer < len(self.shapes) - 1 else h
        return h[:, : self.outputs].half()


def _next(side: int) -> int:
    return (side + 15) // 16 * 16


TINYCUDANN = SimpleNamespace(Encoding=Encoding, Network=Network)


FAR = 12.0  # beyond every ray of the tests


def traverse_grids(
    rays_o: Tensor, rays_d: Tensor, binaries: Tensor, aabbs: Tensor,
    near_planes: Tensor, step_size: float, cone_angle: float,
) -> tuple[SimpleNamespace, SimpleNamespace, None]:  # fmt: skip
    """nerfacc.traverse_grids: intervals as edges, of which neighbours share one; the first grid of a place decides."""
    assert {t.dtype for t in (rays_o, rays_d, aabbs, near_planes)} == {torch.float32} and binaries.dtype == torch.bool
    edges, rays, counts = [], [], []
    for ray, (o, d, t) in enumerate(zip(rays_o, rays_d, near_planes.tolist(), strict=True)):
        before = len(rays)
        last, entered = None, False
        while t < FAR:
            step = min(max(t * cone_angle, step_size), 1e10)
            x = o + d * (t + 0.5 * step)
            inside = [bool((x >= box[:3]).all() and (x < box[3:]).all()) for box in aabbs]
            if not any(inside):
                if entered:
                    break
                t += step
                continue
            entered = True
            level = inside.index(True)
            low, high = aabbs[level, :3], aabbs[level, 3:]
            cell = ((x - low) / (high - low) * torch.tensor(binaries.shape[1:])).long()
            if binaries[level, cell[0], cell[1], cell[2]]:
                if last == t:
                    edges[-1][1] = True
                else:
                    edges.append([t, True, False])
                edges.append([t + step, False, True])
                rays.append(ray)
                last = t + step
            t += step
        counts.append((before, len(rays) - before))
    vals, left, right = zip(*edges, strict=True) if edges else ((), (), ())
    intervals = SimpleNamespace(
        vals=torch.tensor(vals), is_left=torch.tensor(left, dtype=torch.bool),
        is_right=torch.tensor(right, dtype=torch.bool),
    )  # fmt: skip
    samples = SimpleNamespace(ray_indices=torch.tensor(rays, dtype=torch.int64), packed_info=torch.tensor(counts))
    return intervals, samples, None


NERFACC = SimpleNamespace(traverse_grids=traverse_grids)
