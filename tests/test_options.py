"""Options: ranges, and hyper-parameters from text."""

import dataclasses
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from neuralfields import settings
from neuralfields.cli import VERBS
from neuralfields.errors import UsageError
from neuralfields.options import command_line
from neuralfields.options.common import Options
from neuralfields.options.fit import FitOptions
from neuralfields.options.models import ConvertOptions, EditOptions, ExportOptions, RenderOptions, ViewOptions
from neuralfields.settings import did_you_mean, parse_settings


@dataclass(frozen=True)
class Config:
    """One field of every kind."""

    levels: int = 16
    scale: float = 1.5
    activation: Literal["relu", "sine"] = "relu"
    linear: bool = False
    sizes: tuple[int, ...] = (64, 64)
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    limit: int | None = None
    name: str = "a"

    def __post_init__(self) -> None:
        settings.require_range(self, levels=(1, 32), scale=(0, 1e6), limit=(1, 9))


def test_every_kind_of_value() -> None:
    words = ["levels=8", "scale=2e-3", "activation=sine", "linear=yes", "sizes=(1,2,3)", "centre=0,-1,2.5", "limit=7"]
    expected = Config(8, 0.002, "sine", True, (1, 2, 3), (0.0, -1.0, 2.5), 7)
    assert parse_settings(words, Config) == expected
    assert parse_settings(["limit=none", "name=x=y"], Config) == Config(name="x=y")
    assert parse_settings([], Config) == Config()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("levelz=8", "--set: unknown key 'levelz' (did you mean 'levels'?); keys: levels=16, scale=1.5"),
        ("levels", "--set 'levels': write key=value"),
        ("levels=8.5", "--set levels=8.5: must be a whole number"),
        ("levels=", "--set levels=: must be a whole number"),
        ("levels=99", "--set: levels 99: must be between 1 and 32"),
        ("scale=nan", "--set scale=nan: must be a finite number"),
        ("scale=wide", "--set scale=wide: must be a number"),
        ("scale=-1", "--set: scale -1.0: must be between 0 and 1e+06"),
        ("activation=sin", "--set activation=sin: must be one of relu, sine (did you mean 'sine'?)"),
        ("linear=perhaps", "--set linear=perhaps: must be true or false"),
        ("sizes=1,x", "--set sizes=1,x: must be a whole number"),
        ("centre=1,2", "--set centre=1,2: needs 3 values with commas between them, 2 were given"),
        ("limit=many", "--set limit=many: must be a whole number or none"),
    ],
)
def test_what_is_wrong_is_named(word: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings([word], Config)
    assert str(caught.value).startswith(message)


def test_a_key_twice() -> None:
    with pytest.raises(UsageError, match="levels is given twice"):
        parse_settings(["levels=1", "levels=2"], Config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "--steps 0: must be between 1 and 100000000"),
        ({"steps": 10**12}, "--steps"),
        ({"minutes": -1.0}, "--minutes -1.0: must be between 0.001 and 100000"),
        ({"minutes": float("nan")}, "--minutes nan"),
        ({"minutes": float("inf")}, "--minutes inf"),
        ({"downscale": 0}, "--downscale 0"),
        ({"threads": 0}, "--threads 0"),
        ({"seed": -1}, "--seed -1"),
        ({"checkpoint_every": 0.0}, "--checkpoint-every 0.0"),
        ({"eval_every": -1.0}, "--eval-every -1.0"),
        ({"port": 0}, "--host, --port and --open are of the viewer's page; add --view"),
        ({"open": True}, "--host, --port and --open"),
        ({"view": True, "port": 70000}, "--port 70000: must be between 0 and 65535"),
        ({"resume": True, "overwrite": True}, "--resume and --overwrite: give only one"),
    ],
)
def test_ranges_of_a_fit(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        FitOptions(Path("scene"), **values)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("values", [{"width": 0}, {"height": 10**9}, {"frames": 0}, {"fps": 0.0}, {"what": ()}])
def test_ranges_of_a_render(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RenderOptions(Path("a.nf"), Path("out"), **values)


def option_classes() -> list[type[Options]]:
    """Every options class and mixin in the folder neuralfields/options."""
    folder = Path(command_line.__file__).parent
    modules = [importlib.import_module(f"neuralfields.options.{path.stem}") for path in sorted(folder.glob("[!_]*.py"))]
    found = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    return sorted((kind for kind in found if issubclass(kind, Options)), key=lambda kind: kind.__name__)


def test_the_folder_holds_the_options_of_every_verb() -> None:
    assert {verb.options for verb in VERBS.values()} <= set(option_classes())
    assert len({verb.options for verb in VERBS.values()}) == len(VERBS) == 15


@pytest.mark.parametrize("kind", option_classes(), ids=lambda kind: kind.__name__)
def test_every_option_is_frozen_and_explained(kind: type[Options]) -> None:
    assert kind.__dataclass_params__.frozen and kind.__doc__
    texts = command_line.help_texts(kind)
    for item in dataclasses.fields(kind):
        text = texts.get(item.name, "")
        assert text[:1].isupper() and text.endswith("."), f"{kind.__name__}.{item.name}: {text!r}"
        assert not text.startswith(("What ", "How ", "Whose ", "Where ")), f"{kind.__name__}.{item.name}: {text!r}"
        assert "without it" not in text, f"{kind.__name__}.{item.name}: write Default: ..."


@pytest.mark.parametrize("name", VERBS)
def test_what_is_positional_on_the_command_line_is_positional_in_python_and_nothing_else(name: str) -> None:
    for item in dataclasses.fields(VERBS[name].options):
        assert item.kw_only == (item.default is not dataclasses.MISSING), item.name


@pytest.mark.parametrize("name", VERBS)
def test_every_option_stands_in_one_section(name: str) -> None:
    kind = VERBS[name].options
    found = [option for names in command_line.sections(kind).values() for option in names]
    assert sorted(found) == sorted(item.name for item in dataclasses.fields(kind))


def test_sections_of_a_fit() -> None:
    found = command_line.sections(FitOptions)
    assert list(found) == ["", "training", "supervision", "capture", "viewer", "machine", "output", "report"]
    assert found["machine"] == ["threads", "device", "backend", "marcher"]
    assert found["output"] == ["overwrite", "out", "resume", "half", "bits"]
    assert found["viewer"] == ["host", "port", "open", "view"]
    assert {"scene", "field"} <= set(found[""]) and "json" in found["report"]


def test_the_nearest_text_of_an_option_holds() -> None:
    fit, convert, edit = (command_line.help_texts(kind)["steps"] for kind in (FitOptions, ConvertOptions, EditOptions))
    assert len({fit, convert, edit}) == 3 and fit.endswith("unless --minutes is given.")
    assert command_line.help_texts(FitOptions)["threads"] == command_line.help_texts(ViewOptions)["threads"]


def test_a_help_page_names_every_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.read_options(FitOptions, "nf fit", ["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Seconds between checkpoints. Default: 30." in shown and "Default: gaussians for a capture" in shown
    assert "bit for bit. Default: 0." in shown and "(default" not in shown and "None" not in shown
    assert shown.index("training options") < shown.index("--steps") < shown.index("output options")


def test_options_are_read_into_one_flat_object() -> None:
    words = "a.nf b.ply --device cpu --threads 2 --resolution 9 --overwrite --json".split()
    expected = ExportOptions(
        Path("a.nf"), Path("b.ply"), device="cpu", threads=2, resolution=9, overwrite=True, json=True
    )
    assert command_line.read_options(ExportOptions, "nf export", words) == expected
    with pytest.raises(UsageError, match="--threads 0"):
        command_line.read_options(ExportOptions, "nf export", ["a.nf", "b.ply", "--threads", "0"])


@pytest.mark.parametrize("kind", [ConvertOptions, EditOptions])
def test_ranges_of_a_distillation(kind: type[Options]) -> None:
    for values in ({"steps": 0}, {"minutes": 0.0}, {"seed": -1}, {"threads": 0}, {"bits": 4}):
        with pytest.raises(UsageError, match=f"--{next(iter(values))} "):
            kind(Path("a.nf"), **values)
    with pytest.raises(UsageError, match="--half and --bits 8"):
        kind(Path("a.nf"), half=True, bits=8)


def test_did_you_mean() -> None:
    assert did_you_mean("levelz", ["scale", "levels"]) == " (did you mean 'levels'?)"
    assert did_you_mean("zzz", ["scale", "levels"]) == ""
    assert did_you_mean("x" * 10**6, ["scale"]) == ""
