"""Joins ES modules of the page into one classic script, so that a file opened from a disk needs no other.

Each module becomes a function that is called once and returns what it exports; imports become constants taken from
that. Names of one module are unknown in another, so none collide:

    const math = (() => { ...; return { add, sub }; })();
    const scene = (() => { const { viewProjection } = math; ...; return { Scene }; })();

The modules are our own and keep to: `import { a, b } from "./x.js";`, `export function|class|const name`. No default
exports, no renaming, no cycles, no `import.meta`; anything else raises InputError. Comments, indentation and spaces
around signs are left out. Of their template strings those of several lines are shaders, in which they mean nothing
either; all other texts stay as they are.
"""

import re
from collections.abc import Mapping, Sequence

from neuralfields.errors import InputError

IMPORT = re.compile(r'^import \{([\w\s,]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async function|function|class|const|let) (\w+))", re.MULTILINE)
BLANK = re.compile(r"^[ \t]*(?://[^\n]*|/\*(?:(?!\*/).)*\*/[ \t]*)?\n|^[ \t]+", re.MULTILINE | re.DOTALL)
QUOTED = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
PATTERN = r"(?<=[(,=:\[!&|?{};>])\s*/(?![*/])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*"
TEXT = re.compile(f"//[^\\n]*|{QUOTED}|{PATTERN}")  # and comments, which go
SIGN = re.compile(r"[ \t]*([{}()\[\];,:?=<>*/%&|!~^])[ \t]*")
ADDED = re.compile(r"(?<![+-])[ \t]*([+-])[ \t]*(?![+-])")
JOINED = re.compile(r"([{};,(\[])\n+")
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
    body = BLANK.sub("", EXPORT.sub("", body))
    left = LEFT.search(body)
    if left:
        raise InputError(f"{name}.js: {left[0].strip()!r} in a form that is not bundled; see serving/bundle.py")
    return f"const {name}_js = (() => {{\n{shrunk(body)}return{{{','.join(exported)}}};\n}})();\n"


def shrunk(code: str) -> str:
    """JavaScript without the spaces and line ends that it does not need; texts and patterns stay."""
    found, begin = [], 0
    while (at := code.find("`", begin)) >= 0:
        end = _template_end(code, at + 1)
        found += [_tight(code[begin:at]), _template(code[at + 1 : end - 1])]
        begin = end
    return "".join([*found, _tight(code[begin:])])


def _template_end(code: str, begin: int) -> int:
    """Where a template string ends whose first character is at `begin`: behind its closing quote."""
    at = begin
    while code[at] != "`":
        at = _hole_end(code, at + 2) if code.startswith("${", at) else at + (2 if code[at] == "\\" else 1)
    return at + 1


def _hole_end(code: str, begin: int) -> int:
    """Where an expression within a template string ends whose first character is at `begin`: behind its brace."""
    depth, at = 1, begin
    while depth:
        if code[at] == "`":
            at = _template_end(code, at + 1)
        else:
            depth += {"{": 1, "}": -1}.get(code[at], 0)
            at += 1
    return at


def _template(text: str) -> str:
    """A template string; of several lines: a shader, whose directives stay in lines of their own."""
    if "\n" not in text:
        return f"`{text}`"
    holes: list[str] = []
    while (at := text.find("${")) >= 0:
        end = _hole_end(text, at + 2)
        holes.append(text[at:end])
        text = f"{text[:at]}\0{text[end:]}"
    out, apart = "", True
    for line in filter(str.strip, re.sub("//.*", "", text).split("\n")):
        directive = line.lstrip().startswith("#")
        out += "\n" if directive or apart or out[-1] not in ";{}," else ""
        out += line if directive else _signs(line).rstrip()
        apart = directive
    return "`" + re.sub("\0", lambda _: holes.pop(0), out) + "\n`"


def _tight(code: str) -> str:
    """JavaScript without template strings."""
    parts, begin = [], 0
    for match in TEXT.finditer(code):
        parts += [_signs(code[begin : match.start()]), "" if match[0].startswith("//") else match[0]]
        begin = match.end()
    return JOINED.sub(r"\1", "".join([*parts, _signs(code[begin:])]))


def _signs(code: str) -> str:
    return ADDED.sub(r"\1", SIGN.sub(r"\1", code))
