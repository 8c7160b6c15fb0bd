"""Joins ES modules of the page into one classic script, so that a file opened from a disk needs no other.

Each module becomes a function that is called once and returns what it exports; imports become constants taken from
that. Names of one module are unknown in another, so none collide:

    const math = (() => { ...; return { add, sub }; })();
    const scene = (() => { const { viewProjection } = math; ...; return { Scene }; })();

The modules are our own and keep to: `import { a, b } from "./x.js";`, `export function|class|const name`. No default
exports, no renaming, no cycles, no `import.meta`; anything else raises InputError. Comments and indentation are left
out: they mean nothing in their template strings either, which are shaders.
"""

import re
from collections.abc import Mapping, Sequence

from neuralfields.errors import InputError

IMPORT = re.compile(r'^import \{([\w\s,]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async function|function|class|const|let) (\w+))", re.MULTILINE)
BLANK = re.compile(r"^[ \t]*(?://[^\n]*|/\*(?:(?!\*/).)*\*/[ \t]*)?\n|^[ \t]+", re.MULTILINE | re.DOTALL)
BESIDE = re.compile(r"[ \t]+//[^\n\"'`]*$", re.MULTILINE)  # a comment after code; with a quote it might lie within a text
LEFT = re.compile(r"^\s*(?:import|export)\b|\bimport\.meta\b|\bimport\(", re.MULTILINE)


def bundle(entries: Sequence[str], modules: Mapping[str, str]) -> str:
    """One script of the modules `entries` and all that they import; `modules`: name without suffix -> source.

    A worker's module is an entry: nothing imports it.

    Raises InputError for a module that is not there, a cycle, and a form of import or export that is not known here.
    """
    parts: dict[str, str] = {}

    def visit(name: str, within: tuple[str, ...]) -> None:
        if name in within:
            raise InputError(f"{name}.js: imports itself by {' -> '.join((*within, name))}; take the cycle apart")
        if name not in modules:
            raise InputError(f"{name}.js: is not among the page's modules; install neuralfields again")
        for match in IMPORT.finditer(modules[name]):
            if match[2] not in parts:
                visit(match[2], (*within, name))
        parts[name] = _wrapped(name, modules[name])

    for entry in entries:
        if entry not in parts:
            visit(entry, ())
    return "(() => {\n" + '"use strict";\n' + "".join(parts.values()) + "})();\n"


def _wrapped(name: str, source: str) -> str:
    """A module as a constant that holds what it exports."""
    exported = EXPORT.findall(source)
    body = IMPORT.sub(lambda match: f"const {{{match[1]}}} = {match[2]}_js;\n", source)
    body = BLANK.sub("", BESIDE.sub("", EXPORT.sub("", body)))
    left = LEFT.search(body)
    if left:
        raise InputError(f"{name}.js: {left[0].strip()!r} in a form that is not bundled; see serving/bundle.py")
    return f"const {name}_js = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();\n"
