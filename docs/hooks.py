"""Hooks of the documentation's build: pages that stand elsewhere in the repository, and the public names.

Pages link to other files as they lie in the repository (`../benchmarks/conversion.md`), so that the links work there
too; in the site everything below `docs/` moves up to the root.
"""

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "neuralfields" / "__init__.py"
# Files outside docs/ that become part of the site, under their own paths.
ELSEWHERE = (
    "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "cuda/README.md", "viewer/README.md", "benchmarks/*.md",
    "benchmarks/*.png", "benchmarks/pictures/*.png", "benchmarks/pictures/*.jpg",
)  # fmt: skip
LINK = re.compile(r"(\]\()([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files that stand elsewhere."""
    for pattern in ELSEWHERE:
        for path in sorted(REPOSITORY.glob(pattern)):
            name = path.relative_to(REPOSITORY).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links of the site; fills in the package docstring and names."""
    source = Path(page.file.abs_src_path or "").resolve().parent
    below = "../" * page.file.src_uri.count("/")

    def of_site(match: re.Match[str]) -> str:
        target = (source / match[2]).resolve()
        if "://" in match[2] or not target.is_relative_to(REPOSITORY):
            return match[0]
        return match[1] + below + target.relative_to(REPOSITORY).as_posix().removeprefix("docs/")

    markdown = LINK.sub(of_site, markdown)
    docstring, names = public(PACKAGE.read_text(encoding="utf-8"))
    markdown = markdown.replace("<!-- package docstring -->", f"```text\n{docstring}\n```")
    return markdown.replace("<!-- public names -->", "\n\n".join(f"::: neuralfields.{name}" for name in names))


def public(source: str) -> tuple[str, list[str]]:
    """The docstring of a package's `__init__`, and its `__all__`: functions first, then classes."""
    tree = ast.parse(source)
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names = [name for name in ast.literal_eval(node.value) if not name.startswith("_")]
    return ast.get_docstring(tree) or "", sorted(names, key=lambda name: (name[0].isupper(), name))
