"""An options object from keyword arguments: for the public functions in neuralfields/__init__.py.

Python's own types are taken where the command line has text: a dict for key=value settings, numbers for a box
x0,y0,..., one value for a list of one, text for a path.
"""

import typing
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

from neuralfields.settings import make_config

T = TypeVar("T")


def from_keywords(kind: type[T], given: Mapping[str, Any], shown: str) -> T:
    """Makes the options `kind` of keyword arguments; `shown` begins every message.

    Raises UsageError for an unknown name, and as the options check themselves.
    """
    hints = typing.get_type_hints(kind)
    return make_config(kind, {name: _plain(value, hints.get(name)) for name, value in given.items()}, shown)


def _plain(value: Any, hint: Any) -> Any:
    if isinstance(value, Mapping):
        return tuple(f"{key}={item}" for key, item in value.items())
    if isinstance(value, str) and Path in (hint, *typing.get_args(hint)):
        return Path(value)
    if hint != tuple[str, ...] or value is None:
        return value
    items = [value] if isinstance(value, str) else list(value)
    numbers = bool(items) and all(isinstance(item, Real) for item in items)
    return tuple(map(_joined, [items] if numbers else items))


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(map(str, value))
