"""Tests. The shapes that annotations tell are checked in them, in every module that imports jaxtyping.

Shapes alone: what else an annotation says is the type checker's affair, and tests give wrong types on purpose. The
folder ops is left out: an op checks its own arguments in the native core, and is called so often that checking them
twice would slow all tests. What its annotations tell is held by tests/ops/test_shapes.py.
"""

from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

PACKAGE = Path(__file__).resolve().parents[1] / "neuralfields"


def has_shape(annotation: Any) -> bool:
    """Whether it is a tensor's or an array's shape, or holds one, as tuples and unions do."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(map(has_shape, get_args(annotation)))


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with those of its parameters and results checked by beartype that have shapes."""
    shapes = {name: value for name, value in function.__annotations__.items() if has_shape(value)}
    if not shapes:
        return function
    parts = function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    copy = FunctionType(*parts)
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, shapes
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return beartype(copy)


def shaped_modules() -> list[str]:
    """Those that speak of shapes, but for ops."""
    every = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "ops"]
    paths = [path for path in every if "from jaxtyping import" in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]


# Before any of them is imported.
install_import_hook(shaped_modules(), "tests.checked")
