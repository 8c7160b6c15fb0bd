"""The public names: cheap to import, and the same as what the command line does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import neuralfields
from neuralfields.errors import UsageError
from neuralfields.models.model import Model
from tests.support.settings import training_settings
from tests.test_structure import LAYERS

SMALL = {"levels": 4, "table": 10, "finest": 64, "hidden": 16}


def test_importing_is_cheap() -> None:
    code = "import sys, neuralfields; print('torch' in sys.modules, 'numpy' in sys.modules, neuralfields.__version__)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["False", "False"] and done.stderr == ""


def test_an_install_holds_every_folder_of_the_package() -> None:
    """In place a forgotten folder is found all the same; installed it is missing."""
    root = Path(neuralfields.__file__).parent
    folders = {path.parent for path in root.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_docstring_names_every_folder_and_files_that_exist() -> None:
    """The floor plan in the order of the imports, and the pipeline's files."""
    text, root = neuralfields.__doc__ or "", Path(neuralfields.__file__).parent
    plan = text.split("The floor plan")[1].split("Beside the folders")[0]
    folders = re.findall(r"^  (\w+) +\S.*\?", plan, flags=re.MULTILINE)
    assert folders == [name for line in LAYERS for name in line.split() if (root / name).is_dir()]
    named = re.findall(r"[\w/]+(?:/\*)?\.py", text)
    assert len(named) > 25 and [name for name in named if not list(root.glob(name))] == []


def test_every_public_name_is_there() -> None:
    for name in neuralfields.__all__:
        assert getattr(neuralfields, name) is not None and name in dir(neuralfields)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = neuralfields.trian


def test_fit_by_path_and_by_scene_is_the_same(tiny_capture: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "a.nf", torch.get_num_threads()
    options = {"steps": 12, "set": SMALL, "eval_every": 0, "threads": 1}
    with training_settings(samples=1 << 10):
        first = neuralfields.fit(str(tiny_capture), out=str(out), **options)
        second = neuralfields.fit(neuralfields.read_scene(tiny_capture), **options)
    torch.set_num_threads(before)
    assert isinstance(first, Model) and first.made["steps"] == 12 and first.field.config.table == 10
    loaded = neuralfields.load(out)
    for name, value in first.field.state_dict().items():
        assert torch.equal(value, second.field.state_dict()[name])
        assert torch.equal(value, loaded.field.state_dict()[name])
    with pytest.raises(UsageError, match="exists; add --overwrite"):
        neuralfields.fit(tiny_capture, out=out, **options)


def test_options_are_checked_as_on_the_command_line(tiny_capture: Path) -> None:
    for options, message in (
        ({"stesp": 3}, "unexpected keyword argument 'stesp'"),
        ({"steps": 0}, "--steps 0: must be between"),
        ({"set": {"levles": 3}, "steps": 1}, "unknown key 'levles'.* .of gaussians, as no --field is given"),
        ({"set": {"levles": 3}, "steps": 1, "field": "hash"}, "unknown key 'levles' .did you mean 'levels'"),
    ):
        with pytest.raises(UsageError, match=message):
            neuralfields.fit(tiny_capture, **options)
