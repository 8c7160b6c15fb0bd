"""CUDA part of `nf doctor`: missing packages, kernels compiled for which GPUs, and a self-test.

Kernels need no GPU to be compiled, so a cache can be filled on one machine and used on another.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from neuralfields.domain import CASCADE_WORDS
from neuralfields.errors import NeuralfieldsError
from neuralfields.fields.hash import Config, HashField
from neuralfields.files import cache_folder
from neuralfields.gpu.compile import Built, Module, build, compiler_version, key
from neuralfields.gpu.grid import grid_module
from neuralfields.gpu.hash_render import CudaPass
from neuralfields.gpu.launch import arch, missing_for_cuda
from neuralfields.gpu.network import Stack, arithmetic_defines, using_precision
from neuralfields.gpu.rbf import rbf_module
from neuralfields.gpu.schedules import hash_module, scalar_module
from neuralfields.gpu.splat import CHANNELS, blend_module, splat_module
from neuralfields.ops.contract import Contraction
from neuralfields.ops.hash_grid import HashGeometry
from neuralfields.ops.march import Marching, MarchSettings
from neuralfields.ops.register import every_op
from neuralfields.rays import Rays

ARCHS = ("sm_80", "sm_90", "sm_120")
TOLERANCE = 2e-3  # of rendered values of a random field: half precision against the CPU's float32


def usual_modules(precision: str = "half") -> dict[str, Module]:
    """Kernel modules of a hash field of default Config, of Gaussians, and of the ops that every field uses, by name."""
    config = Config()
    geometry = HashGeometry.of(config.levels, config.table, config.base, config.finest or 2048)
    table = torch.empty(0, config.features)
    field = HashField(config)
    with using_precision(precision):
        stack = Stack.of(list(field.heads.density))
        return {
            **{op.gpu.source: scalar_module(op.gpu.source, torch.float32) for op in every_op().values() if op.gpu},
            "grid": grid_module(torch.empty(0, 3)),
            "modulate": scalar_module("modulate", torch.float32),
            "rbf": rbf_module(torch.empty(0, 32), 0),
            "hash_grid": hash_module("hash_grid", table, geometry.scales, geometry.levels),
            **{name: splat_module(name, torch.float32) for name in ("splat_project", "splat_lists", "image_loss")},
            **{f"splat_blend ({n} channels)": blend_module(torch.float32, n) for n in CHANNELS},
            f"network ({precision})": Module("network", (("NF_NETWORK", stack.text), *arithmetic_defines([stack]))),
            f"hash_render ({precision})": CudaPass(field.fused()).module(),
        }


def state() -> dict[str, Any]:
    """Status of CUDA: `missing` (None where it can be used), NVRTC's version, the cache, compiled kernels."""
    missing = missing_for_cuda()
    result: dict[str, Any] = {"missing": missing, "nvrtc": None, "cache": str(cache_folder()), "compiled": {}}
    try:
        result["nvrtc"] = compiler_version()
    except NeuralfieldsError as error:
        return result | {"nvrtc_missing": str(error)}
    folder, archs = cache_folder(), sorted({*ARCHS, *wanted_archs()})
    for name, module in usual_modules().items():
        result["compiled"][name] = [a for a in archs if (folder / f"{key(module, a)}.bin").is_file()]
    if missing is None:
        result["gpu"] = arch(torch.cuda.current_device())
        result["difference"] = self_test()
        result["works"] = result["difference"] < TOLERANCE
    return result


def wanted_archs() -> tuple[str, ...]:
    """Architecture of the GPU, or all of ARCHS where there is no GPU."""
    return (arch(torch.cuda.current_device()),) if torch.cuda.is_available() else ARCHS


def compile_ahead(archs: tuple[str, ...] = ARCHS, say: Callable[[str], None] | None = None) -> dict[str, Built]:
    """Compiles the usual modules for these GPUs into the cache; keys are module and arch."""
    made = {}
    for a in archs:
        for name, module in usual_modules().items():
            made[f"{name} {a}"] = build(module, a, say)
    return made


@torch.no_grad()
def self_test(device: str = "cuda") -> float:
    """Largest difference between CPU and GPU renders of a few rays through a random small field."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        field = HashField(Config(levels=4, table=12, finest=64))
    field.table.copy_(torch.randn(field.table.shape, generator=generator))
    origins = torch.rand(256, 3, generator=generator)
    directions = torch.nn.functional.normalize(torch.randn(256, 3, generator=generator), dim=1)
    occupancy = torch.full((1, CASCADE_WORDS), -1, dtype=torch.int64)
    settings = MarchSettings(1 / 128, 1 / 128, 0.0, 0.0)
    here = Marching(Rays(origins, directions), None, occupancy, settings, Contraction("box", 1.0))
    there = replace(here, rays=here.rays.to(device), occupancy=occupancy.to(device))
    want = field.fused().render(here)
    got = field.to(device).fused().render(there)
    return float((got.values[:, :5].cpu() - want.values[:, :5]).abs().max())
