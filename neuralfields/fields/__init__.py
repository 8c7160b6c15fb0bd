"""Field architectures, one file each; the file's name is the field's name everywhere in the program."""

import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from neuralfields.errors import UsageError

if TYPE_CHECKING:
    from neuralfields.fields.field import Field

CONTRACT = "field"


def field_names() -> list[str]:
    """Names of the architectures, by the files of this folder; nothing is imported."""
    names = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name for name in names if name != CONTRACT and not name.startswith("_"))


def field_class(name: str) -> "type[Field]":
    """The architecture of that name; only its own file is imported. An unknown name is a UsageError."""
    names = field_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown field '{name}'; known: {', '.join(names)}{hint}")
    module = importlib.import_module(f"neuralfields.fields.{name}")
    return module.FIELD
