"""Tests. The shapes that annotations tell are checked in them, in every module that imports jaxtyping.

Shapes alone: what else an annotation says is the type checker's affair, and tests give wrong types on purpose. The
folder ops is left out: an op checks its own arguments in the native core, and is called so often that checking them
twice would slow all tests. What its annotations tell is held by tests/ops/test_shapes.py. Whether a call is as its
annotations tell depends on the types and shapes of its arguments and its result alone, so the same ones are checked
once: a check takes a tenth of a millisecond, and was a tenth of all tests.
"""

import functools
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from types import FunctionType
from typing import Any, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, config, install_import_hook

PACKAGE = Path(__file__).resolve().parents[1] / "neuralfields"
EACH_CALL = jaxtyping.jaxtyped


def shapes_in(annotation: Any) -> list[type[AbstractArray]]:
    """The shapes of tensors and arrays that it is or holds, as tuples and unions do."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return [annotation]
    return [shape for part in get_args(annotation) for shape in shapes_in(part)]


def has_shape(annotation: Any) -> bool:
    """Whether it is or holds a shape."""
    return bool(shapes_in(annotation))


def form(value: Any) -> Hashable:
    """What a check asks of a value: its type, and the number type and shape of a tensor or an array."""
    if isinstance(value, list | tuple):
        return type(value), *map(form, value)
    if isinstance(value, dict | set | frozenset):
        return object()  # like nothing that was checked
    return type(value), getattr(value, "dtype", None), getattr(value, "shape", None)


def once_per_form(function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """jaxtyped, but calls whose arguments and result are of the same form as those of an earlier one pass unchecked."""
    if function is None:
        return functools.partial(once_per_form, typechecker=typechecker)
    each_call = functools.partial(EACH_CALL, typechecker=typechecker)
    if not isinstance(function, FunctionType):
        return each_call(function)  # goes on with the functions of a class or a property, by way of this one
    shapes = {name: shape for name, value in function.__annotations__.items() for shape in shapes_in(value)}
    if not shapes or hasattr(function, "passed"):
        return function
    if any("{" in shape.dim_str for shape in shapes.values()):  # a size that another argument tells
        return each_call(function)
    names = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    places = [(index, name) for index, name in enumerate(names) if name in shapes]
    passed: dict[Hashable, set[Hashable]] = {}
    check, given_back = functools.cache(lambda: each_call(function)), threading.local()  # made at the first call
    check_result = functools.cache(lambda: each_call(functools.wraps(function)(lambda *_, **__: given_back.result)))

    @functools.wraps(function)
    def quick(*args: Any, **kwargs: Any) -> Any:
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        given = tuple(form(args[i] if i < len(args) else kwargs.get(name)) for i, name in places)
        if given not in passed:
            result = check()(*args, **kwargs)
            passed[given] = {form(result)}
            return result
        result = function(*args, **kwargs)
        if "return" in shapes and form(result) not in passed[given]:
            given_back.result = result
            check_result()(*args, **kwargs)
            passed[given].add(form(result))
        return result

    quick.passed = passed
    return quick


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


# Before any of them is imported. By the second a class hands its functions to the first; where a jaxtyping has it
# elsewhere, these are checked at each call.
jaxtyping.jaxtyped = once_per_form
if hasattr(jaxtyping, "_decorator"):
    jaxtyping._decorator.jaxtyped = once_per_form
install_import_hook(shaped_modules(), "tests.checked")
