"""Objects with shapes that the types would refuse: what a user without the checker may give."""

from typing import Any


def unchecked(kind: type, **fields: Any) -> Any:
    """An instance of a frozen dataclass whose constructor, and so the check of its shapes, was not called."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made
