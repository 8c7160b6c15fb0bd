"""The documents: links lead somewhere, code compiles and runs, commands and options exist, README stays short."""

import dataclasses
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from neuralfields import fields, load, save
from neuralfields.captures.readers import read_scene
from neuralfields.cli import VERBS
from neuralfields.models import nf_header
from tests.fields import test_contract

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE, DOCS = REPOSITORY / "neuralfields", REPOSITORY / "docs"
README = REPOSITORY / "README.md"
FOLDERS = (".", "docs", "benchmarks", "cuda", "viewer", "scenes")
# The tables that scripts write hold commands of the commits that stand beside them: those need not work today.
WRITTEN_BY_SCRIPTS = {path.with_suffix(".md") for path in (REPOSITORY / "benchmarks").glob("*.json")}
PAGES = sorted({path for folder in FOLDERS for path in (REPOSITORY / folder).glob("*.md")} - WRITTEN_BY_SCRIPTS)
MOST_WORDS, MOST_NUMBERS, MOST_PARAGRAPH = 900, 40, 60
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A number starts with a digit that no letter precedes: 0.5, 3.10 and 270x480 are one each, the 4 of MP4 is none.
NUMBER = re.compile(r"(?<![\w.])\d[\d.,x]*")
OTHERS_OPTIONS = {"--help", "--version", "--debug", "--strict", "--nproc-per-node", "--seeds", "--fit", "--video"}
OTHERS_OPTIONS |= {"--whole", "--quick"}


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def prose(text: str) -> str:
    """A page without its code blocks and comments."""
    return re.sub(r"<!--.*?-->", "", FENCE.sub("", text), flags=re.DOTALL)


def words(text: str) -> int:
    """Everything between spaces that holds a letter or a digit: the bars of tables do not count."""
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def numbers(text: str) -> list[str]:
    """Numbers of prose and tables; those of code and of link targets do not count."""
    return NUMBER.findall(LINK.sub("]", INLINE.sub("", prose(text))))


def paragraphs(text: str) -> list[str]:
    """Paragraphs and items of lists; no headings, no tables."""
    blocks = re.split(r"\n\s*\n|\n(?=- |\d+\. )", prose(text))
    return [block.strip() for block in blocks if block.strip() and block.strip()[0] not in "#|"]


def anchors(text: str) -> set[str]:
    """Headings as their anchors."""
    titles = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


def broken(text: str, folder: Path) -> list[str]:
    """Links of a page in `folder` that lead nowhere in the repository."""
    found = []
    for target in LINK.findall(INLINE.sub("", prose(text))):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (folder / path).resolve() if path else None
        if file is not None and not (file.exists() and file.is_relative_to(REPOSITORY)):
            found.append(target)
        elif anchor and anchor not in anchors(text if file is None else file.read_text(encoding="utf-8")):
            found.append(target)
    return found


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading, or after other words, without its head."""
    part = text.split(heading, 1)[1]
    rows = re.search(r"((?:^\|.*\n)+)", part, flags=re.MULTILINE)
    assert rows, f"no table below {heading}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[1].splitlines()[2:]]


def commands(text: str) -> Iterator[list[str]]:
    """Every `nf ...` of code blocks and inline code, as words."""
    lines = [line for kind, body in FENCE.findall(text) if kind in ("", "sh") for line in body.splitlines()]
    for line in [*lines, *INLINE.findall(prose(text))]:
        for part in re.split(r"&&|;", line.split("  #")[0]):
            given = part.strip().removeprefix("$ ").removeprefix(".venv/bin/").split()
            if given[:1] == ["nf"] and len(given) > 1:
                yield given[1:]


def mistakes(given: list[str]) -> list[str]:
    """What is wrong with a command: a verb, an option or a hyper-parameter that does not exist."""
    verb, rest = given[0], given[1:]
    if verb in ("VERB", "...") or verb.startswith("-"):
        return []
    if verb not in VERBS:
        return [f"nf {verb}: no such verb"]
    known = {"--" + item.name.replace("_", "-") for item in dataclasses.fields(VERBS[verb].options)} | {"--help"}
    known |= {"-o"} if "--out" in known else set()
    flags = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    wrong = [f"nf {verb} {flag}: no such option" for flag in flags if flag not in known]
    kind = rest[rest.index("--field") + 1] if "--field" in rest else "hash"
    if "--set" in flags and verb == "fit" and kind in fields.architecture_names():
        keys = {item.name for item in dataclasses.fields(fields.field_class(kind).Config)}
        settings = [word.partition("=")[0] for word in rest if re.match(r"[a-z_]+=", word)]
        wrong += [f"--set {key}: field {kind} has none" for key in settings if key not in keys]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path):
    assert not broken(page.read_text(encoding="utf-8"), page.parent)


def test_the_judge_of_links_sees_what_is_broken():
    text = "# A title\n[a](none.md) [b](README.md#no-such-part) [c](#a-title) [d](#b) [e](README.md) [f](../../x.md)\n"
    assert broken(text, REPOSITORY) == ["none.md", "README.md#no-such-part", "#b", "../../x.md"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    assert not [wrong for given in commands(text) for wrong in mistakes(given)]
    every = {"--" + item.name.replace("_", "-") for verb in VERBS.values() for item in dataclasses.fields(verb.options)}
    for code in INLINE.findall(prose(text)):
        if code.startswith("--"):
            assert code.split()[0].partition("=")[0] in every | OTHERS_OPTIONS, f"{code}: no verb has this option"


def test_the_judge_of_commands_sees_what_does_not_exist():
    text = "`nf fit a --minuts 1` `nf paint b`\n```sh\nnf fit fox/ --set levls=3  # --no\nx && nf eval a -o b\n```\n"
    assert [wrong for given in commands(text) for wrong in mistakes(given)] == [
        "--set levls: field hash has none", "nf eval -o: no such option", "nf fit --minuts: no such option",
        "nf paint: no such verb",
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_compile(page: Path):
    for kind, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            compile(body, name_of(page), "exec")


def runnable(page: Path, kind: str = "runnable") -> list[str]:
    """The Python blocks of a page that a comment marks."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^<!-- {kind} -->\n```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name_of)
@pytest.mark.usefixtures("small_steps", "one_thread")
def test_runnable_blocks_run(page, tiny_capture, small_file, tmp_path, monkeypatch):
    """Beside the sample scene, in small, and a model of it."""
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes" / "sample").symlink_to(tiny_capture)
    small_file.rename(tmp_path / "sample.nf")
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {"__name__": "page"}
    for body in runnable(page):
        exec(compile(body, name_of(page), "exec"), space)


@pytest.mark.parametrize("bits", [32, 8])
def test_the_reader_of_the_specification_reads_every_tensor(bits, small_model, small_file, tmp_path, monkeypatch):
    small_file.rename(tmp_path / "sample.nf")
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    exec(runnable(DOCS / "nf-file.md")[0], space)
    save(small_model, tmp_path / "bits.nf", bits=bits)
    again, (header, tensors) = load(tmp_path / "bits.nf"), space["read_nf"](tmp_path / "bits.nf")
    assert bool(header["quantised"]) == (bits == 8)
    for key, value in again.field.state_dict().items():
        assert np.array_equal(tensors[f"field.{key}"], value.numpy()), key
    assert np.array_equal(tensors["occupancy"], again.occupancy.numpy())
    assert np.array_equal(tensors["cameras.world_from_camera"][3], again.cameras[3].world_from_camera)
    damaged = bytearray((tmp_path / "bits.nf").read_bytes())
    damaged[-5] ^= 1
    (tmp_path / "bits.nf").write_bytes(damaged)
    with pytest.raises(ValueError, match="was changed"):
        space["read_nf"](tmp_path / "bits.nf")


def test_the_specification_names_every_key():
    text = (DOCS / "nf-file.md").read_text(encoding="utf-8")
    keys = [row[0].strip("`") for row in table(text, "with these keys in this order:")]
    assert keys == list(nf_header.Header.__struct_fields__)
    assert {row[0].strip("`"): row[1].strip("`") for row in table(text, "## Conventions")} == nf_header.CONVENTIONS
    assert f"format version {nf_header.FORMAT_VERSION}." in text
    assert str(nf_header.PACKED) in text and set(nf_header.CAMERA_TENSORS) <= set(INLINE.findall(text))


def test_the_example_of_a_field_keeps_the_contract(tmp_path, monkeypatch):
    name = "neuralfields.fields.fourier"
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(runnable(DOCS / "add-field.md", "runnable: a field")[0], module.__dict__)
    for place in (fields, test_contract):
        monkeypatch.setattr(place, "field_class", lambda _: module.FIELD)
    monkeypatch.setattr(fields, "field_names", lambda: ["fourier"])
    test_contract.test_shapes_and_ranges("fourier")
    test_contract.test_empty_batch("fourier")
    test_contract.test_every_parameter_has_one_group_and_gets_a_gradient("fourier")
    test_contract.test_float64_agrees("fourier")
    test_contract.test_save_and_load_are_bit_exact("fourier", tmp_path)
    test_contract.test_config_is_frozen_plain_and_guarded("fourier")
    test_contract.test_sizes_rise("fourier")


def test_the_example_of_a_capture_reads_the_sample_scene(small_capture, tmp_path):
    space: dict = {}
    exec(runnable(DOCS / "add-format.md", "runnable: a capture")[0], space)
    scene, lines = read_scene(small_capture), []
    frames = [scene.frames[index] for index in scene.train]
    for frame in frames:
        (tmp_path / Path(frame.name).name).symlink_to(frame.path.resolve())
        matrix = frame.camera.world_from_camera @ np.diag([1.0, -1.0, -1.0, 1.0])
        lines.append(" ".join([Path(frame.name).name, *map(repr, matrix[:3].ravel().tolist())]))
    (tmp_path / "mine.txt").write_text("\n".join(lines))
    capture = space["read_mine"](tmp_path, allow_outside=True)
    posed = {Path(frame.name).name: frame.camera.world_from_camera for frame in frames}
    assert capture.kind == "mine" and {frame.name for frame in capture.frames} == set(posed)
    assert all(np.allclose(frame.camera.world_from_camera, posed[frame.name]) for frame in capture.frames)


def test_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert words(prose(text)) <= MOST_WORDS
    assert len(numbers(text)) <= MOST_NUMBERS, numbers(text)
    assert {part: words(part) for part in paragraphs(text) if words(part) > MOST_PARAGRAPH} == {}


def test_the_counts_of_readme_count():
    text = "# A 1\n\none two 3.10 and MP4\n\n- 270x480 `5`\n- [6](7.md)\n\n| 8 | a |\n\n```sh\nten 11\n```\n"
    assert numbers(text) == ["1", "3.10", "270x480", "6", "8"]
    assert words(prose(text)) == 12 and paragraphs(text) == ["one two 3.10 and MP4", "- 270x480 `5`", "- [6](7.md)"]


def test_the_first_two_commands_of_readme_install_and_test():
    blocks = [body for kind, body in FENCE.findall(README.read_text(encoding="utf-8")) if kind == "sh"]
    assert "'.[all]'" in blocks[0] and blocks[0].endswith("nf demo\n")
    assert "-e '.[test]'" in blocks[1] and blocks[1].endswith("pytest -q\n")


def test_tables_name_every_verb_field_and_extra():
    text, page = README.read_text(encoding="utf-8"), (DOCS / "fields.md").read_text(encoding="utf-8")
    assert sorted(row[0].strip("`") for row in table(text, "## Commands")) == sorted(VERBS)
    listed = [[row[0].split()[0].strip("`"), row[-1]] for row in table(text, "\n## Fields\n")]
    assert sorted(row[0] for row in listed) == fields.architecture_names()
    assert sorted(row[0].strip("`") for row in table(page, "# Fields\n")) == fields.architecture_names()
    for name, serves in listed:
        kinds = fields.field_class(name).DOMAINS
        assert serves == ("everything" if len(kinds) == 5 else ", ".join(kinds)), name
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    part = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", part, flags=re.MULTILINE)) - {"test"}
    started = (DOCS / "getting-started.md").read_text(encoding="utf-8")
    assert {row[0].strip("`") for row in table(started, "## Install")} == extras


def test_questions_are_answered_by_files():
    text = (DOCS / "questions.md").read_text(encoding="utf-8")
    rows = table(text, "# Questions")
    assert len(rows) == 10
    for question, file, name in rows:
        path = PACKAGE / file.strip("`")
        assert path.is_file(), f"{question} {file} is gone: name the file that answers it today"
        found = re.search(rf"\b{name.strip('`')}\b", path.read_text(encoding="utf-8"))
        assert found, f"{question} {file} has no {name}"
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {row[0].strip("`") for row in table(text, "## The folders")} == folders


@pytest.mark.slow
def test_the_site_is_built_and_asks_no_other_host(tmp_path):
    """Strict: a link or an anchor that leads nowhere fails. Every public name has its place on the page of the API."""
    pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    asked = re.compile(r"<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+")
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 20
    assert not [found for page in pages for found in asked.findall(page.read_text(encoding="utf-8"))]
    style = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.css")]
    assert style and not [
        found for text in style for found in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", text)
    ]
    shown = set(re.findall(r'id="neuralfields\.(\w+)"', (tmp_path / "api.html").read_text(encoding="utf-8")))
    package = importlib.import_module("neuralfields")
    assert shown == {name for name in package.__all__ if not name.startswith("_")}
