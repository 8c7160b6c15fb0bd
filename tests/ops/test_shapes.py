"""What the annotations of public ops say of shapes is true, and every one says it.

A new op needs no entry here: SHAPED of its tests/ops/test_<op>.py gives its arguments by module and function.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from jaxtyping import TypeCheckError, jaxtyped
from torch import Tensor

from neuralfields import ops
from neuralfields.ops.blend import tile_lists
from neuralfields.ops.contract import Contraction
from neuralfields.ops.hash_grid import HashGeometry
from neuralfields.ops.march import MarchSettings
from neuralfields.ops.project import project
from neuralfields.ops.splat_pass import Packed
from tests import checked, has_shape
from tests.support.gaussians import gaussians, view

TESTS = [
    importlib.import_module(f"tests.ops.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if path.stem != "test_shapes"
]
MODULES = {
    name: importlib.import_module(f"neuralfields.ops.{name}") for _, name, _ in pkgutil.iter_modules(ops.__path__)
}
FULL = torch.full((2, 32768), -1, dtype=torch.int64)
# What takes a tensor of any shape, or several of its own.
ANY_SHAPE = {"backend.uses", "native.array"}


def line(*shape: int) -> Tensor:
    return torch.linspace(0.1, 0.9, torch.Size(shape).numel()).reshape(shape)


def splats() -> list[Tensor]:
    return [part.detach() for part in gaussians(5, torch.Generator().manual_seed(7))]


def sums() -> tuple[Tensor, ...]:
    return line(5), line(5), line(5), line(5, 3), torch.tensor([0, 2, 5])


def lattice() -> tuple[Tensor, ...]:
    geometry = HashGeometry.of(3, 6, 2, 8.0)
    return line(5, 3), line(geometry.entries, 2), geometry.scales, geometry.levels


def marching() -> tuple[Any, ...]:
    settings = MarchSettings(1 / 8, 1 / 8, 0.0, 0.0)
    return line(4, 3), torch.nn.functional.normalize(line(4, 3), dim=1), torch.zeros(4), FULL, settings


ADAM = lambda: (line(4, 3), line(4, 3), (line(4, 3), line(4, 3)), 1, (0.1, 0.9, 0.99, 1e-8), False)
PICTURES = lambda: (line(12, 11, 3), line(12, 11, 3) / 2, line(12, 11))
RAYS = lambda: (line(2, 25), torch.tensor([0, 1, 1]), line(3, 2))
UNITS = lambda: (line(5, 3), line(4, 3), line(4, 3))
WEIGHTS = lambda: (line(5, 3), [line(4, 3), line(2, 4)])
CELLS = lambda: (torch.zeros(2, 128, 128, 128, dtype=torch.bool),)
BRICKS = lambda: (torch.zeros(2, 3, 64, dtype=torch.bool),)
ARGUMENTS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "adam.adam": ADAM,
    "adam.adam_reference": ADAM,
    "blend.blend_reference": lambda: (project(*splats(), view()).values, (20, 18), (0.1, 0.2, 0.3)),
    "composite.composite": sums,
    "composite.composite_reference": sums,
    "contract.contract": lambda: (line(5, 3), "cube", 2.0),
    "contract.contract_reference": lambda: (line(5, 3), "cube", 2.0),
    "contract.uncontract": lambda: (line(5, 3), Contraction("cube", 2.0)),
    "grid.grid_interpolate": lambda: (line(5, 2), line(3, 4, 6)),
    "grid.grid_interpolate_reference": lambda: (line(5, 2), line(3, 4, 6)),
    "hash_grid.hash_encode": lattice,
    "hash_grid.hash_encode_reference": lattice,
    "image_loss.image_loss": PICTURES,
    "image_loss.image_loss_reference": PICTURES,
    "image_loss.similarity_reference": lambda: PICTURES()[:2],
    "march.march_rays": marching,
    "march.march_rays_reference": marching,
    "network.network": WEIGHTS,
    "network.network_reference": WEIGHTS,
    "occupancy_bits.bricks_of": CELLS,
    "occupancy_bits.cells_of": lambda: (FULL,),
    "occupancy_bits.grown": lambda: (FULL, 9),
    "occupancy_bits.occupied": lambda: (line(5, 3), torch.zeros(5, dtype=torch.int64), FULL),
    "occupancy_bits.pack_bricks": BRICKS,
    "occupancy_bits.pack_bricks_by_torch": BRICKS,
    "occupancy_bits.turn_occupancy": lambda: (FULL, (1, 2, 0)),
    "pixel_rays.pixel_rays": RAYS,
    "pixel_rays.pixel_rays_reference": RAYS,
    "project.native_rows": lambda: (project(*splats(), view()), torch.zeros(5, dtype=torch.int32)),
    "project.project": lambda: (*splats(), view()),
    "project.project_reference": lambda: (*splats(), view()),
    "project.rotations_reference": lambda: (line(5, 4),),
    "rbf.rbf": UNITS,
    "rbf.rbf_products": UNITS,
    "rbf.rbf_reference": UNITS,
    "spherical_harmonics.spherical_harmonics": lambda: (line(5, 3), 3),
    "spherical_harmonics.spherical_harmonics_reference": lambda: (line(5, 3), 3),
    "splat_pass.morton_order": lambda: (line(5, 3),),
}
for tests in TESTS:
    ARGUMENTS |= getattr(tests, "SHAPED", {})


def public(kind: Callable[[object], bool]) -> dict[str, Any]:
    """The public functions or classes of ops by module and name."""
    return {
        f"{module}.{name}": value
        for module, where in MODULES.items()
        for name, value in vars(where).items()
        if kind(value) and not name.startswith("_") and value.__module__ == where.__name__
    }


FUNCTIONS = public(inspect.isfunction)


def is_bare(annotation: object) -> bool:
    """Whether it is a tensor without a shape, or holds one."""
    return annotation is Tensor or any(map(is_bare, get_args(annotation)))


def test_every_public_tensor_has_a_shape():
    spoken = [
        *((name, function.__annotations__) for name, function in FUNCTIONS.items()),
        *((name, {f.name: f.type for f in fields(kind)}) for name, kind in public(is_dataclass).items()),
    ]
    assert {name for name, told in spoken if any(map(is_bare, told.values()))} == ANY_SHAPE
    takes = {
        n for n, f in FUNCTIONS.items() if any(has_shape(a) for k, a in f.__annotations__.items() if k != "return")
    }
    assert takes == ARGUMENTS.keys()


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(change(part) for part in value)


def deeper(tensor: Tensor) -> Tensor:
    return tensor[..., None]


def retyped(tensor: Tensor) -> Tensor:
    return tensor.long() if tensor.is_floating_point() else tensor.float()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_right_shapes_pass_and_wrong_ones_raise(name: str):
    """Each tensor in turn with an axis more, and of another type."""
    function, arguments = jaxtyped(FUNCTIONS[name], typechecker=checked), ARGUMENTS[name]()
    function(*arguments)
    for place, (parameter, annotation) in enumerate(FUNCTIONS[name].__annotations__.items()):
        if parameter == "return" or not has_shape(annotation) or place >= len(arguments):
            continue
        for change in (retyped, deeper):
            if change is deeper and name.startswith("grid.") and parameter == "grid":
                continue  # of any number of axes
            wrong = changed(arguments[place], change)
            with pytest.raises(TypeCheckError, match=parameter):
                function(*arguments[:place], wrong, *arguments[place + 1 :])


@pytest.mark.parametrize("kind", ["project.Rows", "blend.TileLists", "splat_pass.Packed", "hash_grid.HashGeometry"])
def test_nouns_have_the_shapes_they_say(kind: str, monkeypatch: pytest.MonkeyPatch):
    of = public(is_dataclass)[kind]
    monkeypatch.setattr(of, "__init__", jaxtyped(of.__init__, typechecker=checked))
    rows = project(*splats(), view())
    made = {
        "Rows": lambda: rows,
        "TileLists": lambda: tile_lists(rows, view().size),
        "Packed": lambda: Packed.of(*splats()),
        "HashGeometry": lambda: HashGeometry.of(3, 6, 2, 8.0),
    }[of.__name__]()
    values = [getattr(made, f.name) for f in fields(of)]
    of(*values)
    with pytest.raises(TypeCheckError):
        of(deeper(values[0]), *values[1:])
