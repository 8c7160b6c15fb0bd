"""The shape of the code: what imports what, how long things are, what is written down."""

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "neuralfields"
# From the ground up; a name is a folder of the package or a file in its hall, and those of one line import one another
# only if that line is the hall's. A new file needs no entry, a new folder does.
LAYERS = """
errors version search_path files memory settings media progress
options
domain cameras scene rays motion gaussians
captures
mesh
pictures
ops
gpu
ranks
layers
fields
rendering
models
signals
compression
codecs
supervision
poses
splatting
evaluation
trainers
training
distillation
serving
verbs
cli __main__ __init__
""".split("\n")[1:-1]
# Imported by name and only where a GPU is asked for, from below.
BY_NAME = {"ops": "gpu"}
MOST_LINES, MOST_FUNCTION_LINES, MOST_ARGUMENTS = 400, 60, 8
MOST_FILES = 21  # of a folder: ops has one for each op


def modules() -> dict[str, Path]:
    """Every module of the package by its name below it."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def place_of(module: str) -> str:
    """The folder of a module, or its own name where it stands in the hall."""
    return module.partition(".")[0]


def layer_of(module: str) -> int | None:
    for level, names in enumerate(LAYERS):
        if place_of(module) in names.split():
            return level
    return None


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below but those that only a type checker reads; expressions hold no import."""
    left = [node]
    while left:
        for child in ast.iter_child_nodes(left.pop()):
            if not (isinstance(child, ast.expr) or is_type_checking(child)):
                yield child
                left.append(child)


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Parsed once for all tests that look at it."""
    return ast.parse(path.read_text())


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules of the package that this one imports when it runs, at the top or within functions."""
    found = set()
    for node in running(parsed(MODULES[module])):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import; write the whole name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name == "neuralfields" or name.startswith("neuralfields."):
                below = name.split(".")[1:]
                while below and ".".join(below) not in MODULES:
                    below.pop()
                found.add(".".join(below) or "__init__")
    return frozenset(found - {module})


def misplaced(module: str, others: Set[str]) -> list[str]:
    """Those of the imported modules that lie above the importing one."""
    mine = layer_of(module)
    assert mine is not None, f"{place_of(module)} has no place: put it into LAYERS of tests/test_structure.py"
    found = []
    for other in others - {"__init__"}:  # `__init__`: a name that is no module, such as _native
        theirs = layer_of(other)
        assert theirs is not None, f"{place_of(other)} has no place: put it into LAYERS of tests/test_structure.py"
        if theirs > mine:
            found.append(f"{module} imports {other}, which lies above it")
    return found


def test_every_name_that_is_imported_exists():
    """Also those that a function imports when it runs, which nothing else would find missing."""
    missing = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("neuralfields."):
                continue
            inner, module = node.module.partition(".")[2], importlib.import_module(node.module)
            there = {alias.name for alias in node.names if hasattr(module, alias.name)}
            missing += [
                f"{name}:{node.lineno} {alias.name}"
                for alias in node.names
                if alias.name not in there and f"{inner}.{alias.name}" not in MODULES
            ]
    assert not missing


def test_imports_point_downward():
    assert [line for module in MODULES for line in misplaced(module, imports(module))] == []


def test_the_judge_of_imports_sees_one_that_points_upward():
    assert misplaced("rendering.volume", {"models.model", "fields.field"}) == [
        "rendering.volume imports models.model, which lies above it"
    ]


def test_every_place_is_taken():
    """A folder that is gone leaves no name behind, so that the list stays true."""
    names = [name for line in LAYERS for name in line.split()]
    assert len(names) == len(set(names))
    assert set(names) == {place_of(module) for module in MODULES}


def test_folders_are_neither_deep_nor_crowded():
    """Depth two; the hall holds the nouns and the tools alone."""
    files: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        folder = path.relative_to(PACKAGE).parent
        assert len(folder.parts) <= 1, f"{path}: a folder within a folder"
        files[str(folder)] = files.get(str(folder), 0) + (path.name != "__init__.py")
    assert {folder: count for folder, count in files.items() if not 3 <= count <= MOST_FILES} == {}


def test_no_import_cycles():
    graph = {module: imports(module) & set(MODULES) - {"__init__"} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_the_judge_of_cycles_sees_lazy_imports_and_skips_those_of_types():
    tree = ast.parse("if TYPE_CHECKING:\n    import a\ndef f():\n    import b\n")
    found = [alias.name for node in running(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert found == ["b"]


Function = ast.FunctionDef | ast.AsyncFunctionDef


def definitions(module: str) -> Iterator[tuple[str, Function | ast.ClassDef, ast.ClassDef | None]]:
    """Functions, classes and their methods, none nested in a function."""
    for node in parsed(MODULES[module]).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node, None
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    yield f"{node.name}.{part.name}", part, node


def is_autograd(owner: ast.ClassDef | None) -> bool:
    """Torch gives forward and backward of an autograd function their meaning and their arguments."""
    return owner is not None and any(ast.unparse(base).endswith("autograd.Function") for base in owner.bases)


def undocumented(module: str) -> Iterator[str]:
    """What a module's public names lack: docstrings, and types of arguments and results."""
    if not ast.get_docstring(parsed(MODULES[module])):
        yield f"{module} has no docstring"
    for name, node, owner in definitions(module):
        if any(part.startswith("_") for part in name.split(".")) or is_autograd(owner):
            continue
        if not ast.get_docstring(node):
            yield f"{module}.{name} has no docstring"
        if isinstance(node, ast.ClassDef):
            continue
        if node.returns is None:
            yield f"{module}.{name} says not what it returns"
        a = node.args
        every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
        bare = [arg.arg for arg in every if arg.annotation is None and arg.arg not in ("self", "cls")]
        if bare:
            yield f"{module}.{name}: no type on {', '.join(bare)}"


def test_public_names_are_documented_and_annotated():
    assert [line for module in MODULES for line in undocumented(module)] == []


def oversized(module: str) -> Iterator[str]:
    """Functions of a module that are too long, and public ones that take too many arguments."""
    for name, node, _ in definitions(module):
        if isinstance(node, ast.ClassDef):
            continue
        lines = node.end_lineno - node.lineno + 1
        if lines > MOST_FUNCTION_LINES:
            yield f"{module}.{name} has {lines} lines"
        arguments = [a for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
        if not name.startswith("_") and len(arguments) > MOST_ARGUMENTS:
            yield f"{module}.{name} takes {len(arguments)} arguments"


def test_functions_are_short_and_take_few_arguments():
    assert [line for module in MODULES for line in oversized(module)] == []


def native_functions(text: str) -> Iterator[tuple[str, int]]:
    """Name and number of lines of each function in C++ or CUDA, by its braces; lambdas belong to their function."""
    blank = re.compile(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.DOTALL | re.MULTILINE
    )
    text = blank.sub(lambda found: "\n" * found.group().count("\n"), text)
    prefix = re.compile(r"__launch_bounds__\(\w+\)|^template <[^>]*>+")
    within: list[tuple[str, int] | None] = []  # a function's name and its first line, None for any other brace
    begin = 0
    for brace in re.finditer(r"[{};]", text):
        place, found = brace.start(), brace.group()
        head = text[begin:place].strip()
        if found == "{":
            name = re.match(r"[^=(]*?(~?\w+)\s*\(", prefix.sub("", head))
            first = text.count("\n", 0, place - len(text[begin:place].lstrip())) + 1
            within.append((name.group(1), first) if name and not any(within) else None)
        elif found == "}" and within:
            opened = within.pop()
            if opened:
                yield opened[0], text.count("\n", 0, place) + 2 - opened[1]
        begin = place + 1


def native_sources() -> list[Path]:
    return sorted(p for suffix in ("h", "cpp", "cu") for p in (REPOSITORY / "cuda").rglob(f"*.{suffix}"))


def test_native_functions_are_short():
    long = [
        f"{path.relative_to(REPOSITORY)}: {name} has {lines} lines"
        for path in native_sources()
        for name, lines in native_functions(path.read_text(encoding="utf-8"))
        if lines > MOST_FUNCTION_LINES
    ]
    assert long == []


def test_the_judge_of_native_functions_counts_their_lines():
    """Templates, members, kernels, lambdas, macros; what is no function is not taken for one."""
    body = "    f([&](int i) {\n        if (i) { g(i); }\n    });\n"
    text = (
        "#define NF_X(a) \\\n    f(a) {\n// a comment {\nnamespace nf {\nconst int table[2] = {f(1), 2};\n"
        "template <class T, class = A<T>>\ninline void one(const T& x,\n                int y) {\n" + body + "}\n"
        "struct Two {\n    int n = 0;\n    explicit Two(int n_) : n(n_) {\n" + body + "    }\n"
        '    void run() const { const char* s = "{"; }\n};\n'
        "NF_KERNEL __launch_bounds__(kThreads) three(\n    const float* x) {\n" + body * 20 + "}\n"
        "}  // namespace nf\nint four() { return 4; }\n"
    )
    assert list(native_functions(text)) == [("one", 7), ("Two", 5), ("run", 1), ("three", 63), ("four", 1)]
    every = [name for path in native_sources() for name, _ in native_functions(path.read_text(encoding="utf-8"))]
    assert {"render_network_gradients", "op_network_backward", "find_cells", "grid_args", "NB_MODULE"} <= {*every}


def sources() -> list[Path]:
    names = ("neuralfields", "cuda", "tests", "viewer", "scenes", "benchmarks", "docs")
    folders = [REPOSITORY / name for name in names]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files += [path for path in REPOSITORY.iterdir() if path.is_file()]
    kinds = {".py", ".h", ".cpp", ".cu", ".md", ".toml", ".txt", ".js", ".html", ".css", ".json", ".yml", ".cfg"}
    return [path for path in files if path.suffix in kinds and "__pycache__" not in path.parts]


def test_no_file_is_long():
    long = {}
    for path in sources():
        if path.suffix in {".py", ".h", ".cpp", ".cu", ".js"}:
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > MOST_LINES:
                long[str(path.relative_to(REPOSITORY))] = lines
    assert not long


def test_no_paths_of_one_machine():
    roots = ["wor" + "k", "ho" + "me", "roo" + "t", "Use" + "rs", "tm" + "p"]
    home = re.compile(r"(?<![\w.\-/])/(" + "|".join(roots) + r")/\w")
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if home.search(line) and not line.startswith("#!")
    ]
    assert not found


@pytest.mark.parametrize("module", ["neuralfields", "neuralfields.options", "neuralfields.errors", "neuralfields.cli"])
def test_torch_is_loaded_by_what_needs_it_alone(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60).returncode == 0


def touches_the_native_core(module: str) -> bool:
    """Whether importing a module loads or builds it."""
    for node in parsed(MODULES[module]).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr)):
            calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
            if {n.func.id for n in calls if isinstance(n.func, ast.Name)} & {"library", "kernel"}:
                return True
    return False


def test_nothing_is_loaded_or_built_at_import():
    """Importing an op neither loads the native core nor needs it."""
    assert [name for name in MODULES if name.startswith("ops.") and touches_the_native_core(name)] == []
