"""Field architectures, one file each; the file's name is the field's name everywhere in the program."""

import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralfields.errors import UsageError

if TYPE_CHECKING:
    import torch

    from neuralfields.domain import Domain
    from neuralfields.fields.field import Field

CONTRACT = "field"
GAUSSIANS = "gaussians"  # an architecture, though no function of a point
BLEND = "blend"  # stored and rendered like a field, but composed of two by `nf edit --insert`, never fitted


def field_names() -> list[str]:
    """Names of the architectures, by the files of this folder; nothing is imported."""
    names = (path.stem for path in Path(__file__).parent.glob("*.py"))
    return sorted(name for name in names if name not in (CONTRACT, GAUSSIANS, BLEND) and not name.startswith("_"))


def architecture_names() -> list[str]:
    """Names of the fields and of what else can be fitted and stored: Gaussians."""
    return sorted([*field_names(), GAUSSIANS])


def stored_names() -> list[str]:
    """Names of everything that a model file may hold: the architectures, and compositions of them."""
    return sorted([*architecture_names(), BLEND])


def field_class(name: str) -> "type[Field]":
    """The field class of that name; only its own file is imported. Raises UsageError for an unknown name."""
    names = architecture_names()
    if name not in names and name != BLEND:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown field '{name}'; known: {', '.join(names)}{hint}")
    module = importlib.import_module(f"neuralfields.fields.{name}")
    return module.FIELD


def make_field(
    kind: "type[Field]",
    config: Any,
    domain: "Domain",
    seed: int,
    targets: "list[torch.Tensor]",
    taught: bool = False,
) -> "Field":
    """Makes a new field of that kind, the same for the same seed; data-dependent settings are chosen from `targets`.

    `taught`: see `Field.tuned`.
    """
    if domain.kind not in kind.DOMAINS:
        raise UsageError(f"--field {field_name(kind)}: serves {', '.join(kind.DOMAINS)}, not {domain.kind}")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(kind.tuned(config, domain, targets, seed, taught), domain)


def field_name(field: "Field | type[Field]") -> str:
    """A field's name, or its class's, is the name of the file it lives in."""
    kind = field if isinstance(field, type) else type(field)
    return kind.__module__.rpartition(".")[2]
