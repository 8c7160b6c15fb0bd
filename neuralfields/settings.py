"""Parses and checks settings: ranges, key=value pairs, the nearest known word.

No torch here, so that `nf --help` answers at once.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from neuralfields.errors import UsageError

T = TypeVar("T")


def flag(name: str) -> str:
    """Command-line name of an option: eval_every -> --eval-every."""
    return "--" + name.replace("_", "-")


def require_range(values: object, **limits: tuple[float, float]) -> None:
    """Raises ValueError unless each named attribute that is set lies in its closed range; for `__post_init__`.

    A field's Config comes from files too: what its ranges let through, its constructor must survive.
    """
    for name, (low, high) in limits.items():
        value = getattr(values, name)
        if value is not None and not low <= value <= high:  # NaN compares false, so it is refused
            raise ValueError(f"{name} {value}: must be between {_figure(low)} and {_figure(high)}")


def _figure(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def check_range(options: object, **limits: tuple[float, float]) -> None:
    """`require_range` for options: raises a UsageError that names the option as it is typed."""
    for name, limit in limits.items():
        try:
            require_range(options, **{name: limit})
        except ValueError as error:
            raise UsageError(flag(name) + str(error)[len(name) :]) from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggests the nearest known word, ` (did you mean 'levels'?)`, or gives an empty string when none is near."""
    near = difflib.get_close_matches(word[:80], list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def describe_settings(config: type) -> str:
    """Lists the hyper-parameters of a field's Config in one line: name=default, in order."""
    return ", ".join(f"{item.name}={'' if item.default is MISSING else item.default}" for item in fields(config))


def parse_settings(settings: Iterable[str], config: type[T] | T, option: str = "--set") -> T:
    """Parses key=value texts into a `config` dataclass, over its defaults or over the values of an object of it.

    Values: ints, floats, words, true/false, none where allowed, tuples as 1,2,3. UsageError names the key, what was
    given, what is allowed, and the nearest key when it is unknown.
    """
    values: dict[str, Any] = {}
    base = {} if isinstance(config, type) else dataclasses.asdict(config)
    config = config if isinstance(config, type) else type(config)
    hints = typing.get_type_hints(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"{option} {setting!r}: write key=value; keys: {describe_settings(config)}")
        if key not in hints:
            near = did_you_mean(key, hints)
            raise UsageError(f"{option}: unknown key {key!r}{near}; keys: {describe_settings(config)}")
        if key in values:
            raise UsageError(f"{option}: {key} is given twice; give it once")
        try:
            values[key] = parse_value(text.strip(), hints[key])
        except ValueError as error:
            raise UsageError(f"{option} {key}={text}: {error}") from None
    return make_config(config, base | values, option)


def make_config(config: type[T], values: Mapping[str, Any], shown: str) -> T:
    """Makes the dataclass; errors of its own checks become a UsageError that begins with `shown`."""
    try:
        return config(**values)
    except (TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{shown}: {error}") from None


def parse_value(text: str, hint: Any) -> Any:
    """Parses one value of the type `hint` from text; ValueError says what is expected."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _parse_union(text, inner)
    if origin is Literal:
        found = [choice for choice in inner if str(choice) == text]
        if not found:
            raise ValueError(f"must be one of {', '.join(map(str, inner))}{did_you_mean(text, map(str, inner))}")
        return found[0]
    if origin is tuple:
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        if inner[-1] is not Ellipsis and len(parts) != len(inner):
            raise ValueError(f"needs {len(inner)} values with commas between them, {len(parts)} were given")
        kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else inner
        return tuple(parse_value(part.strip(), kind) for part, kind in zip(parts, kinds, strict=True))
    return _parse_plain(text, hint)


def _parse_union(text: str, kinds: tuple[Any, ...]) -> Any:
    if type(None) in kinds and text.lower() == "none":
        return None
    reason = "is not understood"
    for kind in kinds:
        if kind is not type(None):
            try:
                return parse_value(text, kind)
            except ValueError as error:
                reason = str(error)
    raise ValueError(reason + (" or none" if type(None) in kinds else ""))


def _parse_plain(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() in ("true", "yes", "on", "1"):
            return True
        if text.lower() in ("false", "no", "off", "0"):
            return False
        raise ValueError("must be true or false")
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
    if kind is float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("must be a number") from None
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value
    if kind in (str, Path):
        return kind(text)
    raise ValueError(f"cannot be set from text (its type is {kind})")


def parse_box(text: str, option: str) -> tuple[float, ...]:
    """Parses six numbers with commas between them, and sorts the corners. Raises UsageError."""
    try:
        values = [float(part) for part in text.strip("()[] ").split(",")]
    except ValueError:
        values = []
    if len(values) != 6 or not all(abs(value) < 1e9 for value in values):
        raise UsageError(f"{option} {text!r}: must be x0,y0,z0,x1,y1,z1, two corners in the capture's world units")
    low, high = ([f(a, b) for a, b in zip(values[:3], values[3:], strict=True)] for f in (min, max))
    if any(a == b for a, b in zip(low, high, strict=True)):
        raise UsageError(f"{option} {text!r}: is flat; the corners must differ in x, y and z")
    return (*low, *high)
