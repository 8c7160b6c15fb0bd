"""An options object from the words of a command line, and its help page.

tyro reads the words. The flat options object is laid out for it in sections: a field belongs to the class that declares
it first, and stands under that class's `section`. Help texts are the strings under the fields.
"""

import ast
import inspect
from collections.abc import Sequence
from dataclasses import MISSING, field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

from neuralfields.errors import UsageError
from neuralfields.options.common import Options, Quantity

LISTS = ("--set", "--what", "--recipe", "--erase-box", "--keep-box")
SECTION = "section_"  # before a section's name, which may be that of an option too


def read_options(kind: type[Options], program: str, words: Sequence[str]) -> Any:
    """The options object from its words; SystemExit (0 help, 2 usage) or UsageError otherwise."""
    import tyro

    markers = tyro.conf
    config = (
        markers.PositionalRequiredArgs,
        markers.PositionalMetavarFromFieldName,
        markers.FlagCreatePairsOff,
        markers.DisallowNone,
        markers.OmitArgPrefixes,
    )
    words = ["--out" if word == "-o" else word for word in gather_lists(kind, words)]
    if getattr(kind, "out_second", False) and len(words) > 1 and not any(word.startswith("-") for word in words[:2]):
        words = [words[0], "--out", *words[1:]]
    text = _docs(kind)[0]
    read = tyro.cli(_layout(kind), prog=program, description=text, args=words, config=config)
    values = dict(vars(read))
    for title in filter(None, sections(kind)):
        values |= vars(values.pop(SECTION + title))
    return kind(**values)


def sections(kind: type[Options]) -> dict[str, list[str]]:
    """The names of the options under each heading, in the order of the help page; "" holds the verb's own."""
    home: dict[str, type] = {}
    for parent in reversed(kind.__mro__):
        for name in inspect.get_annotations(parent):
            home.setdefault(name, parent)
    found: dict[str, list[str]] = {"": []}
    for parent in kind.__mro__:
        found.setdefault(vars(parent).get("section", ""), [])
    for item in fields(kind):
        found[vars(home[item.name]).get("section", "")].append(item.name)
    return {title: names for title, names in found.items() if names}


def help_texts(kind: type[Options]) -> dict[str, str]:
    """The help text of every option: the string under the field, of the class nearest to `kind`."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        if issubclass(parent, Options):
            found |= _docs(parent)[1]
    return found


def _docs(kind: type) -> tuple[str, dict[str, str]]:
    """The docstring of a class, and the strings under its own fields; from the source, which -OO does not strip."""
    node = _classes(inspect.getfile(kind))[kind.__name__]
    texts = {}
    for item, after in zip(node.body, node.body[1:], strict=False):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(after, ast.Expr):
            texts[item.target.id] = " ".join(ast.literal_eval(after.value).split())
    return ast.get_docstring(node) or "", texts


@cache
def _classes(path: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _layout(kind: type[Options]) -> type:
    """A dataclass of the verb's own options, with one inside for every other section."""
    from tyro.conf import arg

    hints, texts, items = get_type_hints(kind), help_texts(kind), {item.name: item for item in fields(kind)}

    def option(name: str) -> tuple[str, Any, Any]:
        default = items[name].default
        hint = Annotated[hints[name], arg(help=texts[name], help_behavior_hint=_default(texts[name], default))]
        return name, hint, field(default=default, kw_only=True)

    members: list[tuple[str, Any, Any]] = []
    for title, names in sections(kind).items():
        options = [option(name) for name in names]
        if title:
            part = Annotated[make_dataclass(title, options), arg(name=title, help="")]
            options = [(SECTION + title, part, field(kw_only=True))]
        members += options
    return make_dataclass(kind.__name__, members)


def _default(text: str, value: Any) -> str:
    """The default as the help page adds it to a text that does not name it; nothing where it is off or empty."""
    if "Default:" in text or value in (MISSING, None, ()) or value is False:
        return ""
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    shown = f"{value:g}" if isinstance(value, float) else shown
    return f"Default: {shown}."


def gather_lists(kind: type[Options], words: Sequence[str]) -> list[str]:
    """Lets options that take several values be repeated, split by commas, and stand before a positional argument.

    `--set a=1 SCENE --set b=2` and `--what rgb,depth OUT` become one list at the end, where it can swallow nothing.
    """
    known = [item.name for item in fields(kind)]
    found: dict[str, list[str]] = {flag: [] for flag in LISTS if flag[2:].replace("-", "_") in known}
    kept, queue = [], list(words)
    while queue:
        head, equals, value = queue[0].partition("=")
        if head not in found:
            kept.append(queue.pop(0))
            continue
        queue.pop(0)
        values = [value] if equals else [queue.pop(0)] if queue and not queue[0].startswith("-") else []
        while queue and _belongs(head, queue[0]):
            values.append(queue.pop(0))
        found[head] += [part for value in values for part in (value.split(",") if head == "--what" else [value])]
        if not values:
            raise UsageError(f"{head}: needs a value; `--help` after the verb says which")
    return kept + [word for flag, values in found.items() if values for word in (flag, *values)]


def _belongs(flag: str, word: str) -> bool:
    if flag in ("--erase-box", "--keep-box"):
        return word.count(",") == 5
    if flag in ("--set", "--recipe"):
        return "=" in word and not word.startswith("-") and "/" not in word.partition("=")[0]
    return all(part in get_args(Quantity) for part in word.split(","))
